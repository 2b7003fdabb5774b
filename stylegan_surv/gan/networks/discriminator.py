"""The discriminator, and the trunk that encoders share with it (StyleGAN2, arXiv 1912.04958, figure 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stylegan_surv.gan.networks.config import DiscriminatorConfig, resolutions
from stylegan_surv.gan.networks.layers import (
    EPS,
    MERGE_GAIN,
    FullyConnected,
    PlainConv,
    binomial_filter,
    downsample,
)
from stylegan_surv.gan.networks.mapping import Mapping


class TrunkBlock(nn.Module):
    """One resolution of a discriminator: (fromrgb,) conv0, conv1 (down), and a residual skip."""

    resample_filter: Tensor

    def __init__(self, config: DiscriminatorConfig, res: int) -> None:
        super().__init__()
        inputs, outputs = config.channels(res), config.channels(res // 2)
        self.architecture, self.clamp = config.architecture, config.conv_clamp
        self.register_buffer("resample_filter", binomial_filter())
        self.has_rgb = res == config.resolution or config.architecture == "skip"
        if self.has_rgb:
            self.fromrgb = PlainConv(config.img_channels, inputs, 1)
        self.conv0 = PlainConv(inputs, inputs, 3)
        self.conv1 = PlainConv(inputs, outputs, 3, resample="down")
        if config.architecture == "resnet":
            self.skip = PlainConv(inputs, outputs, 1, bias=False, activate=False, resample="down")

    def forward(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.has_rgb:
            y = self.fromrgb(image, clamp=self.clamp)
            x = y if x is None else x + y
            # only the 'skip' architecture looks at the image again further down
            skips = self.architecture == "skip" and image is not None
            image = downsample(image, self.resample_filter) if skips and image is not None else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=MERGE_GAIN)
            x = y + self.conv1(self.conv0(x, clamp=self.clamp), gain=MERGE_GAIN, clamp=self.clamp)
        else:
            x = self.conv1(self.conv0(x, clamp=self.clamp), clamp=self.clamp)
        return x, image


def minibatch_stddev(x: Tensor, group: int, channels: int = 1) -> Tensor:
    """Append the standard deviation over groups of the batch as feature maps (Karras et al. 2018, section 3)."""
    n, c, h, w = x.shape
    size = next((k for k in range(min(group, n), 0, -1) if n % k == 0), 1)
    y = x.float() if x.dtype != torch.float64 else x
    y = y.reshape(size, n // size, channels, c // channels, h, w)
    y = (y.var(dim=0, unbiased=False) + EPS).sqrt().mean(dim=(2, 3, 4))
    y = y[:, :, None, None].repeat(size, 1, h, w)
    return torch.cat([x, y.to(x.dtype)], dim=1)


class TrunkEnd(nn.Module):
    """The 4×4 end: (fromrgb,) minibatch statistics, convolution, two fully connected layers."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        channels = config.channels(4)
        self.group, self.stats, self.clamp = config.mbstd_group, config.mbstd_channels, config.conv_clamp
        if config.architecture == "skip":
            self.fromrgb = PlainConv(config.img_channels, channels, 1)
        extra = self.stats if self.group else 0
        self.conv = PlainConv(channels + extra, channels, 3)
        self.fc = FullyConnected(channels * 16, channels, activate=True)
        self.out = FullyConnected(channels, config.cmap_dim if config.c_dim else config.out_features)

    def forward(self, x: Tensor, image: Tensor | None) -> Tensor:
        if image is not None:
            x = x + self.fromrgb(image, clamp=self.clamp)
        if self.group:
            x = minibatch_stddev(x, self.group, self.stats)
        x = self.conv(x, clamp=self.clamp)
        y: Tensor = self.out(self.fc(x.flatten(1)))
        return y


class Trunk(nn.Module):
    """Image to a vector: the residual network that discriminators and encoders share."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, object] = {}
        for res in reversed(resolutions(config.resolution)[1:]):
            self.add_module(f"b{res}", TrunkBlock(config, res))
        self.b4 = TrunkEnd(config)

    def features(self, images: Tensor) -> Tensor:
        """Vectors [n, out_features] of images [n, img_channels, resolution, resolution] in [−1, 1]."""
        expected = (self.config.img_channels, self.config.resolution, self.config.resolution)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images have shape {list(images.shape)}; expected [n, {', '.join(map(str, expected))}]"
            )
        x: Tensor | None = None
        image: Tensor | None = images.contiguous(memory_format=torch.channels_last)
        for res in reversed(resolutions(self.config.resolution)[1:]):
            x, image = self.get_submodule(f"b{res}")(x, image)
        y: Tensor = self.b4(x, image if self.config.architecture == "skip" else None)
        return y


class Discriminator(Trunk):
    """``D(images, c)`` gives logits [n, 1], high for real images."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__(config)
        if config.c_dim:
            self.mapping = Mapping(0, config.c_dim, config.cmap_dim, config.mapping_layers, num_ws=0)

    def forward(self, images: Tensor, c: Tensor | None = None) -> Tensor:
        """Logits [n, 1] of images in [−1, 1]; ``c`` [n, c_dim] where the network is conditional."""
        y = self.features(images)
        if not self.config.c_dim:
            return y
        cmap: Tensor = self.mapping(None, c)
        return (y * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.config.cmap_dim)
