"""Which implementation a call runs on."""

from __future__ import annotations

import os

from torch import Tensor

from cuda_ops.reference import Resample

MODES = ("auto", "native", "torch", "reference", "require")


def _mode_from_environment() -> str:
    mode = os.environ.get("STYLEGAN_SURV_OPS", "auto")
    if mode not in MODES:
        raise ValueError(f"STYLEGAN_SURV_OPS must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


mode = _mode_from_environment()


def choose(op: str, x: Tensor, impl: str | None, act: str = "") -> str:
    """Name the implementation for this call: ``native``, ``torch`` or ``reference``."""
    if impl is not None:
        if impl not in ("native", "torch", "reference"):
            raise ValueError(f"impl must be native, torch or reference, got {impl!r}")
        return impl
    return "reference" if mode == "reference" else "torch"


def native_upfirdn2d(x: Tensor, f: Tensor, geometry: Resample, flip_filter: bool, gain: float) -> Tensor:
    """Run the compiled kernel."""
    raise RuntimeError("the native kernels are not built")


def native_bias_act(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> Tensor:
    """Run the compiled kernel."""
    raise RuntimeError("the native kernels are not built")
