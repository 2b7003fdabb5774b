"""Convolutions whose weight gradients are matrix products, for training on a CPU.

Without AVX-512, torch's gradient of the weights of a channels-last convolution takes two to seven times as long as
the convolution (``python -m benchmarks.ops --part convolution``). Here it is a product of matrices with a pixel in
every row,

    w[k] = Σ_p small[p]ᵀ · large[stride·p + k − padding]   for each of the kernel's positions k,

at the rate of BLAS. Convolution, transposed convolution and this product are linear in both arguments, and the
gradients of each are the other two: so are all derivatives of every order. Nothing here is approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import transformed

_TORCH_IS_SLOW = torch.backends.cpu.get_cpu_capability() != "AVX512"
_ROWS = 2048  # pixels multiplied at a time, so that they stay in the cache over all positions of the kernel


class Geometry(NamedTuple):
    """A convolution from ``large`` images of ``height`` × ``width`` to ``small`` ones; transposed, the way back."""

    stride: int
    padding: int
    height: int
    width: int


def conv2d(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """``torch.nn.functional.conv2d`` with zero padding; x [n, c_in, h, w], weight [c_out, c_in, k, k]."""
    if not _pays(x, weight):
        return F.conv2d(x, weight, stride=stride, padding=padding)
    y: Tensor = _Shrink.apply(x, weight, Geometry(stride, padding, x.shape[2], x.shape[3]))
    return y


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``; x [n, c_in, h, w], weight [c_in, c_out, k, k]."""
    if not _pays(x, weight):
        return F.conv_transpose2d(x, weight, stride=stride)
    height, width = ((size - 1) * stride + k for size, k in zip(x.shape[2:], weight.shape[2:]))
    y: Tensor = _Grow.apply(x, weight, Geometry(stride, 0, height, width))
    return y


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Whether torch would be slow: it is as fast on a GPU, with AVX-512, in other layouts and with frozen weights.

    Under autocast the types of inputs and results differ, which is torch's own business.
    """
    return (
        _TORCH_IS_SLOW
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.compiler.is_compiling()
        and not transformed()
    )


class _Shrink(torch.autograd.Function):
    """large, weight → small"""

    @staticmethod
    def forward(ctx: Any, large: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(large, weight)
        ctx.geometry = geometry
        return F.conv2d(large, weight, stride=geometry.stride, padding=geometry.padding)

    @staticmethod
    def backward(ctx: Any, small: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        large, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_large = _Grow.apply(small, weight, ctx.geometry) if wanted[0] else None
        to_weight = _Match.apply(small, large, weight.shape[2:], ctx.geometry) if wanted[1] else None
        return to_large, to_weight, None


class _Grow(torch.autograd.Function):
    """small, weight → large"""

    @staticmethod
    def forward(ctx: Any, small: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(small, weight)
        ctx.geometry = geometry
        stride, padding, *size = geometry
        reached = [(n - 1) * stride - 2 * padding + k for n, k in zip(small.shape[2:], weight.shape[2:])]
        beyond = [whole - n for whole, n in zip(size, reached)]  # pixels of `large` that no step came to
        return F.conv_transpose2d(
            small, weight, stride=stride, padding=padding, output_padding=(beyond[0], beyond[1])
        )

    @staticmethod
    def backward(ctx: Any, large: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        small, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_small = _Shrink.apply(large, weight, ctx.geometry) if wanted[0] else None
        to_weight = _Match.apply(small, large, weight.shape[2:], ctx.geometry) if wanted[1] else None
        return to_small, to_weight, None


class _Match(torch.autograd.Function):
    """small, large → weight"""

    @staticmethod
    def forward(ctx: Any, small: Tensor, large: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
        ctx.save_for_backward(small, large)
        ctx.geometry = geometry
        return _products(small, large, kernel, geometry.stride, geometry.padding)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        small, large = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_small = _Shrink.apply(large, weight, ctx.geometry) if wanted[0] else None
        to_large = _Grow.apply(small, weight, ctx.geometry) if wanted[1] else None
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
