"""Which implementation a call runs on, and why."""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

MODES = ("auto", "native", "torch", "reference", "require")
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def _mode_from_environment() -> str:
    mode = os.environ.get("STYLEGAN_SURV_OPS", "auto")
    if mode in MODES:
        return mode
    warnings.warn(  # never a reason that nothing can be imported
        f"STYLEGAN_SURV_OPS is {mode!r}; expected one of {', '.join(MODES)}. It is taken for 'auto'.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "auto"


mode = _mode_from_environment()


@dataclass(frozen=True)
class Backend:
    """State of the compiled kernels for one kind of device."""

    device: str
    library: Path | None
    reason: str  # why there is no library, else ""


_backends: dict[str, Backend] = {}
_loaded: set[str] = set()
_lock = threading.Lock()


def backend(device: str) -> Backend:
    """Load the kernels for ``cpu`` or ``cuda``, building them at the first use; warn once if that fails."""
    if device not in _backends:
        with _lock:
            if device not in _backends:
                _backends[device] = _load(device)
    return _backends[device]


def forget() -> None:
    """Look for the kernels again at the next use."""
    _backends.clear()


def _load(device: str) -> Backend:
    try:
        from cuda_ops import _build, _native  # noqa: F401  (the schemas come before the kernels)

        library = _build.build(_build.cpu_plan() if device == "cpu" else _build.cuda_plan())
        if device not in _loaded:  # a process can register kernels only once
            torch.ops.load_library(str(library))
            _loaded.add(device)
        return Backend(device, library, "")
    except (ImportError, OSError, RuntimeError) as problem:
        cause = str(problem) or type(problem).__name__
        if mode == "require":
            raise RuntimeError(
                f"STYLEGAN_SURV_OPS=require, but there are no {device} kernels: {cause}"
            ) from problem
        warnings.warn(
            f"cuda_ops runs on torch's own operations on {device}, which is slower: {cause}\n"
            "`stylegan-surv doctor` tells more; STYLEGAN_SURV_OPS=torch silences this.",
            RuntimeWarning,
            stacklevel=4,
        )
        return Backend(device, None, cause)


def _native_available(device: str) -> bool:
    return device in ("cpu", "cuda") and backend(device).library is not None


# what torch.compiler.assume_constant_result does, without the second that its import of dynamo takes
_native_available._dynamo_marked_constant = True  # type: ignore[attr-defined]


def transformed() -> bool:
    """Whether torch is in a transform or in forward mode, which only its own operations know how to follow."""
    if torch.compiler.is_compiling():
        return False
    active: bool = torch._C._are_functorch_transforms_active()
    return active or torch.autograd.forward_ad._current_level >= 0


def choose(op: str, x: Tensor, impl: str | None) -> str:
    """Name the implementation for this call: ``native``, ``torch`` or ``reference``."""
    if impl is not None:
        if impl not in ("native", "torch", "reference"):
            raise ValueError(f"impl must be native, torch or reference, got {impl!r}")
        if impl == "native" and not _native_available(x.device.type):
            raise RuntimeError(f"there are no compiled kernels for {x.device.type}")
        return impl
    if mode in ("reference", "torch"):
        return mode
    if transformed():
        return "torch"
    if x.dtype not in _DTYPES or not _native_available(x.device.type):
        return "torch"
    if mode == "auto" and op == "bias_act" and x.device.type == "cpu" and x.numel() < _LEAST_BIAS_ACT:
        return "torch"
    return "native"


# Elements on a CPU: below, three torch calls cost less than one custom operation (benchmarks/ops.py). The rows of
# upfirdn2d are never behind torch's convolutions beyond noise, with AVX2 or AVX-512, in either layout.
_LEAST_BIAS_ACT = 8192
