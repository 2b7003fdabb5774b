"""What the two operations mean, written for reading: plain torch, any device, any order of gradient.

Everything else in this package is a faster way to the same numbers. The resampler is
``scipy.signal.upfirdn`` along both axes, with zero padding and cropping.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Resample(NamedTuple):
    """Integer geometry of a resampler: rates and padding per axis; negative padding crops."""

    upx: int = 1
    upy: int = 1
    downx: int = 1
    downy: int = 1
    px0: int = 0
    px1: int = 0
    py0: int = 0
    py1: int = 0

    def output_size(self, in_h: int, in_w: int, taps_h: int, taps_w: int) -> tuple[int, int]:
        """Height and width of the result."""
        out_h = (in_h * self.upy + self.py0 + self.py1 - taps_h) // self.downy + 1
        out_w = (in_w * self.upx + self.px0 + self.px1 - taps_w) // self.downx + 1
        return out_h, out_w

    def adjoint(self, in_h: int, in_w: int, taps_h: int, taps_w: int) -> Resample:
        """Geometry of the transposed operator: rates exchanged, filter reversed (docs/ops.md)."""
        out_h, out_w = self.output_size(in_h, in_w, taps_h, taps_w)
        return Resample(
            upx=self.downx,
            upy=self.downy,
            downx=self.upx,
            downy=self.upy,
            px0=taps_w - 1 - self.px0,
            px1=in_w * self.upx - out_w * self.downx + self.px0 - self.upx + 1,
            py0=taps_h - 1 - self.py0,
            py1=in_h * self.upy - out_h * self.downy + self.py0 - self.upy + 1,
        )


def upfirdn2d(x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float) -> Tensor:
    """Insert zeros, pad or crop, convolve, keep every n-th sample; ``f`` is [fh, fw]."""
    g = geometry
    batch, channels, in_h, in_w = x.shape
    x = F.pad(x.reshape(batch, channels, in_h, 1, in_w, 1), (0, g.upx - 1, 0, 0, 0, g.upy - 1))
    x = pad(x.reshape(batch, channels, in_h * g.upy, in_w * g.upx), g.px0, g.px1, g.py0, g.py1)
    kernel = (f if flip_filter else f.flip([0, 1])).to(x.dtype) * gain  # conv2d correlates
    x = F.conv2d(x, kernel.expand(channels, 1, *f.shape), groups=channels)
    return x[:, :, :: g.downy, :: g.downx]


def pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Zero padding where positive, then cropping where negative (a crop may reach into the zeros)."""
    sides = (left, right, top, bottom)
    if max(sides) > 0:
        x = F.pad(x, [max(side, 0) for side in sides])
    return F.pad(x, [min(side, 0) for side in sides]) if min(sides) < 0 else x


class Activation(NamedTuple):
    """An element-wise function with the gain that keeps the variance of a normal input near one."""

    code: int  # the number that the kernels know it by
    alpha: float  # default of the one shape parameter, 0 where there is none
    gain: float  # default gain (He initialisation: sqrt(2) for the rectifiers)
    saves: str  # what its derivatives are computed from: the input "x" or the output "y"
    function: Callable[[Tensor, float], Tensor]


_SQRT2 = math.sqrt(2.0)

ACTIVATIONS = {
    "linear": Activation(1, 0.0, 1.0, "y", lambda x, alpha: x),
    "relu": Activation(2, 0.0, _SQRT2, "y", lambda x, alpha: F.relu(x)),
    "lrelu": Activation(3, 0.2, _SQRT2, "y", lambda x, alpha: F.leaky_relu(x, alpha)),
    "tanh": Activation(4, 0.0, 1.0, "y", lambda x, alpha: torch.tanh(x)),
    "sigmoid": Activation(5, 0.0, 1.0, "y", lambda x, alpha: torch.sigmoid(x)),
    "elu": Activation(6, 0.0, 1.0, "y", lambda x, alpha: F.elu(x)),
    "selu": Activation(7, 0.0, 1.0, "y", lambda x, alpha: F.selu(x)),
    "softplus": Activation(8, 0.0, 1.0, "y", lambda x, alpha: F.softplus(x, threshold=40.0)),
    "swish": Activation(9, 0.0, _SQRT2, "x", lambda x, alpha: torch.sigmoid(x) * x),
}


def bias_act(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> Tensor:
    """``clip(gain * act(x + b), -clamp, clamp)`` with the bias along axis ``dim``."""
    if b is not None:
        x = x + b.reshape([-1 if axis == dim else 1 for axis in range(x.ndim)])
    x = ACTIVATIONS[act].function(x, alpha)
    if gain != 1:
        x = x * gain
    unlimited = clamp is None or clamp > torch.finfo(x.dtype).max
    return x if unlimited else x.clamp(-clamp, clamp)  # type: ignore[operator]
