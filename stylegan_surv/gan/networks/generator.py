"""The generator: mapping, then synthesis from 4 px up (StyleGAN2, arXiv 1912.04958, figures 2 and 7).

Written from Karras et al., "Analyzing and Improving the Image Quality of StyleGAN".
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cuda_ops import bias_act
from stylegan_surv.gan.networks.config import GeneratorConfig, resolutions
from stylegan_surv.gan.networks.layers import (
    MERGE_GAIN,
    FullyConnected,
    PlainConv,
    bias_lrelu,
    binomial_filter,
    blur,
    upsample,
)
from stylegan_surv.gan.networks.mapping import Mapping
from stylegan_surv.gan.networks.modulation import modulated_conv

NoiseMode = Literal["const", "random", "none"]


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
            y = self.skip(x, gain=MERGE_GAIN)
            x = self.conv0(x, ws[:, 0], noise_mode, clamp=self.clamp)
            x = y + self.conv1(x, ws[:, 1], noise_mode, gain=MERGE_GAIN, clamp=self.clamp)
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
        w_plus : Tensor, shape (n, num_ws, w_dim)
            Block 4 uses styles 0 and 1; block k uses 2k−1, 2k, 2k+1.
        noise_mode : {"const", "random", "none"}
            ``const`` (the network's own maps), ``random`` or ``none``.

        Returns
        -------
        Tensor, shape (n, img_channels, resolution, resolution)
            Float32, about [−1, 1] and not clipped.
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
    card : dict
        What is known of its origin (licence, data, provenance, SHA-256); empty for a fresh network.
    label : int, optional
        Of a conditional generator, the label that it draws where none is given; see :meth:`choose_label`.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, object] = {}
        self.label: int | None = None
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
        c = self.labels(len(z)) if c is None and self.label is not None else c
        images: Tensor = self.synthesis(self.mapping(z, c, truncation_psi), noise_mode)
        return images

    def choose_label(self, label: int | None) -> None:
        """Draw this label, 0 … c_dim − 1, where none is given; None: zeros, which is no label at all.

        Raises
        ------
        ValueError
            If the generator has no such label.
        """
        if label is not None and not 0 <= label < self.config.c_dim:
            has = (
                f"labels 0 … {self.config.c_dim - 1}"
                if self.config.c_dim
                else "no labels: it is unconditional"
            )
            raise ValueError(f"label is {label}; the generator has {has}")
        self.label = label

    def labels(self, n: int) -> Tensor | None:
        """The chosen label for ``n`` images, one-hot [n, c_dim] (zeros where none is chosen); None if unconditional."""
        if not self.config.c_dim:
            return None
        rows = self.mapping.w_avg.new_zeros(n, self.config.c_dim)
        if self.label is not None:
            rows[:, self.label] = 1
        return rows

    @property
    def survival_ws(self) -> int:
        """Layers that a survival model reads: all, or those beneath a block that was grown, as the card says."""
        told = self.card.get("survival_ws")
        return told if isinstance(told, int) and 0 < told <= self.config.num_ws else self.config.num_ws

    @property
    def label_note(self) -> str | None:
        """What label is drawn, in words; None if unconditional."""
        if not self.config.c_dim:
            return None
        if self.label is not None:
            return f"the generator is conditional: label {self.label} of {self.config.c_dim} is drawn"
        return (
            f"the generator is conditional, and none of its {self.config.c_dim} labels is chosen: all are taken as 0, "
            "which it may never have seen; choose one with --label"
        )
