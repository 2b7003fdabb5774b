"""`upfirdn2d` and `bias_act`, the operations that StyleGAN2 spends its memory traffic on; `conv3x3` for CPUs.

Nothing happens at import: nothing is compiled, no setting of the process is changed, and torch comes with the first
operation that is used. The functions run on any device; where compiled kernels are there and faster, they are used;
`status` tells which, and why. A program that may set its own allocator calls `tune_allocator` once, at its start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuda_ops._allocator import tune_allocator
    from cuda_ops._bias_act import bias_act
    from cuda_ops._conv3x3 import conv3x3, conv3x3_pays
    from cuda_ops._dispatch import transformed
    from cuda_ops._status import Status, rebuild, status
    from cuda_ops._upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

_WHERE = {
    "tune_allocator": "_allocator",
    "bias_act": "_bias_act",
    "conv3x3": "_conv3x3",
    "conv3x3_pays": "_conv3x3",
    "transformed": "_dispatch",
    "Status": "_status",
    "rebuild": "_status",
    "status": "_status",
    "downsample2d": "_upfirdn2d",
    "filter2d": "_upfirdn2d",
    "setup_filter": "_upfirdn2d",
    "upfirdn2d": "_upfirdn2d",
    "upsample2d": "_upfirdn2d",
}

__all__ = [
    "Status",
    "bias_act",
    "conv3x3",
    "conv3x3_pays",
    "downsample2d",
    "filter2d",
    "rebuild",
    "setup_filter",
    "status",
    "transformed",
    "tune_allocator",
    "upfirdn2d",
    "upsample2d",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
