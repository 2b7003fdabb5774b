"""Checkpoints: our own safetensors with a JSON card, and every format that can be read. No file is ever executed.

The reader is chosen by a file's content, not by its name. Whatever the format, a network comes as tensors under the
names of the ``G_ema`` layout (:mod:`stylegan_surv.gan.formats.stored`), and its shape is inferred from them.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import safe_open
from torch import nn

from stylegan_surv._files import sha256, write_tensors
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats import archive, nvlabs, rosinality
from stylegan_surv.gan.formats.foreign import what_it_is
from stylegan_surv.gan.formats.stored import (
    ZIP,
    Stored,
    check_filter,
    check_size,
    discriminator_config,
    encoder_config,
    generator_config,
)
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    Generator,
    GeneratorConfig,
    binomial_filter,
)

DATA = Path(__file__).parents[2] / "data"
FORMAT = 1  # of our own files; a card without a number is of the first
LONGEST = 200  # characters of another library's message that are repeated
CUT_OFF = "cut off or damaged: download or copy it again"
CONSTANT = "resample_filter"  # a fixed filter, stored by some writers and not by others
TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save's older format begins
KINDS = {"G_ema": "generator", "G": "generator", "D": "discriminator", "encoder": "encoder"}
LABELS = {"safetensors": "safetensors", "nvlabs": "an NVlabs pickle", "torch": "a PyTorch archive"}
Format = Literal["safetensors", "nvlabs", "torch"]
Net = TypeVar("Net", Generator, Discriminator, Encoder)


def find(name: str | Path, suffix: str = "") -> Path:
    """A path as given, the bundled file of a zoo name (``synthetic-64``), or the best network in a run's folder.

    With a ``suffix`` such as ``.encoder``, the file ``G.encoder.safetensors`` beside the generator ``G.safetensors``.
    """
    path = Path(name)
    part = f"{suffix.removeprefix('.') or 'generator'}.safetensors"
    beside = [path.with_suffix(f"{suffix}.safetensors")] if suffix and path.is_file() else []
    for place in (path / "best" / part, path / part, *beside):
        if place.is_file():
            return place
    bundled = DATA / f"{name}{suffix}.safetensors"
    if not path.suffix and bundled.exists():
        return bundled
    if not path.is_file():
        names = sorted(p.stem for p in DATA.glob("*-*[0-9].safetensors"))
        raise InputError(f"no network {str(name)!r}: neither a file nor one of {', '.join(names)}")
    return path


def save_network(net: nn.Module, path: str | Path, card: dict[str, Any], *, half: bool = False) -> None:
    """Write ``net`` with its card; ``half`` stores weights in fp16 (they are loaded as float32).

    Raises
    ------
    InputError
        If the disk is full or not writable; an older file of this name is as it was.
    """
    config = asdict(net.shape if isinstance(net, Encoder) else net.config)  # type: ignore[arg-type]
    kind = type(net).__name__.lower()
    tensors = {k: (v.half() if half else v).contiguous().cpu() for k, v in net.state_dict().items()}
    own = {"format": FORMAT, "kind": kind, "config": config}
    full = {k: v for k, v in card.items() if k != "sha256"} | own
    write_tensors(Path(path), tensors, {"card": json.dumps(full, sort_keys=True)})


def amend_card(path: Path, entries: dict[str, Any]) -> None:
    """Put entries into the card of one of our files; its tensors stay as they are."""
    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["card"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    write_tensors(path, tensors, {"card": json.dumps({**card, **entries}, sort_keys=True)})


def file_format(path: Path) -> Format:
    """Which reader a file needs, from its first bytes.

    Raises
    ------
    Refused
        If it is none of the known formats.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if start[:4] == ZIP or start.startswith(TORCH_LEGACY):
        return "torch"
    if start[8:9] == b"{":
        header = int.from_bytes(start[:8], "little")  # its length
        if header < path.stat().st_size:
            return "safetensors"
        if start[9:10] == b'"':
            raise Refused(f"{path.name} is {CUT_OFF}")
    if start[:1] == pickle.PROTO:
        return "nvlabs"
    what = what_it_is(path)
    said = f"it is {what}" if what else f"its content is none of {', '.join(LABELS.values())}"
    raise Refused(f"{path.name} is no network file: {said}")


def _read_own(path: Path, network: str) -> Stored:
    """Our own format; of the card's config only what tensors cannot tell is used."""
    check_size(path)
    with safe_open(path, "pt") as file:
        card = json.loads((file.metadata() or {}).get("card", "{}"))
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    if not isinstance(card, dict) or not isinstance(card.get("config", {}), dict):
        raise Refused(f"{path.name} has a card that is not a JSON object")
    kind = KINDS[network]
    if not card and network in archive.NAMES and archive.kind_of(state) == network:
        return archive.from_table(path, state, {}, network)  # somebody's state dict
    if card.get("format", FORMAT) != FORMAT:
        raise Refused(
            f"{path.name} is a checkpoint of format {card['format']!r}; this version reads {FORMAT}: read it with the "
            "version that wrote it"
        )
    if card.get("kind") != kind:
        raise InputError(
            f"{path.name} holds {card.get('kind', 'tensors without a card')}; expected one of kind {kind}"
        )
    return Stored(state, card.pop("config", {}), card)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before a message that lacks it."""
    try:
        yield
    except InputError as wrong:
        if path.name in str(wrong):
            raise
        raise type(wrong)(f"{path.name}: {wrong}") from wrong


def read(path: Path, network: str) -> Stored:
    """One network of a file of any known format.

    Parameters
    ----------
    path : Path
        The file.
    network : str
        ``G_ema``, ``G``, ``D`` or ``encoder``.

    Raises
    ------
    InputError
        If the file does not hold it; :class:`Refused` if the file is damaged, unsafe or of another architecture.
    """
    readers = {"safetensors": _read_own, "nvlabs": nvlabs.read, "torch": archive.read}
    kind = file_format(path)
    with _naming(path):
        try:
            stored = readers[kind](path, network)
        except InputError:
            raise
        except Exception as fault:  # a damaged or hostile file can end in any error: one message for all
            reason = (str(fault).splitlines() or [type(fault).__name__])[0][:LONGEST]
            reason = CUT_OFF if "not fully covered" in reason or "IncompleteBuffer" in reason else reason
            raise Refused(f"it cannot be read as {LABELS[kind]}: {reason}") from fault
    digest, card = sha256(path), stored.card
    if kind != "safetensors":
        card["source"] = {"file": path.name, "sha256": digest, "format": LABELS[kind], "network": network}
    card["sha256"] = digest
    return stored


def _fill(net: Net, stored: Stored, path: Path, device: str) -> Net:
    """Put the tensors into ``net`` (built on the meta device: its size is bounded by the file's)."""
    state = dict(stored.state)
    for key in net.state_dict():
        if key.endswith(CONSTANT):
            state.setdefault(key, binomial_filter())
    for key, value in state.items():
        if key.endswith(CONSTANT):
            check_filter(path.name, key, value)
    expected = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    if wrong := [key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key)]:
        key = min(wrong)
        raise InputError(
            f"{path.name} is not a complete {type(net).__name__.lower()}: {len(wrong)} tensors differ, for example "
            f"{key}: shape {got.get(key, 'missing')}, expected {expected.get(key, 'no such tensor')}"
        )
    net.load_state_dict(state, assign=True)
    net.eval().requires_grad_(False)
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _load(name: str | Path, suffix: str, network: str, device: str) -> Any:
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device is {device!r}, and torch {torch.__version__} finds no GPU here; give 'cpu'."
        )
    path = find(name, suffix)
    stored = read(path, network)
    infer, kind = BUILDERS[network]
    with _naming(path):
        config = infer(stored)
    with torch.device("meta"):
        net = kind(config)
    net.card = {**stored.card, "kind": KINDS[network], "config": asdict(config)}
    return _fill(net, stored, path, device)


def load_generator(
    name: str | Path, device: str = "cpu", network: str = "G_ema", *, label: int | None = None
) -> Generator:
    """A generator from a file or a zoo name, in evaluation mode, float32.

    Parameters
    ----------
    name : str or Path
        Our ``.safetensors``, an NVlabs ``.pkl``, a rosinality, e4e or pSp ``.pt`` (told apart by content), or the
        name of a bundled network such as ``synthetic-64``, or the folder of a training run (its best snapshot).
    device : str
        Where to put it.
    network : str
        ``G_ema`` (the running average that one wants to sample from) or ``G`` (as trained).
    label : int, optional
        Which label a conditional generator draws where none is given; by default the one that its card names.

    Returns
    -------
    Generator
        With ``card``: licence, data, provenance, SHA-256 as far as the file tells.

    Raises
    ------
    InputError
        If there is no such file or label, or it holds something else; :class:`Refused` if it is unsafe or not
        StyleGAN2.
    """
    net: Generator = _load(name, "", network, device)
    chosen = net.card.get("label") if label is None else label
    if chosen is not None:
        try:
            net.choose_label(int(str(chosen)))
        except ValueError as wrong:
            raise InputError(f"{Path(name).name}: {wrong}") from wrong
        net.card["label"] = net.label
    return net


def load_discriminator(name: str | Path, device: str = "cpu") -> Discriminator:
    """A discriminator from a file of any format of :func:`load_generator`, in evaluation mode, float32."""
    net: Discriminator = _load(name, ".discriminator", "D", device)
    return net


def load_encoder(name: str | Path, device: str = "cpu") -> Encoder:
    """An encoder from our ``.safetensors`` or a zoo name, in evaluation mode, float32."""
    net: Encoder = _load(name, ".encoder", "encoder", device)
    return net


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of one of our own files, with its ``sha256``; no tensor is read."""
    path = find(path)
    if file_format(path) != "safetensors":
        raise InputError(f"{path.name} is not one of our files and has no card; convert it first")
    with safe_open(path, "pt") as file:
        card = json.loads((file.metadata() or {}).get("card", "{}"))
    return {**card, "sha256": sha256(path)}


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote: the network's config, its card, and notes that its user has to know."""

    config: GeneratorConfig | DiscriminatorConfig
    card: dict[str, Any]
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    network: str = "G_ema",
    layout: Literal["ours", "rosinality"] = "ours",
) -> Converted:
    """Read a network of any format and write it in ours, or a generator in rosinality's.

    Parameters
    ----------
    source, target : str or Path
        Files; an existing target is replaced when the new one is complete.
    network : str
        ``G_ema``, ``G`` or ``D``. rosinality's layout takes a generator, and the file's discriminator with it.
    layout : {"ours", "rosinality"}
        Which format to write.

    Raises
    ------
    InputError
        If the source does not hold the network; :class:`Refused` if it is unsafe, or the layout cannot hold it.
    """
    if Path(target).exists() and Path(target).samefile(find(source)):
        raise InputError(f"{target} is the file to be converted; give another name for the result")
    if layout == "rosinality" and network == "D":
        raise InputError(
            "rosinality's layout holds a discriminator only beside its generator: convert G_ema or G"
        )
    net: Generator | Discriminator
    net = load_discriminator(source) if network == "D" else load_generator(source, network=network)
    notes = list(net.card.get("notes", []))  # type: ignore[call-overload]
    if layout == "ours":
        save_network(net, target, net.card)
    else:
        assert isinstance(net, Generator)
        critic, reason = _beside(source)
        notes += [reason] if reason else []
        notes += rosinality.write(target, net, critic)
    return Converted(net.config, net.card, tuple(notes))


def _beside(source: str | Path) -> tuple[Discriminator | None, str | None]:
    """The discriminator in the same file, or why it cannot go into rosinality's layout."""
    try:
        critic = load_discriminator(source)
        rosinality.check_discriminator(critic.config)
    except Refused as wrong:
        return None, f"the discriminator was left out: {wrong}"
    except InputError:
        return None, None
    return critic, None


BUILDERS: dict[str, tuple[Callable[[Stored], Any], Callable[[Any], Any]]] = {
    "G_ema": (generator_config, Generator),
    "G": (generator_config, Generator),
    "D": (discriminator_config, Discriminator),
    "encoder": (encoder_config, Encoder),
}
