"""What defines each network's shape: resolutions, widths, dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Architecture = Literal["skip", "resnet", "orig"]


def resolutions(top: int) -> list[int]:
    """``[4, 8, …, top]``.

    Raises
    ------
    ValueError
        If ``top`` is not a power of two of at least 8.
    """
    if top < 8 or top & (top - 1):
        raise ValueError(f"resolution is {top}; expected a power of two, 8 or more")
    return [2**i for i in range(2, top.bit_length())]


@dataclass(frozen=True)
class GeneratorConfig:
    """What defines a generator's shape; ``channels(res) = min(channel_base // res, channel_max)``.

    ``top_channels`` replaces the rule in the highest block; None follows it.
    """

    resolution: int
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    img_channels: int = 3
    conv_clamp: float | None = None
    architecture: Architecture = "skip"
    use_noise: bool = True
    top_channels: int | None = None

    @property
    def num_ws(self) -> int:
        """Number of style vectors, ``2·log2(resolution) − 2``."""
        return 2 * int(math.log2(self.resolution)) - 2

    def channels(self, res: int) -> int:
        """Feature maps of the block at ``res``."""
        if self.top_channels is not None and res == self.resolution:
            return self.top_channels
        return min(self.channel_base // res, self.channel_max)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What defines a discriminator's (or an encoder trunk's) shape."""

    resolution: int
    c_dim: int = 0
    channel_base: int = 32768
    channel_max: int = 512
    img_channels: int = 3
    conv_clamp: float | None = None
    architecture: Architecture = "resnet"
    mbstd_group: int = 4
    mbstd_channels: int = 1
    mapping_layers: int = 8
    cmap_dim: int = 0
    out_features: int = 1

    def channels(self, res: int) -> int:
        """Feature maps of the block at ``res``."""
        return min(self.channel_base // res, self.channel_max)


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder's shape and the generator latent space it predicts (``num_ws`` × ``w_dim``)."""

    resolution: int
    num_ws: int
    w_dim: int
    channel_base: int = 2048
    channel_max: int = 256
    img_channels: int = 3
