"""The compiled operations as torch operations: schemas, shapes and gradients; kernels come from `_build`.

Every order of derivative is an operation of its own, so that double backward and `torch.compile` see
plain operations all the way. upfirdn2d needs one: its adjoint is itself (docs/ops.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cuda_ops.reference import ACTIVATIONS, Resample

NAMESPACE = "cuda_ops"

_GEOMETRY = (
    "int upx, int upy, int downx, int downy, int px0, int px1, int py0, int py1, bool flip, float gain"
)
_RULE = "Tensor? b, int dim, int act, float alpha, float gain, float clamp"
_BY_CODE = {spec.code: spec for spec in ACTIVATIONS.values()}
_CURVED = {ACTIVATIONS[name].code for name in ("tanh", "sigmoid", "elu", "selu", "softplus", "swish")}

Gradients = tuple[Tensor | None, ...]


def define(namespace: str = NAMESPACE) -> None:
    """Register the operations' schemas, shape functions and gradients under ``namespace``."""
    for name, arguments in (
        ("upfirdn2d", f"Tensor x, Tensor f, {_GEOMETRY}"),
        ("bias_act", f"Tensor x, {_RULE}"),
        ("bias_act_grad", f"Tensor dy, Tensor saved, {_RULE}"),
        ("bias_act_grad2", f"Tensor ddx, Tensor dy, Tensor saved, {_RULE}"),
    ):
        schema = f"({arguments}) -> Tensor"
        torch.library.define(f"{namespace}::{name}", schema, tags=torch.Tag.pt2_compliant_tag)
    _define_upfirdn2d(namespace)
    _define_bias_act(namespace)


def _define_upfirdn2d(namespace: str) -> None:
    name = f"{namespace}::upfirdn2d"

    def fake(x: Tensor, f: Tensor, *rest: Any) -> Tensor:
        size = Resample(*rest[:8]).output_size(x.shape[2], x.shape[3], f.shape[0], f.shape[1])
        last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(
            x.shape[0], x.shape[1], *size, dtype=x.dtype, device=x.device, memory_format=layout
        )

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, f, *rest = inputs
        ctx.save_for_backward(f)
        ctx.geometry, ctx.size, (ctx.flip, ctx.gain) = Resample(*rest[:8]), x.shape[2:], rest[8:]

    def backward(ctx: Any, dy: Tensor) -> Gradients:
        (f,) = ctx.saved_tensors
        adjoint = ctx.geometry.adjoint(*ctx.size, *f.shape)
        dx = _op(namespace, "upfirdn2d")(dy, f, *adjoint, not ctx.flip, ctx.gain)
        return (dx, *[None] * 11)

    torch.library.register_fake(name, fake)
    torch.library.register_autograd(name, backward, setup_context=setup)


def _define_bias_act(namespace: str) -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, b, ctx.dim, ctx.act, *ctx.rest = inputs
        from_x = _BY_CODE[ctx.act].saves == "x"
        ctx.save_for_backward(x if from_x else output, b if from_x else None)

    def backward(ctx: Any, dy: Tensor) -> Gradients:
        saved, b = ctx.saved_tensors
        dx = _op(namespace, "bias_act_grad")(dy, saved, b, ctx.dim, ctx.act, *ctx.rest)
        return dx, _sum_to_bias(dx, ctx.dim) if ctx.needs_input_grad[1] else None, *[None] * 5

    def setup_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dy, saved, b, ctx.dim, ctx.act, *ctx.rest = inputs
        ctx.save_for_backward(dy, saved, b)

    def backward_grad(ctx: Any, ddx: Tensor) -> Gradients:
        dy, saved, b = ctx.saved_tensors
        rest = (saved, b, ctx.dim, ctx.act, *ctx.rest)
        to_dy = _op(namespace, "bias_act_grad")(ddx, *rest)
        if ctx.act not in _CURVED:
            return to_dy, *[None] * 7
        to_saved = _op(namespace, "bias_act_grad2")(ddx, dy, *rest)
        return to_dy, to_saved, None if b is None else _sum_to_bias(to_saved, ctx.dim), *[None] * 5

    def setup_grad2(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ddx, dy, saved, b, ctx.dim, ctx.act, *ctx.rest = inputs
        ctx.save_for_backward(ddx, dy, saved, b)

    def backward_grad2(ctx: Any, g: Tensor) -> Gradients:
        ddx, dy, saved, b = ctx.saved_tensors
        rest = (saved, b, ctx.dim, ctx.act, *ctx.rest)
        again = _op(namespace, "bias_act_grad2")
        to_saved = g * ddx * dy * _third(*rest)
        to_b = None if b is None else _sum_to_bias(to_saved, ctx.dim)
        return again(g, dy, *rest), again(ddx, g, *rest), to_saved, to_b, *[None] * 5

    like_first: Callable[..., Tensor] = lambda x, *rest: torch.empty_like(x)  # noqa: E731
    torch.library.register_fake(f"{namespace}::bias_act", like_first)
    torch.library.register_fake(f"{namespace}::bias_act_grad", lambda dy, *rest: torch.empty_like(rest[0]))
    torch.library.register_fake(
        f"{namespace}::bias_act_grad2", lambda ddx, dy, *rest: torch.empty_like(rest[0])
    )
    torch.library.register_autograd(f"{namespace}::bias_act", backward, setup_context=setup)
    torch.library.register_autograd(f"{namespace}::bias_act_grad", backward_grad, setup_context=setup_grad)
    torch.library.register_autograd(f"{namespace}::bias_act_grad2", backward_grad2, setup_context=setup_grad2)


def _third(
    saved: Tensor, b: Tensor | None, dim: int, act: int, alpha: float, gain: float, clamp: float
) -> Tensor:
    """Derivative of the second-order factor in what was saved, in plain torch: any higher order follows."""
    if act != ACTIVATIONS["swish"].code:
        u = saved / gain
        curve = {
            ACTIVATIONS["tanh"].code: lambda: torch.full_like(u, -2.0),
            ACTIVATIONS["sigmoid"].code: lambda: torch.full_like(u, -2.0),
            ACTIVATIONS["softplus"].code: lambda: -torch.exp(-u),
        }.get(act, lambda: torch.zeros_like(u))()
        # a clipped result holds the limit rounded to its dtype
        limit = torch.full((), clamp, dtype=torch.float64, device=saved.device).to(saved.dtype)
        return torch.where(saved.abs() >= limit, 0.0, curve / gain)
    x = saved if b is None else saved + b.reshape([-1 if axis == dim else 1 for axis in range(saved.ndim)])
    s = torch.sigmoid(x)
    curve = gain * s * (1 - s) * (3 * (1 - 2 * s) + x * (1 - 6 * s + 6 * s * s))
    return torch.where((gain * x * s).abs() >= clamp, 0.0, curve)


def _sum_to_bias(dx: Tensor, dim: int) -> Tensor:
    others = [axis for axis in range(dx.ndim) if axis != dim]
    return dx.sum(others) if others else dx  # the sum over no axes is torch's sum over all


def _op(namespace: str, name: str) -> Any:
    return getattr(getattr(torch.ops, namespace), name).default


def _define_conv3x3() -> None:
    """Convolution on a CPU; its gradients are put together by `cuda_ops.convolution`."""
    others = "Tensor? in_scale, Tensor? out_scale, Tensor? bias, bool relu, Tensor? mask"
    torch.library.define(f"{NAMESPACE}::conv3x3_weights", "(Tensor w, bool adjoint) -> Tensor")
    torch.library.define(f"{NAMESPACE}::conv3x3", f"(Tensor x, Tensor u, {others}) -> Tensor")


def conv3x3_weights(weight: Tensor, adjoint: bool) -> Tensor:
    """Transformed weights [36, c_in, c_out] of ``weight`` [c_out, c_in, 3, 3], or of its adjoint."""
    result: Tensor = _op(NAMESPACE, "conv3x3_weights")(weight, adjoint)
    return result


def conv3x3(x: Tensor, u: Tensor, *rest: Tensor | bool | None) -> Tensor:
    """The convolution with transformed weights; ``rest`` as in the schema."""
    result: Tensor = _op(NAMESPACE, "conv3x3")(x, u, *rest)
    return result


def upfirdn2d(
    x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float, namespace: str = NAMESPACE
) -> Tensor:
    """Run the compiled resampler; same arguments as the reference."""
    result: Tensor = _op(namespace, "upfirdn2d")(x, f, *geometry, flip_filter, gain)
    return result


def bias_act(
    x: Tensor,
    b: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    namespace: str = NAMESPACE,
) -> Tensor:
    """Run the compiled bias and activation; same arguments as the reference."""
    limit = float("nan") if clamp is None else float(clamp)
    result: Tensor = _op(namespace, "bias_act")(x, b, dim, ACTIVATIONS[act].code, alpha, gain, limit)
    return result


define()
_define_conv3x3()
