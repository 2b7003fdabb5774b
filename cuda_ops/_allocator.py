"""Keep freed memory instead of returning it to the kernel at every large tensor.

glibc maps every block above 32 MiB afresh, so each large activation is page-faulted in again; on a
CPU that costs more than the arithmetic (docs/ops.md has the measurement).
"""

from __future__ import annotations

import ctypes
import os
import platform
import warnings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_LARGEST = 2**31 - 1

allocator = "system"


def tune_allocator() -> str:
    """Make glibc keep large blocks, in one arena for all threads; call before threads start.

    Applied when this package is imported, unless ``STYLEGAN_SURV_ALLOCATOR=system``. Does nothing
    where the C library is not glibc, or where another allocator is preloaded.

    Returns
    -------
    str
        ``"tuned"``, or why the allocator is as the system has it.
    """
    global allocator
    allocator = _tune()
    return allocator


def _tune() -> str:
    wish = os.environ.get("STYLEGAN_SURV_ALLOCATOR", "tuned")
    if wish not in ("tuned", "system"):  # never a reason that nothing can be imported
        warnings.warn(
            f"STYLEGAN_SURV_ALLOCATOR is {wish!r}; expected tuned or system. It is taken for 'tuned'.",
            RuntimeWarning,
            stacklevel=3,
        )
    if wish == "system":
        return "system: STYLEGAN_SURV_ALLOCATOR=system"
    if platform.libc_ver()[0] != "glibc":
        return "system: the C library is not glibc"
    if "malloc" in os.environ.get("LD_PRELOAD", ""):
        return "system: LD_PRELOAD names another allocator"
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    for option, value in ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST), (_M_ARENA_MAX, 1)):
        if mallopt(option, value) != 1:
            return f"system: this glibc refused mallopt({option}, {value})"
    return "tuned"
