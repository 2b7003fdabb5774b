"""3×3 convolution of channels-last images on a CPU with 4 multiplications for every 9."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cuda_ops import _dispatch, _native

_LANES = 16  # channels come in multiples of it
_SMALLEST = 4  # pixels a side, and
_LEAST = 2**22  # multiplications, from which on it is faster (benchmarks/ops.py)
_MEASURED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")

# frozen weights → their values when they were transformed, and the transforms, of the convolution and of its adjoint
_kept = WeakTensorKeyDictionary()


def conv3x3_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv3x3` is there for ``x`` [n, c_in, h, w], ``weight`` [c_out, c_in, 3, 3] and faster than torch's.

    Measured with AVX2 and AVX-512; on other processors torch's own convolutions run.
    """
    return (
        _dispatch.mode not in ("torch", "reference")
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and weight.shape[0] % _LANES == weight.shape[1] % _LANES == 0
        and min(x.shape[2:]) >= _SMALLEST
        and weight.numel() * x.shape[0] * x.shape[2] * x.shape[3] >= _LEAST
        and _MEASURED
        and x.is_contiguous(memory_format=torch.channels_last)
        and _dispatch.backend("cpu").library is not None
    )


def conv3x3(
    x: Tensor,
    weight: Tensor,
    *,
    adjoint: bool = False,
    in_scale: Tensor | None = None,
    out_scale: Tensor | None = None,
    bias: Tensor | None = None,
    relu: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """``out_scale · conv2d(x · in_scale, weight, padding=1) + bias`` by Winograd's F(4×4, 3×3), without gradients.

    The points are ±√½ and ±√2, with which the error is at most about twice that of torch's direct sums.

    Parameters
    ----------
    x : Tensor, shape (n, c_in, h, w)
        Float32, best channels last.
    weight : Tensor, shape (c_out, c_in, 3, 3)
        Channels in multiples of 16. If it needs no gradient, its transform is kept for as long as its values stay:
        four times its memory, and as much for the adjoint's.
    adjoint : bool
        The adjoint instead (the gradient in x): from [n, c_out, h, w] to [n, c_in, h, w].
    in_scale, out_scale : Tensor, shape (n, channels), optional
        Of the input and of the result.
    bias : Tensor, shape (channels of the result,), optional
    relu : bool
        Negative results become 0.
    mask : Tensor, shape of x, optional
        ``x`` counts only where this is above 0 (the gradient of `relu`).

    Returns
    -------
    Tensor
        Channels last.

    Raises
    ------
    ValueError
        Other shapes or types.
    RuntimeError
        There are no compiled kernels.
    """
    n, channels = x.shape[0], tuple(weight.shape[:2])
    k, c = channels[::-1] if adjoint else channels
    wanted: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("x", x, (n, c, *x.shape[2:])),
        ("weight", weight, (*channels, 3, 3)),
        ("mask", mask, (n, c, *x.shape[2:])),
        ("in_scale", in_scale, (n, c)),
        ("out_scale", out_scale, (n, k)),
        ("bias", bias, (k,)),
    ]
    for name, part, shape in wanted:
        if part is not None and (part.shape != shape or part.dtype != torch.float32 or part.is_cuda):
            raise ValueError(
                f"{name} is {part.dtype} {list(part.shape)} on {part.device}; expected float32 {list(shape)} on cpu"
            )
    if c % _LANES or k % _LANES:
        raise ValueError(f"there are {c} and {k} channels; expected multiples of {_LANES}")
    if _dispatch.backend("cpu").library is None:
        raise RuntimeError("there are no compiled kernels for cpu")
    scales = (None if part is None else part.contiguous() for part in (in_scale, out_scale, bias))
    return _native.conv3x3(x, _transformed(weight, adjoint), *scales, relu, mask)


def _transformed(weight: Tensor, adjoint: bool) -> Tensor:
    if weight.requires_grad:
        return _native.conv3x3_weights(weight, adjoint)
    made: dict[bool, Tensor]
    before, made = _kept.get(weight, (None, {}))
    if before is None or not torch.equal(before, weight):
        made = {}
        _kept[weight] = weight.clone(), made
    if adjoint not in made:
        made[adjoint] = _native.conv3x3_weights(weight, adjoint)
    return made[adjoint]
