"""Public resampling functions: arguments are checked here, and the implementation is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cuda_ops import _dispatch, _native, fast_torch, reference
from cuda_ops.reference import Resample

_LONGEST_2D = 8  # a separable filter of at most so many taps runs as one 2-D pass

Padding = int | Sequence[int]
Factor = int | Sequence[int]


def setup_filter(
    taps: Sequence[float] | Sequence[Sequence[float]] | Tensor,
    *,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Make a float32 filter for `upfirdn2d`.

    Parameters
    ----------
    taps : array_like
        One-dimensional taps (a separable filter) or a matrix.
    normalize : bool
        Scale to sum one.
    flip_filter : bool
        Reverse both axes.
    gain : float
        Factor on signal magnitude (a separable filter takes its square root per axis).
    separable : bool, optional
        Return one axis's taps [n] instead of the matrix [n, n]. By default at eight taps and more.
    device : torch.device or str, optional
        Where to put the filter.

    Returns
    -------
    Tensor, shape (n, n) or (n,)

    Examples
    --------
    >>> setup_filter([1, 3, 3, 1]).shape
    torch.Size([4, 4])
    """
    f = torch.as_tensor(taps, dtype=torch.float32, device=device)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"taps must be a non-empty vector or matrix, got shape {tuple(f.shape)}")
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= _LONGEST_2D
    if separable and f.ndim == 2:
        raise ValueError("a filter given as a matrix cannot be made separable; pass its one-dimensional taps")
    if f.ndim == 1 and not separable:
        f = torch.outer(f, f)
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    return f.mul(gain ** (f.ndim / 2))


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: Factor = 1,
    down: Factor = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    *,
    impl: str | None = None,
) -> Tensor:
    """Upsample by zero insertion, filter, downsample, along both image axes.

    Equals ``scipy.signal.upfirdn`` per axis with zero padding and cropping. Differentiable in ``x``
    to any order; the result has the dtype and memory layout of ``x``.

    Parameters
    ----------
    x : Tensor, shape (n, c, h, w)
        Images in float16, bfloat16, float32 or float64.
    f : Tensor, shape (fh, fw) or (n,), or None
        A filter, or the taps of the separable filter ``outer(f, f)``; None is the identity.
    up, down : int or (int, int)
        Rates along both axes or along (x, y), at least 1.
    padding : int, (int, int) or (int, int, int, int)
        Pixels of zeros added to the upsampled image, on all sides, along (x, y), or at (x0, x1, y0, y1).
        Negative numbers crop.
    flip_filter : bool
        Correlate with ``f`` instead of convolving.
    gain : float
        Factor on the result.
    impl : str, optional
        ``"native"``, ``"torch"`` or ``"reference"``; by default the fastest (see ``docs/ops.md``).

    Returns
    -------
    Tensor, shape (n, c, (h*up + y0 + y1 - fh) // down + 1, (w*up + x0 + x1 - fw) // down + 1)

    Raises
    ------
    ValueError
        Wrong shapes, dtypes or rates, or a filter longer than the padded image.
    """
    f = _as_filter(x, f)
    g = _geometry(up, down, padding)
    taps_h, taps_w = (f.shape[0], f.shape[-1])
    if min(g.output_size(x.shape[2], x.shape[3], taps_h, taps_w)) < 1:
        size = (x.shape[2] * g.upy + g.py0 + g.py1, x.shape[3] * g.upx + g.px0 + g.px1)
        raise ValueError(f"the filter {taps_h}x{taps_w} is longer than the padded image {size[0]}x{size[1]}")
    run = {
        "reference": reference.upfirdn2d,
        "torch": fast_torch.upfirdn2d,
        "native": _native.upfirdn2d,
    }[_dispatch.choose("upfirdn2d", x, impl)]
    if f.ndim == 2:
        return run(x, f, g, flip_filter, float(gain))
    if f.shape[0] <= _LONGEST_2D:
        return run(x, torch.outer(f, f), g, flip_filter, float(gain))
    across = Resample(upx=g.upx, downx=g.downx, px0=g.px0, px1=g.px1)
    along = Resample(upy=g.upy, downy=g.downy, py0=g.py0, py1=g.py1)
    each = math.sqrt(abs(gain))  # so that what is kept between the passes is in range wherever the result is
    once = run(x, f[None, :], across, flip_filter, math.copysign(each, gain))
    return run(once, f[:, None], along, flip_filter, each)


def filter2d(
    x: Tensor, f: Tensor, padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Filter, keeping the size; ``padding`` is added to what that takes."""
    fw, fh = f.shape[-1], f.shape[0]
    return upfirdn2d(
        x, f, 1, 1, _plus(padding, fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2), flip_filter, gain
    )


def upsample2d(
    x: Tensor, f: Tensor, up: Factor = 2, padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Enlarge ``up`` times with unchanged brightness, centred on the pixels' centres."""
    (ux, uy), fw, fh = _pair(up, "up"), f.shape[-1], f.shape[0]
    centred = _plus(padding, (fw + ux - 1) // 2, (fw - ux) // 2, (fh + uy - 1) // 2, (fh - uy) // 2)
    return upfirdn2d(x, f, (ux, uy), 1, centred, flip_filter, gain * ux * uy)


def downsample2d(
    x: Tensor, f: Tensor, down: Factor = 2, padding: Padding = 0, flip_filter: bool = False, gain: float = 1.0
) -> Tensor:
    """Shrink ``down`` times, centred on the pixels' centres."""
    (dx, dy), fw, fh = _pair(down, "down"), f.shape[-1], f.shape[0]
    centred = _plus(padding, (fw - dx + 1) // 2, (fw - dx) // 2, (fh - dy + 1) // 2, (fh - dy) // 2)
    return upfirdn2d(x, f, 1, (dx, dy), centred, flip_filter, gain)


def _as_filter(x: Tensor, f: Tensor | None) -> Tensor:
    if x.ndim != 4 or not x.dtype.is_floating_point:
        raise ValueError(f"x must be floating point [n, c, h, w], got {x.dtype} {tuple(x.shape)}")
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    if f is None:
        return torch.ones(1, 1, dtype=accumulate, device=x.device)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"f must be a filter [fh, fw] or [n], got shape {tuple(f.shape)}")
    if f.requires_grad:
        raise ValueError("f is a constant of the operation: gradients to the filter are not defined here")
    if f.device != x.device:
        raise ValueError(f"x is on {x.device} and f on {f.device}: move the filter with f.to(x.device)")
    return f.to(accumulate)


def _geometry(up: Factor, down: Factor, padding: Padding) -> Resample:
    return Resample(*_pair(up, "up"), *_pair(down, "down"), *_sides(padding))


def _pair(value: Factor, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(v, int) or v < 1 for v in pair):
        raise ValueError(f"{name} must be a positive integer or a pair (x, y), got {value!r}")
    return pair[0], pair[1]


def _sides(padding: Padding) -> tuple[int, int, int, int]:
    sides = (padding, padding) if isinstance(padding, int) else tuple(padding)
    if len(sides) == 2:
        sides = (sides[0], sides[0], sides[1], sides[1])
    if len(sides) != 4 or any(not isinstance(v, int) for v in sides):
        raise ValueError(f"padding must be an integer, (x, y) or (x0, x1, y0, y1), got {padding!r}")
    return sides[0], sides[1], sides[2], sides[3]


def _plus(padding: Padding, x0: int, x1: int, y0: int, y1: int) -> tuple[int, int, int, int]:
    a, b, c, d = _sides(padding)
    return a + x0, b + x1, c + y0, d + y1
