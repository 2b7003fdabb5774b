"""Convolutions on a CPU, faster than torch's.

Those of 3×3 multiply four times for every nine (`cuda_ops.conv3x3`). Without AVX-512, torch's gradient of the weights
of a channels-last convolution takes two to seven times as long as the convolution (``python -m benchmarks.ops --part
convolution``); there it is a product of matrices with a pixel in every row,

    w[k] = Σ_p small[p]ᵀ · large[stride·p + k − padding]   for each of the kernel's positions k,

at the rate of BLAS. Convolution, transposed convolution and this product are linear in both arguments, and the
gradients of each are the other two: so are all derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from cuda_ops import conv3x3, conv3x3_pays, transformed
from cuda_ops._autograd import applied

_SLOW_GRADIENT = torch.backends.cpu.get_cpu_capability() != "AVX512"  # torch's of the weights
_ROWS = 2048  # pixels multiplied at a time, so that they stay in the cache over all positions of the kernel


class Geometry(NamedTuple):
    """A convolution from ``large`` images of ``height`` × ``width`` to ``small`` ones; transposed, the way back."""

    stride: int
    padding: int
    height: int
    width: int


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0
) -> Tensor:
    """``torch.nn.functional.conv2d`` with zero padding; x [n, c_in, h, w], weight [c_out, c_in, k, k], bias [c_out]."""
    geometry = Geometry(stride, padding, x.shape[2], x.shape[3])
    if not _pays(x, weight, geometry):
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    return applied(_Shrink, x, weight, bias, geometry)


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``; x [n, c_in, h, w], weight [c_in, c_out, k, k]."""
    height, width = ((size - 1) * stride + k for size, k in zip(x.shape[2:], weight.shape[2:]))
    geometry = Geometry(stride, 0, height, width)
    if not _pays(x, weight, geometry):
        return F.conv_transpose2d(x, weight, stride=stride)
    return applied(_Grow, x, weight, geometry)


def relu_conv2d(x: Tensor, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """``relu(conv2d(x, weight, bias))``, for fixed weights in one pass."""
    geometry = Geometry(stride, padding, x.shape[2], x.shape[3])
    if not (weight.requires_grad or bias.requires_grad) and _plain(x) and _few_products(x, weight, geometry):
        return applied(_Rectified, x, weight, bias)
    return F.relu(conv2d(x, weight, bias, stride=stride, padding=padding))


def scaled_conv2d(x: Tensor, weight: Tensor, in_scale: Tensor, out_scale: Tensor | None) -> Tensor:
    """``out_scale · conv2d(x · in_scale, weight)`` of the same size; x [n, c_in, h, w], scales [n, channels]."""
    geometry = Geometry(1, weight.shape[-1] // 2, x.shape[2], x.shape[3])
    if not weight.requires_grad and _plain(x) and _few_products(x, weight, geometry):
        return applied(_Scaled, x, weight, in_scale, out_scale, False)
    y = conv2d(x * in_scale[:, :, None, None], weight, padding=geometry.padding)
    return y if out_scale is None else y * out_scale.to(y.dtype)[:, :, None, None]


def _pays(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether torch would be slow: it is as fast on a GPU and in other layouts."""
    return _plain(x) and (
        (_SLOW_GRADIENT and weight.requires_grad and torch.is_grad_enabled())
        or _few_products(x, weight, geometry)
    )


def _plain(x: Tensor) -> bool:
    """Under autocast the types of inputs and results differ, and transforms are torch's own business."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.compiler.is_compiling()
        and not transformed()
    )


def _few_products(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    return geometry.stride == geometry.padding == 1 and conv3x3_pays(x, weight)


class _Scaled(torch.autograd.Function):
    """x, in_scale, out_scale → out_scale · conv(x · in_scale), or with the adjoint convolution; weights are fixed"""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        in_scale: Tensor | None,
        out_scale: Tensor | None,
        adjoint: bool,
    ) -> Tensor:
        y = conv3x3(x, weight, adjoint=adjoint, in_scale=in_scale, out_scale=out_scale)
        kept = y if ctx.needs_input_grad[3] else None
        ctx.save_for_backward(x, weight, in_scale, out_scale, kept)
        ctx.adjoint = adjoint
        return y

    @staticmethod
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, in_scale, out_scale, y = ctx.saved_tensors
        wanted, to_x, to_in, to_out = ctx.needs_input_grad, None, None, None
        if wanted[0] or wanted[2]:
            to_x = applied(_Scaled, to_y, weight, out_scale, None, not ctx.adjoint)
            if wanted[2]:
                to_in = (to_x * x).sum(dim=(2, 3))
            if in_scale is not None:
                to_x = to_x * in_scale[:, :, None, None]
        if wanted[3]:
            to_out = (to_y * y).sum(dim=(2, 3)) / out_scale
        return to_x, None, to_in, to_out, None


class _Rectified(torch.autograd.Function):
    """x → relu(conv(x) + bias); weights and bias are fixed"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = conv3x3(x, weight, bias=bias, relu=True)
        ctx.save_for_backward(weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, to_y: Tensor) -> tuple[Tensor | None, ...]:
        weight, y = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return conv3x3(to_y, weight, adjoint=True, mask=y), None, None
        masked = to_y * (y > 0)
        return applied(_Grow, masked, weight, Geometry(1, 1, y.shape[2], y.shape[3])), None, None


class _Shrink(torch.autograd.Function):
    """large, weight, bias → small"""

    @staticmethod
    def forward(ctx: Any, large: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(large, weight)
        ctx.geometry = geometry
        if _few_products(large, weight, geometry):
            return conv3x3(large, weight, bias=bias)
        return F.conv2d(large, weight, bias, stride=geometry.stride, padding=geometry.padding)

    @staticmethod
    def backward(ctx: Any, small: Tensor) -> tuple[Tensor | None, ...]:
        large, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_large = applied(_Grow, small, weight, ctx.geometry) if wanted[0] else None
        to_weight = applied(_Match, small, large, weight.shape[2:], ctx.geometry) if wanted[1] else None
        return to_large, to_weight, small.sum(dim=(0, 2, 3)) if wanted[2] else None, None


class _Grow(torch.autograd.Function):
    """small, weight → large"""

    @staticmethod
    def forward(ctx: Any, small: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(small, weight)
        ctx.geometry = geometry
        stride, padding, *size = geometry
        if _few_products(small, weight, geometry):
            return conv3x3(small, weight, adjoint=True)
        reached = [(n - 1) * stride - 2 * padding + k for n, k in zip(small.shape[2:], weight.shape[2:])]
        beyond = [whole - n for whole, n in zip(size, reached)]  # pixels of `large` that no step came to
        return F.conv_transpose2d(
            small, weight, stride=stride, padding=padding, output_padding=(beyond[0], beyond[1])
        )

    @staticmethod
    def backward(ctx: Any, large: Tensor) -> tuple[Tensor | None, ...]:
        small, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_small = applied(_Shrink, large, weight, None, ctx.geometry) if wanted[0] else None
        to_weight = applied(_Match, small, large, weight.shape[2:], ctx.geometry) if wanted[1] else None
        return to_small, to_weight, None


class _Match(torch.autograd.Function):
    """small, large → weight"""

    @staticmethod
    def forward(ctx: Any, small: Tensor, large: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
        ctx.save_for_backward(small, large)
        ctx.geometry = geometry
        stride, padding, *_ = geometry
        if _SLOW_GRADIENT:
            return _products(small, large, kernel, stride, padding)
        shape = (small.shape[1], large.shape[1], *kernel)
        to_weight: Tensor = conv2d_weight(large, shape, small, stride=stride, padding=padding)
        return to_weight

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        small, large = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_small = applied(_Shrink, large, weight, None, ctx.geometry) if wanted[0] else None
        to_large = applied(_Grow, small, weight, ctx.geometry) if wanted[1] else None
        return to_small, to_large, None, None


def _products(small: Tensor, large: Tensor, kernel: Sequence[int], stride: int, padding: int) -> Tensor:
    """The weights' gradient [c_small, c_large, kh, kw].

    Every stride-th pixel of ``large`` and all of ``small`` are laid on one grid, wide enough that a step to the
    kernel's position k is a fixed number of rows further; beyond its own size ``small`` is zero there.
    """
    kh, kw = kernel
    grid = (small.shape[2] + (kh - 1) // stride, small.shape[3] + (kw - 1) // stride)
    left = _pixels(small, grid)
    large = F.pad(large, [padding] * 4) if padding else large
    phases = [
        [_pixels(large[:, :, i::stride, j::stride], grid) for j in range(min(stride, kw))]
        for i in range(min(stride, kh))
    ]
    result = small.new_zeros(kh, kw, small.shape[1], large.shape[1])
    end = left.shape[0] - (kh - 1) // stride * grid[1] - (kw - 1) // stride
    for start in range(0, end, _ROWS):
        rows = left[start : min(start + _ROWS, end)].t()
        for y in range(kh):
            for x in range(kw):
                at = start + y // stride * grid[1] + x // stride
                result[y, x].addmm_(rows, phases[y % stride][x % stride][at : at + rows.shape[1]])
    return result.permute(2, 3, 0, 1)


def _pixels(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Images [n, c, h, w] in the upper left corner of ``grid``, as a matrix with a pixel in every row."""
    x = x[:, :, : grid[0], : grid[1]]
    x = F.pad(x, [0, grid[1] - x.shape[3], 0, grid[0] - x.shape[2]])
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
