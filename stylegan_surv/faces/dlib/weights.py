"""The weights of dlib's two public-domain networks: out of its ``.dat`` files, and as bundled here.

dlib's models are by Davis E. King, who gave the two that are used here to the public domain
(https://github.com/davisking/dlib-models). Every affine layer after a convolution is folded into it, so that a network
is convolutions, activations and pools only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from stylegan_surv._files import write_tensors
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib._dat import Affine, Convolution, Dense, Network, Plain, Pool, read

DATA = Path(__file__).parents[2] / "data"
SOURCES = {  # SHA-256 of the files that the weights were read from, as dlib-models published them
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "mmod_human_face_detector.dat": "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
}
Bare = TypeVar("Bare", bound=nn.Module)
MEAN, SCALE = (
    (122.782, 117.001, 104.298),
    256.0,
)  # of the training pictures: pixels less the first, over the second
LICENCE = "public domain (Davis E. King, davisking/dlib-models, README)"


def read_network(path: str | Path, kinds: Iterable[str]) -> Network:
    """Read a ``.dat`` file whose layers are of these kinds, in this order; anything else is refused by name.

    Raises
    ------
    InputError
        If the file is damaged, or holds another network.
    """
    network = read(path)
    found, expected = [_kind(layer) for layer in network.layers], list(kinds)
    if found != expected:
        k = next(
            (k for k, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected))
        )
        there = found[k] if k < len(found) else "no layer"
        raise InputError(
            f"{path} holds another network of dlib: its layer {k + 1} is {there}, "
            f"expected is {expected[k] if k < len(expected) else 'the end'}; give one of {', '.join(SOURCES)}"
        )
    if not np.allclose(network.input.mean, MEAN, atol=1e-4):
        raise InputError(
            f"{path} has mean colours of {network.input.mean}, expected is {MEAN}: it is another network"
        )
    return network


def _kind(layer: object) -> str:
    names = {Convolution: "conv", Affine: "affine", Dense: "dense"}
    return layer.kind if isinstance(layer, Plain | Pool) else names[cast(Any, type(layer))]


def folded(network: Network) -> Iterator[tuple[Convolution, Tensor, Tensor]]:
    """Every convolution with its weight and bias after the affine layer behind it, float32."""
    for layer, after in pairwise((*network.layers, Plain("end"))):
        if isinstance(layer, Convolution):
            weight = torch.from_numpy(layer.weight).double()
            bias = torch.zeros(len(weight)) if layer.bias is None else torch.from_numpy(layer.bias)
            bias = bias.double()
            if isinstance(after, Affine):
                gamma, beta = (torch.from_numpy(part).double() for part in (after.gamma, after.beta))
                weight, bias = weight * gamma.view(-1, 1, 1, 1), bias * gamma + beta
            yield layer, weight.float(), bias.float()


@torch.no_grad()
def fill(convolutions: Iterable[nn.Conv2d], network: Network) -> None:
    """Copy a network's convolutions into modules, in order.

    Raises
    ------
    InputError
        If shapes, strides or paddings differ, or a weight is not finite.
    """
    for k, (module, (layer, weight, bias)) in enumerate(zip(convolutions, folded(network), strict=True)):
        found = (tuple(weight.shape), layer.stride, layer.padding)
        expected = (tuple(module.weight.shape), module.stride, module.padding)
        if found != expected:
            raise InputError(
                f"convolution {k + 1} of the file has (filters, stride, padding) {found}, expected is {expected}: "
                "this is another network of dlib"
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise InputError(
                f"convolution {k + 1} of the file has weights that are not finite: the file is damaged"
            )
        module.weight.copy_(weight)
        cast(nn.Parameter, module.bias).copy_(bias)


def publish(module: nn.Module, source: str | Path, to: str | Path, card: dict[str, Any]) -> None:
    """Write a module's weights in half precision, with a card that says where they come from.

    Parameters
    ----------
    module : torch module
    source : str or Path
        The ``.dat`` file that they were read from.
    to : str or Path
        The safetensors file; the card is its metadata.
    card : dict
        What is said of the network beside licence and source.
    """
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    origin = {"file": Path(source).name, "sha256": digest, "layout": "dlib .dat"}
    whole = card | {"licence": LICENCE, "source": origin, "dtype": "float16"}
    tensors = {name: value.detach().half().contiguous() for name, value in module.state_dict().items()}
    write_tensors(to, tensors, {"card": json.dumps(whole)})


def load(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a bundled network in single precision, and its card."""
    with safe_open(file, framework="pt") as opened:
        card = json.loads(opened.metadata()["card"])
        return {name: opened.get_tensor(name).float() for name in opened.keys()}, card  # noqa: SIM118


def ready(network: Bare, file: Path) -> Bare:
    """The module with its bundled weights, in evaluation mode, its parameters fixed, channels last (faster on CPUs)."""
    network.load_state_dict(load(file)[0])
    network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
