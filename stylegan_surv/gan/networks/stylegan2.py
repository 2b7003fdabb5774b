"""StyleGAN2 networks: mapping, synthesis, discriminator and the trunk that encoders share.

Written from Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (arXiv 1912.04958). Parameter
names are those of the common ``G_ema`` layout, so that published checkpoints load. Modulated convolutions scale
the input by the style and the output by the demodulation factor (section 2.2 of the paper, rearranged): no weight
is ever copied per sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_ops import bias_act, upfirdn2d
from cuda_ops.convolution import conv2d, conv_transpose2d, scaled_conv2d

Architecture = Literal["skip", "resnet", "orig"]
NoiseMode = Literal["const", "random", "none"]

LRELU_GAIN = math.sqrt(2.0)
LRELU_SLOPE = 0.2
MAPPING_LR = 0.01  # the mapping's learning-rate multiplier; its weights are stored divided by it
EPS = 1e-8


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


# ---------------------------------------------------------------------------------------------- primitives


def binomial_filter() -> Tensor:
    """The [1, 3, 3, 1] ⊗ [1, 3, 3, 1] low-pass filter, summing to 1, float32 [4, 4]."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(row, row) / 64


def blur(x: Tensor, f: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Filter every channel with ``f``."""
    return upfirdn2d(x, f, padding=padding, gain=gain)


def upsample(x: Tensor, f: Tensor) -> Tensor:
    """Double the size: zeros in between, padding (2, 1), filter, gain 4."""
    return upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1), gain=4.0)


def downsample(x: Tensor, f: Tensor) -> Tensor:
    """Halve the size: padding (1, 1), filter, every second sample."""
    return upfirdn2d(x, f, down=2, padding=1)


def bias_lrelu(x: Tensor, bias: Tensor, *, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Add a bias per channel, leaky ReLU(0.2)·√2·gain, clamp to ±clamp·gain."""
    limit = None if clamp is None else clamp * gain
    return bias_act(x, bias.to(x.dtype), act="lrelu", alpha=LRELU_SLOPE, gain=LRELU_GAIN * gain, clamp=limit)


def unit_rms(x: Tensor) -> Tensor:
    """Scale every row to a root mean square of 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + EPS).rsqrt()


class FullyConnected(nn.Module):
    """``x·(W·lr/√fan_in)ᵀ + b·lr`` with equalised learning rate (Karras et al. 2018, section 4.1)."""

    def __init__(
        self, inputs: int, outputs: int, *, activate: bool = False, lr: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.activate, self.lr = activate, lr
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype) * (self.lr / math.sqrt(self.weight.shape[1]))
        y = F.linear(x, weight, None if self.activate else self.bias.to(x.dtype) * self.lr)
        return bias_lrelu(y, self.bias * self.lr) if self.activate else y


class Mapping(nn.Module):
    """z (and a label) to ``[n, num_ws, w_dim]``; the running mean ``w_avg`` is the point of truncation.

    With ``num_ws=0`` the result is one vector a row, ``[n, w_dim]`` (a conditional discriminator's use).
    """

    w_avg: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, layers: int, num_ws: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws, self.layers = z_dim, c_dim, num_ws, layers
        if c_dim:
            self.embed = FullyConnected(c_dim, w_dim)
        for i in range(layers):
            inputs = w_dim if i else z_dim + (w_dim if c_dim else 0)
            self.add_module(f"fc{i}", FullyConnected(inputs, w_dim, activate=True, lr=MAPPING_LR))
        if num_ws:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map latents to styles.

        Parameters
        ----------
        z : Tensor [n, z_dim], standard normal.
        c : Tensor [n, c_dim], one-hot or continuous labels; needed where the network is conditional.
        truncation_psi : 1 keeps w, 0 gives ``w_avg``; ``w_avg + ψ(w − w_avg)``.
        truncation_cutoff : truncate only the first so many of the num_ws styles.

        Returns
        -------
        Tensor [n, num_ws, w_dim]
        """
        x = self._input(z, c)
        for i in range(self.layers):
            x = self.get_submodule(f"fc{i}")(x)
        if not self.num_ws:
            return x
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi == 1:
            return ws
        head, tail = ws[:, :truncation_cutoff], ws[:, ws.shape[1] :]
        if truncation_cutoff is not None:
            tail = ws[:, truncation_cutoff:]
        return torch.cat([self.w_avg.lerp(head, truncation_psi), tail], dim=1)

    def _input(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = []
        if self.z_dim:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                got = None if z is None else list(z.shape)
                raise ValueError(f"z has shape {got}; expected [n, {self.z_dim}]")
            parts.append(unit_rms(z))
        if self.c_dim:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
                got = None if c is None else list(c.shape)
                raise ValueError(
                    f"c has shape {got}; this network is conditional: expected [n, {self.c_dim}]"
                )
            parts.append(unit_rms(self.embed(c)))
        return torch.cat(parts, dim=1)


# ----------------------------------------------------------------------------------------------- synthesis


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False) -> Tensor:
    """Convolve with style-scaled weights (StyleGAN2, equations 1 and 3) without forming them.

    Parameters
    ----------
    x : Tensor [n, c_in, h, w]
    weight : Tensor [c_out, c_in, k, k]
    style : Tensor [n, c_in]
    demodulate : divide by the norm of every output channel's scaled weights.
    up : stride-2 transposed convolution, giving size 2h + 1; otherwise same size.
    """
    if demodulate and style.dtype == torch.float16:
        weight, style = _within_fp16(weight, style)
    w, in_scale, out_scale = weight.to(x.dtype), style.to(x.dtype), None
    if w.shape[2:] == (1, 1) and not demodulate:
        return _mixed_channels(x, w[:, :, 0, 0] * in_scale[:, None])
    if demodulate:
        style, weight = _wide(style), _wide(weight)
        norm = style.square() @ weight.square().sum(dim=(2, 3)).t().to(style.dtype)
        out_scale = (norm + EPS).rsqrt()
    if not up:
        return scaled_conv2d(x, w, in_scale, out_scale)
    x = conv_transpose2d(x * in_scale[:, :, None, None], w.transpose(0, 1), stride=2)
    return x if out_scale is None else x * out_scale.to(x.dtype)[:, :, None, None]


def _mixed_channels(x: Tensor, mix: Tensor) -> Tensor:
    """Σ_c mix[n, o, c] · x[n, c, h, w]: with an image's few channels, less work than scaling x and a convolution."""
    return torch.bmm(mix, x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _within_fp16(weight: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Scale weights to norm 1 and styles to a largest of 1; demodulation divides by the same factors.

    fp16 ends at 65,504, which a sum over 512 × 9 products passes.
    """
    weight, style = _wide(weight), _wide(style)
    weight = weight * weight.square().sum(dim=(1, 2, 3), keepdim=True).add(EPS).rsqrt()
    return weight, style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-4)


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32: sums of squares and the small EPS leave its range."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class StyledConv(nn.Module):
    """Modulated 3×3 convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, res: int, *, up: bool, noise: bool) -> None:
        super().__init__()
        self.up, self.noise = up, noise
        self.register_buffer("resample_filter", binomial_filter())
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if noise:
            self.register_buffer("noise_const", torch.randn(res, res))
            self.noise_strength = nn.Parameter(torch.zeros(()))

    def forward(
        self, x: Tensor, w: Tensor, noise_mode: NoiseMode, gain: float = 1.0, clamp: float | None = None
    ) -> Tensor:
        x = modulated_conv(x, self.weight, self.affine(w), demodulate=True, up=self.up)
        if self.up:
            x = blur(x, self.resample_filter, padding=1, gain=4.0)
        if self.noise and noise_mode != "none":
            if noise_mode == "random":
                noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
            else:
                noise = self.noise_const.to(x.dtype)
            x = x + noise * self.noise_strength.to(x.dtype)
        return bias_lrelu(x, self.bias, gain=gain, clamp=clamp)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to the image, without demodulation."""

    def __init__(self, inputs: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor, clamp: float | None = None) -> Tensor:
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        y = modulated_conv(x, self.weight, style, demodulate=False)
        y = bias_act(y, self.bias.to(x.dtype), clamp=clamp)
        return y if y.dtype == torch.float64 else y.float()


class PlainConv(nn.Module):
    """Convolution with equalised learning rate, optional 2× resampling, bias and leaky ReLU."""

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool = True,
        activate: bool = True,
        resample: Literal["up", "down"] | None = None,
    ) -> None:
        super().__init__()
        self.activate, self.resample = activate, resample
        self.register_buffer("resample_filter", binomial_filter())
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        if bias:
            self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
        kernel = self.weight.shape[-1]
        w = (self.weight * (1 / math.sqrt(self.weight[0].numel()))).to(x.dtype)
        if self.resample == "down" and kernel == 1:
            x = conv2d(downsample(x, self.resample_filter), w)
        elif self.resample == "down":
            x = conv2d(blur(x, self.resample_filter, padding=2), w, stride=2)
        elif self.resample == "up":
            x = upsample(conv2d(x, w), self.resample_filter)
        else:
            x = conv2d(x, w, padding=kernel // 2)
        return bias_lrelu(x, self.bias, gain=gain, clamp=clamp) if self.activate else x * gain


class SynthesisBlock(nn.Module):
    """One resolution: conv0 (up), conv1 and, where the architecture has it, torgb or a residual skip."""

    resample_filter: Tensor

    def __init__(self, config: GeneratorConfig, res: int) -> None:
        super().__init__()
        out, noise = config.channels(res), config.use_noise
        self.res, self.clamp, self.first = res, config.conv_clamp, res == 4
        self.residual = config.architecture == "resnet" and not self.first
        self.register_buffer("resample_filter", binomial_filter())
        if self.first:
            self.const = nn.Parameter(torch.randn(out, 4, 4))
        else:
            inputs = config.channels(res // 2)
            self.conv0 = StyledConv(inputs, out, config.w_dim, res, up=True, noise=noise)
            if self.residual:
                self.skip = PlainConv(inputs, out, 1, bias=False, activate=False, resample="up")
        self.conv1 = StyledConv(out, out, config.w_dim, res, up=False, noise=noise)
        self.has_rgb = config.architecture == "skip" or res == config.resolution
        if self.has_rgb:
            self.torgb = ToRGB(out, config.img_channels, config.w_dim)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise_mode: NoiseMode
    ) -> tuple[Tensor, Tensor | None]:
        """``ws`` [n, 2 or 3, w_dim]: the styles of (conv0,) conv1 and torgb."""
        if x is None:
            x = self.const.to(ws.dtype).expand(ws.shape[0], -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, ws[:, 0], noise_mode, clamp=self.clamp)
        elif self.residual:
            y = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, ws[:, 0], noise_mode, clamp=self.clamp)
            x = y + self.conv1(x, ws[:, 1], noise_mode, gain=math.sqrt(0.5), clamp=self.clamp)
        else:
            x = self.conv0(x, ws[:, 0], noise_mode, clamp=self.clamp)
            x = self.conv1(x, ws[:, 1], noise_mode, clamp=self.clamp)
        if image is not None:
            image = upsample(image, self.resample_filter)
        if self.has_rgb:
            rgb = self.torgb(x, ws[:, -1], clamp=self.clamp)
            image = rgb if image is None else image + rgb
        return x, image


class Synthesis(nn.Module):
    """``w_plus`` to an image."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for res in resolutions(config.resolution):
            self.add_module(f"b{res}", SynthesisBlock(config, res))

    def forward(self, w_plus: Tensor, noise_mode: NoiseMode = "const") -> Tensor:
        """Draw images.

        Parameters
        ----------
        w_plus : Tensor [n, num_ws, w_dim]. Block 4 uses styles 0 and 1; block k uses 2k−1, 2k, 2k+1.
        noise_mode : ``const`` (the network's own maps), ``random`` or ``none``.

        Returns
        -------
        Tensor [n, img_channels, resolution, resolution], float32, about [−1, 1] and not clipped.
        """
        expected = (self.config.num_ws, self.config.w_dim)
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != expected:
            raise ValueError(
                f"w_plus has shape {list(w_plus.shape)}; expected [n, {expected[0]}, {expected[1]}]"
            )
        x: Tensor | None = None
        image: Tensor | None = None
        for k, res in enumerate(resolutions(self.config.resolution)):
            ws = w_plus[:, :2] if k == 0 else w_plus[:, 2 * k - 1 : 2 * k + 2]
            x, image = self.get_submodule(f"b{res}")(x, image, ws, noise_mode)
        assert image is not None  # the last block has a torgb in every architecture
        return image if image.dtype == torch.float64 else image.float()


class Generator(nn.Module):
    """A StyleGAN2 generator: ``G.mapping(z)`` then ``G.synthesis(w_plus)``.

    Attributes
    ----------
    config : GeneratorConfig
    card : dict, what is known of its origin (licence, data, provenance, SHA-256); empty for a fresh network.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, object] = {}
        self.mapping = Mapping(config.z_dim, config.c_dim, config.w_dim, config.mapping_layers, config.num_ws)
        self.synthesis = Synthesis(config)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        noise_mode: NoiseMode = "const",
    ) -> Tensor:
        """Images of latents ``z`` [n, z_dim]; see :class:`Mapping` and :class:`Synthesis`."""
        images: Tensor = self.synthesis(self.mapping(z, c, truncation_psi), noise_mode)
        return images


# ------------------------------------------------------------------------------------------- discriminator


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
            y = self.skip(x, gain=math.sqrt(0.5))
            x = y + self.conv1(self.conv0(x, clamp=self.clamp), gain=math.sqrt(0.5), clamp=self.clamp)
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


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder's shape and the generator latent space it predicts (``num_ws`` × ``w_dim``)."""

    resolution: int
    num_ws: int
    w_dim: int
    channel_base: int = 2048
    channel_max: int = 256
    img_channels: int = 3


class Encoder(Trunk):
    """Image to W+: one w and small offsets per layer, ``w_plus[l] = w + offset[l]`` (Tov et al. 2021, e4e)."""

    def __init__(self, config: EncoderConfig) -> None:
        outputs = config.w_dim * (1 + config.num_ws)
        super().__init__(
            DiscriminatorConfig(
                config.resolution,
                channel_base=config.channel_base,
                channel_max=config.channel_max,
                img_channels=config.img_channels,
                mbstd_group=0,
                out_features=outputs,
            )
        )
        self.shape = config

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """w [n, w_dim] and offsets [n, num_ws, w_dim] of images in [−1, 1]."""
        y = self.features(images)
        w_dim = self.shape.w_dim
        return y[:, :w_dim], y[:, w_dim:].view(-1, self.shape.num_ws, w_dim)

    def forward(self, images: Tensor) -> Tensor:
        """``w_plus`` [n, num_ws, w_dim] of images [n, 3, resolution, resolution] in [−1, 1]."""
        w, offsets = self.split(images)
        return w.unsqueeze(1) + offsets
