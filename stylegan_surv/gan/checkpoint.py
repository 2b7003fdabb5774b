"""Our checkpoint format: safetensors, whose metadata hold a JSON card. Nothing in a file is ever executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
)

DATA = Path(__file__).parent.parent / "data"
CONSTANT = "resample_filter"  # a fixed filter, stored by some writers and not by others


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(name: str | Path, suffix: str = "") -> Path:
    """A path as given, or the bundled file of a zoo name (``synthetic-64``)."""
    path = Path(name)
    bundled = DATA / f"{name}{suffix}.safetensors"
    if path.suffix or not bundled.exists():
        if not path.exists():
            names = sorted(p.stem for p in DATA.glob("*-*[0-9].safetensors"))
            raise InputError(f"no network {str(name)!r}: neither a file nor one of {', '.join(names)}")
        return path
    return bundled


def save_network(net: nn.Module, path: str | Path, card: dict[str, Any], *, half: bool = False) -> None:
    """Write ``net`` with its card; ``half`` stores weights in fp16 (they are loaded as float32)."""
    config = asdict(net.shape if isinstance(net, Encoder) else net.config)  # type: ignore[arg-type]
    kind = type(net).__name__.lower()
    tensors = {k: (v.half() if half else v).contiguous().cpu() for k, v in net.state_dict().items()}
    full = {**card, "kind": kind, "config": config}
    partial = Path(f"{path}.partial")
    save_file(tensors, partial, metadata={"card": json.dumps(full, sort_keys=True)})
    partial.replace(path)


def _load(path: Path, kind: str, device: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt", device=device) as file:
            card = json.loads((file.metadata() or {}).get("card", "{}"))
            state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    except Exception as fault:
        raise Refused(f"{path.name} is not a readable safetensors file ({fault})") from fault
    if card.get("kind") != kind:
        raise InputError(f"{path.name} holds {card.get('kind', 'no card')}; expected a {kind}")
    card["sha256"] = sha256(path)
    return card, state


def _fill(net: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    keys = net.load_state_dict(state, strict=False)
    wrong = [k for k in (*keys.missing_keys, *keys.unexpected_keys) if not k.endswith(CONSTANT)]
    if wrong:
        raise InputError(f"{path.name} does not fit its card: {len(wrong)} keys differ, first {wrong[0]!r}")
    net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_generator(name: str | Path, device: str = "cpu") -> Generator:
    """A generator from a file or a zoo name, in evaluation mode, float32."""
    path = find(name)
    card, state = _load(path, "generator", device)
    net = Generator(GeneratorConfig(**card["config"])).to(device)
    _fill(net, state, path)
    net.card = card
    return net


def load_discriminator(name: str | Path, device: str = "cpu") -> Discriminator:
    """A discriminator from a file, in evaluation mode, float32."""
    path = find(name, ".discriminator")
    card, state = _load(path, "discriminator", device)
    net = Discriminator(DiscriminatorConfig(**card["config"])).to(device)
    _fill(net, state, path)
    net.card = card
    return net


def load_encoder(name: str | Path, device: str = "cpu") -> Encoder:
    """An encoder from a file or a zoo name, in evaluation mode, float32."""
    path = find(name, ".encoder")
    card, state = _load(path, "encoder", device)
    net = Encoder(EncoderConfig(**card["config"])).to(device)
    _fill(net, state, path)
    net.card = card
    return net
