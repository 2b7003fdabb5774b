"""A network as found in a file: tensors under our names, and the shape that they imply.

Every reader ends here, whatever the format. What defines a network is inferred from its keys and tensor shapes; only
what tensors cannot tell (``facts``: ``conv_clamp`` and the like) is taken from the file's own statements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.networks import (
    Architecture,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    binomial_filter,
    resolutions,
)

MAX_BYTES = 4 << 30  # the largest published training state (1024 px, with both optimisers) has under 1 GB
MAX_RESOLUTION = 2048
FILTER_ERROR = 1e-3  # by which taps may differ: some are stored in half precision
ZIP = b"PK\x03\x04"  # how torch tells its archives; a search for a zip's end would find one in random weights
PUBLISHED = "not stated in the file; ask its authors (networks published by NVIDIA: non-commercial use only)"


@dataclass
class Stored:
    """One network's content.

    Attributes
    ----------
    state : dict of str to Tensor
        Tensors by their names in the ``G_ema`` layout.
    facts : dict
        Config fields that tensor shapes cannot tell, e.g. ``conv_clamp``.
    card : dict
        What is known of the origin: licence, source, provenance.
    """

    state: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)


def check_size(path: Path) -> None:
    """Refuse a file larger than any StyleGAN2 network, before reading it."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise Refused(
            f"{path.name} has {size / 2**30:.1f} GiB; a StyleGAN2 file has at most {MAX_BYTES >> 30}"
        )


def check_filter(file: str, key: str, kernel: Tensor) -> None:
    """Refuse a resampling filter other than [1, 3, 3, 1], the one that networks here compute with."""
    expected = binomial_filter()
    if kernel.shape != expected.shape:
        taps = "×".join(map(str, kernel.shape))
        raise Refused(f"{file} resamples with a filter of {taps} taps ({key}); expected [1, 3, 3, 1], 4×4")
    if not torch.allclose(kernel.float(), expected, atol=FILTER_ERROR):
        raise Refused(f"{file} resamples with another filter than [1, 3, 3, 1] ({key})")


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in state:
        raise InputError(
            f"this is no StyleGAN2 network: it has no tensor {key!r}; found {len(state)} tensors"
            + (f", for example {', '.join(sorted(state)[:3])}" if state else "")
        )
    return tuple(state[key].shape)


def _top(state: dict[str, Tensor], prefix: str) -> int:
    """The largest resolution that has a block ``{prefix}b{resolution}``."""
    found = {int(m[1]) for key in state if (m := re.match(rf"{re.escape(prefix)}b(\d{{1,5}})\.", key))}
    top = max(found, default=0)
    if not 8 <= top <= MAX_RESOLUTION or top & (top - 1) or found != set(resolutions(top)):
        raise InputError(
            f"this is no StyleGAN2 network: it has blocks at {sorted(found)}; expected 4, 8, … up to a power of two"
            f" of at most {MAX_RESOLUTION}"
        )
    return top


def _channel_rule(channels: dict[int, int]) -> dict[str, int]:
    """The smallest ``channel_base`` and ``channel_max`` with min(base // res, max) = channels[res] everywhere."""
    base, top = max(res * c for res, c in channels.items()), max(channels.values())
    if any(min(base // res, top) != c for res, c in channels.items()):
        raise InputError(f"channels by resolution are {channels}; expected min(base // resolution, max)")
    return {"channel_base": base, "channel_max": top}


def _generator_channels(channels: dict[int, int]) -> dict[str, int]:
    """The rule of all blocks or, where the highest alone does not follow it (a block added later), with its width."""
    try:
        return _channel_rule(channels)
    except InputError:
        top = max(channels)
        below = {res: c for res, c in channels.items() if res != top}
        if len(below) < 2:
            raise
        return _channel_rule(below) | {"top_channels": channels[top]}


def _mapping_layers(state: dict[str, Tensor]) -> int:
    return sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in state)


def _clamp(stored: Stored) -> float | None:
    value = stored.facts.get("conv_clamp")
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise InputError(f"conv_clamp is {value!r}; expected a positive number or none")
    return value


def generator_config(stored: Stored) -> GeneratorConfig:
    """Resolution, dimensions, depth and architecture of a generator, from its tensors."""
    state = stored.state
    if any(key.startswith("synthesis.input.") for key in state):
        raise Refused(
            "this is a StyleGAN3 generator (synthesis.input); expected StyleGAN2: skip, resnet or orig"
        )
    top = _top(state, "synthesis.")
    channels = {res: _shape(state, f"synthesis.b{res}.conv1.weight")[0] for res in resolutions(top)}
    architecture: Architecture = "skip" if "synthesis.b4.torgb.weight" in state else "orig"
    if "synthesis.b8.skip.weight" in state:
        architecture = "resnet"
    w_dim, fan_in = _shape(state, "mapping.fc0.weight")
    c_dim = _shape(state, "mapping.embed.weight")[1] if "mapping.embed.weight" in state else 0
    return GeneratorConfig(
        resolution=top,
        z_dim=fan_in - (w_dim if c_dim else 0),
        w_dim=w_dim,
        c_dim=c_dim,
        mapping_layers=_mapping_layers(state),
        img_channels=_shape(state, f"synthesis.b{top}.torgb.weight")[0],
        architecture=architecture,
        use_noise="synthesis.b4.conv1.noise_const" in state,
        conv_clamp=_clamp(stored),
        **_generator_channels(channels),
    )


def discriminator_config(stored: Stored) -> DiscriminatorConfig:
    """Resolution, dimensions, depth and architecture of a discriminator (or an encoder's trunk)."""
    state, facts = stored.state, stored.facts
    top = _top(state, "")
    channels = {res: _shape(state, f"b{res}.conv0.weight")[1] for res in resolutions(top)[1:]}
    width, fan_in = _shape(state, "b4.conv.weight")[:2]
    architecture: Architecture = "skip" if "b4.fromrgb.weight" in state else "orig"
    if f"b{top}.skip.weight" in state:
        architecture = "resnet"
    conditional = "mapping.embed.weight" in state
    outputs = _shape(state, "b4.out.weight")[0]
    return DiscriminatorConfig(
        resolution=top,
        c_dim=_shape(state, "mapping.embed.weight")[1] if conditional else 0,
        img_channels=_shape(state, f"b{top}.fromrgb.weight")[1],
        architecture=architecture,
        mbstd_group=facts.get("mbstd_group", 4) if fan_in > width else 0,
        mbstd_channels=fan_in - width or 1,
        mapping_layers=_mapping_layers(state) if conditional else 8,
        cmap_dim=outputs if conditional else 0,
        out_features=1 if conditional else outputs,
        conv_clamp=_clamp(stored),
        **_channel_rule({4: width, **channels}),
    )


def encoder_config(stored: Stored) -> EncoderConfig:
    """An encoder's shape; ``num_ws`` and ``w_dim`` are facts, checked against the width of its last layer."""
    trunk = discriminator_config(stored)
    num_ws, w_dim = (int(stored.facts.get(name, 0)) for name in ("num_ws", "w_dim"))
    if w_dim * (1 + num_ws) != trunk.out_features:
        raise InputError(
            f"the encoder gives {trunk.out_features} numbers; its card says num_ws {num_ws}, w_dim {w_dim}: "
            f"expected w_dim·(1 + num_ws) = {w_dim * (1 + num_ws)}"
        )
    rule = {"channel_base": trunk.channel_base, "channel_max": trunk.channel_max}
    return EncoderConfig(trunk.resolution, num_ws, w_dim, img_channels=trunk.img_channels, **rule)
