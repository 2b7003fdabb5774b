"""Importing sets nothing in the host's process; one documented call does, and the status tells which."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()
HAS_MALLINFO2 = GLIBC[0] == "glibc" and tuple(map(int, GLIBC[1].split("."))) >= (2, 33)

# how many blocks glibc maps afresh (mallinfo2().hblks) for 64 MiB
PROBE = """
import ctypes, sys
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]
libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Info
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def mapped():
    before = libc.mallinfo2().hblks
    block = libc.malloc(64 << 20)
    added = libc.mallinfo2().hblks - before
    libc.free(block)
    return added
import cuda_ops
light = "torch" not in sys.modules
cuda_ops.bias_act  # with torch, and all that it brings
print(light, mapped(), cuda_ops.tune_allocator().split(":")[0], mapped(), cuda_ops.status(build=False).allocator)
"""


def probe(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "STYLEGAN_SURV_ALLOCATOR": "tuned", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split(maxsplit=4)


@pytest.mark.skipif(not HAS_MALLINFO2, reason="mallinfo2, by which this is seen, came with glibc 2.33")
def test_import_leaves_the_allocator_alone_and_the_call_sets_it():
    assert probe()[:4] == ["True", "1", "tuned", "0"]


@pytest.mark.skipif(not HAS_MALLINFO2, reason="mallinfo2, by which this is seen, came with glibc 2.33")
def test_the_environment_forbids_it():
    *found, status = probe(STYLEGAN_SURV_ALLOCATOR="system")
    assert found == ["True", "1", "system", "1"]
    assert status.strip() == "system: STYLEGAN_SURV_ALLOCATOR=system"


def test_status_says_that_nobody_has_called():
    code = "import cuda_ops; print(cuda_ops.status(build=False).allocator)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tune_allocator() has not been called" in done.stdout
