"""The resampler as torch's own strided convolutions: no zeros are multiplied, nothing is compiled.

Decimation is a strided convolution; zero insertion is a transposed one. Numerically this is the
reference with the sums in another order, three to eight times faster on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import _dispatch
from cuda_ops._autograd import applied
from cuda_ops.reference import Resample, pad


def upfirdn2d(x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float) -> Tensor:
    """Resample ``x`` [n, c, h, w] by ``f`` [fh, fw]; same arguments and result as the reference."""
    ours = x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if ours and not _dispatch.transformed():
        return applied(_Resampler, x, f, geometry, flip_filter, gain)
    return _resample(x, f, geometry, flip_filter, gain)


class _Resampler(torch.autograd.Function):
    """The adjoint as gradient, at every order: torch's second derivative of a depthwise convolution takes
    ten to a hundred times as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float) -> Tensor:
        ctx.save_for_backward(f)
        ctx.size, ctx.geometry, ctx.flip_filter, ctx.gain = x.shape[2:], geometry, flip_filter, gain
        return _resample(x, f, geometry, flip_filter, gain)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None, None]:
        (f,) = ctx.saved_tensors
        adjoint = ctx.geometry.adjoint(*ctx.size, *f.shape)
        return upfirdn2d(dy, f, adjoint, not ctx.flip_filter, ctx.gain), None, None, None, None


def _resample(x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float) -> Tensor:
    g = geometry
    if x.dtype in (torch.float16, torch.bfloat16) and x.device.type == "cpu":
        return _resample(x.float(), f, geometry, flip_filter, gain).to(x.dtype)  # accumulate in float32
    out_h, out_w = g.output_size(x.shape[2], x.shape[3], f.shape[0], f.shape[1])
    if x.numel() * out_h * out_w == 0:
        return x.new_zeros(x.shape[0], x.shape[1], out_h, out_w)
    if g.upx == g.upy == 1:
        return _decimate(x, f if flip_filter else f.flip([0, 1]), g, gain)
    return _interpolate(x, f.flip([0, 1]) if flip_filter else f, g, gain, out_h, out_w)


def _decimate(x: Tensor, kernel: Tensor, g: Resample, gain: float) -> Tensor:
    padding = (0, 0)
    if g.px0 == g.px1 >= 0 and g.py0 == g.py1 >= 0:
        padding = (g.py0, g.px0)
    else:
        x = pad(x, g.px0, g.px1, g.py0, g.py1)
    return F.conv2d(
        x, _depthwise(x, kernel, gain), stride=(g.downy, g.downx), padding=padding, groups=x.shape[1]
    )


def _interpolate(x: Tensor, kernel: Tensor, g: Resample, gain: float, out_h: int, out_w: int) -> Tensor:
    top, crop_y, extra_y, bottom = _window(x.shape[2], g.upy, g.downy, g.py0, kernel.shape[0], out_h)
    left, crop_x, extra_x, right = _window(x.shape[3], g.upx, g.downx, g.px0, kernel.shape[1], out_w)
    y = F.conv_transpose2d(
        x,
        _depthwise(x, kernel, gain),
        stride=(g.upy, g.upx),
        padding=(crop_y, crop_x),
        output_padding=(extra_y, extra_x),
        groups=x.shape[1],
    )
    if any((left, right, top, bottom)):
        y = pad(y, left, right, top, bottom)
    return y[:, :, :: g.downy, :: g.downx] if g.downx * g.downy > 1 else y


def _window(size: int, up: int, down: int, p0: int, taps: int, out: int) -> tuple[int, int, int, int]:
    """Cut our samples from a transposed convolution of length ``(size - 1) * up + taps``.

    Ours begin at ``taps - 1 - p0``. Torch crops both ends alike, less ``extra < up`` at the far one; what
    that cannot do is left to padding. Returns padding before, crop, extra, padding after.
    """
    start, length, full = taps - 1 - p0, (out - 1) * down + 1, (size - 1) * up + taps
    surplus = full - start - length
    crop = max(0, min(start, surplus + up - 1))
    extra = min(max(crop - surplus, 0), up - 1)
    return crop - start, crop, extra, start + length - (full - crop + extra)


def _depthwise(x: Tensor, kernel: Tensor, gain: float) -> Tensor:
    return (kernel * gain).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
