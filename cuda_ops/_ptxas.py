"""What nvcc's assembler says of the compiled kernels: registers, spills and shared memory."""

from __future__ import annotations

import re
from typing import NamedTuple


class Usage(NamedTuple):
    """Resources of one kernel on one architecture; ``spilled`` and ``shared`` in bytes."""

    architecture: str
    kernel: str
    registers: int
    spilled: int
    shared: int


def usage(log: str) -> list[Usage]:
    """Every kernel that ``ptxas -v`` reports on."""
    found = []
    for part in log.split("Compiling entry function")[1:]:
        kernel, architecture = _groups(r"'(\w+)' for 'sm_(\w+)'", part)
        stores, loads = _groups(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        (registers,) = _groups(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        spilled = int(stores) + int(loads)
        found.append(
            Usage(architecture, kernel, int(registers), spilled, int(shared.group(1)) if shared else 0)
        )
    return found


def _groups(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"ptxas reports in another form: no {pattern!r} in {text[:200]!r}")
    return match.groups()
