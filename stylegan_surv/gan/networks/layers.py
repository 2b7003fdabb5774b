"""What generator, discriminator and encoder are made of: resampling, activation, layers of equalised rate.

Parameter names are those of the common ``G_ema`` layout, so that published checkpoints load.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_ops import bias_act, upfirdn2d
from cuda_ops.convolution import conv2d

LRELU_SLOPE = 0.2  # Karras et al. 2018 (arXiv 1710.10196), appendix A.1
LRELU_GAIN = math.sqrt(2.0)  # keeps the variance behind a rectifier (He et al. 2015, equation 10)
MERGE_GAIN = math.sqrt(0.5)  # the sum of two paths has twice the variance (StyleGAN2, section 4.1)
# of pixel norm (Karras et al. 2018, section 4.2), the minibatch's spread, and demodulation (StyleGAN2, equation 3)
EPS = 1e-8


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
