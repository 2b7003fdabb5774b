"""Public bias and activation: arguments are checked here, and the implementation is chosen."""

from __future__ import annotations

import math

from torch import Tensor

from cuda_ops import _dispatch, _native, reference
from cuda_ops.reference import ACTIVATIONS


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    impl: str | None = None,
) -> Tensor:
    """``clip(gain * act(x + b), -clamp, clamp)`` in one pass over memory.

    Differentiable to second order by kernels, and to any order otherwise; dtype and memory layout
    of ``x`` are kept.

    Parameters
    ----------
    x : Tensor
        Any shape; float16, bfloat16, float32 or float64.
    b : Tensor or None
        Bias, shape (x.shape[dim],), of the same dtype.
    dim : int
        Axis of the bias.
    act : str
        ``"linear"``, ``"relu"``, ``"lrelu"``, ``"tanh"``, ``"sigmoid"``, ``"elu"``, ``"selu"``,
        ``"softplus"`` or ``"swish"``.
    alpha : float, optional
        Negative slope of lrelu, 0 or more, 0.2 by default; the others have none.
    gain : float, optional
        Positive factor after the activation; by default sqrt(2) for relu, lrelu and swish, else 1.
    clamp : float, optional
        Largest magnitude of the result, after the gain; None for no limit.
    impl : str, optional
        ``"native"``, ``"torch"`` or ``"reference"``; by default the fastest (see ``docs/ops.md``).

    Returns
    -------
    Tensor
        Of the shape, dtype and memory layout of ``x``.

    Raises
    ------
    ValueError
        Unknown activation, wrong bias shape, dtype or device, a negative alpha, or a gain or clamp that is not
        positive.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"x must be floating point, got {x.dtype}")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"dim must be an axis of x, which has {x.ndim}; got {dim}")
    dim %= x.ndim
    if b is not None and (b.shape != (x.shape[dim],) or b.dtype != x.dtype):
        expected = f"[{x.shape[dim]}] {x.dtype}"
        raise ValueError(
            f"b must be {expected}, one per entry of axis {dim} of x; got {list(b.shape)} {b.dtype}"
        )
    if b is not None and b.device != x.device:
        raise ValueError(f"x is on {x.device} and b on {b.device}: move the bias with b.to(x.device)")
    if clamp is not None and not clamp > 0:
        raise ValueError(f"clamp must be positive or None, got {clamp}")
    spec = ACTIVATIONS[act]
    alpha = spec.alpha if alpha is None else float(alpha)
    gain = spec.gain if gain is None else float(gain)
    # the kernels compute the derivative from the result, which must therefore have the sign of x + b
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
    if not 0 < gain < math.inf:
        raise ValueError(f"gain must be finite and positive, got {gain}")
    if _dispatch.choose("bias_act", x, impl) == "native":
        return _native.bias_act(x, b, dim, act, alpha, gain, clamp)
    return reference.bias_act(x, b, dim, act, alpha, gain, clamp)
