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
_LARGEST = 2**31 - 1  # mallopt takes an int
_TUNED = "tuned: by tune_allocator(), glibc keeps blocks of any size, in one arena for all threads"

allocator = "system: tune_allocator() has not been called in this process"


def tune_allocator() -> str:
    """Make glibc keep large blocks, in one arena for all threads; call it once, before threads start.

    The command line, `stylegan_surv.embed` and training call it. A program of your own calls it where its process's
    allocator is its own to set: a server with many threads of Python or C code may rather leave it out.
    ``STYLEGAN_SURV_ALLOCATOR=system`` in the environment forbids it. It does nothing where the C library is not
    glibc, or where another allocator is preloaded. `status` repeats what it found.

    Returns
    -------
    str
        Begins with ``tuned`` or, where the allocator is as the system has it, ``system``; then how, or why not.
    """
    global allocator
    if not allocator.startswith("tuned"):
        allocator = _tune()
    return allocator


def _tune() -> str:
    wish = os.environ.get("STYLEGAN_SURV_ALLOCATOR", "tuned")
    if wish not in ("tuned", "system"):  # never a reason that nothing can be run
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
    return _TUNED
