"""How many photographs fit into memory together, and what to say when they do not."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stylegan_surv.errors import InputError
from stylegan_surv.gan import GeneratorConfig
from stylegan_surv.inversion.settings import BATCH

# A projector step keeps so many numbers for every number of the generator's feature maps: both convolutions of a
# block, what their gradients need, LPIPS and L-BFGS. Measured on a CPU: 0.33 GB a photograph at 256 px and published
# widths, whose maps have 15 million numbers; half as much again is kept free.
NUMBERS_PER_FEATURE = 8
BYTES = 4  # of a float32
SHARE = 0.5  # of the free memory that a run may take
CGROUP = Path("/sys/fs/cgroup")


def choose_batch(config: GeneratorConfig, photographs: int, device: torch.device | str = "cpu") -> int:
    """Photographs to compute together where none are asked for: a power of two, 16 at most.

    Parameters
    ----------
    config : GeneratorConfig
        Its resolution and widths tell how much memory a photograph takes.
    photographs : int
        No slot is computed for photographs that are not there.
    device : torch.device or str
        Where they are computed; half of what is free there may be taken.
    """
    fit = SHARE * free_memory(torch.device(device)) / photograph_bytes(config)
    batch = BATCH
    while batch > 1 and (batch > fit or batch // 2 >= photographs):
        batch //= 2
    return batch


def photograph_bytes(config: GeneratorConfig) -> int:
    """Memory in bytes that one photograph takes in a projector step, about."""
    sides = [1 << k for k in range(2, config.resolution.bit_length())]
    return NUMBERS_PER_FEATURE * BYTES * sum(config.channels(side) * side**2 for side in sides)


def free_memory(device: torch.device) -> float:
    """Bytes that a device has left for this process, as far as the system tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    known = [_available(), _cgroup_left(), _limit_left()]
    return min((left for left in known if left is not None), default=float("inf"))


def _available() -> float | None:
    """What Linux counts as available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":") for line in lines)
    return float(values["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in values else None


def _cgroup_left() -> float | None:
    """What a container's limit leaves."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = (CGROUP / "memory.current").read_text().strip()
    except OSError:
        return None
    return float(limit) - float(used) if limit.isdecimal() else None


def _limit_left() -> float | None:
    """What a limit on the address space (``ulimit -v``) leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return float(limit)
    return float(limit - pages * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def explained(batch: int) -> Iterator[None]:
    """Turn every way of running out of memory into one message."""
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        if not is_exhaustion(fault):
            raise
        fewer = (
            f"fewer photographs together (--batch {batch // 2})"
            if batch > 1
            else "a machine with more memory"
        )
        raise InputError(
            f"Memory ran out with {batch} photograph{'s' if batch > 1 else ''} at a time: take {fewer}. The batch "
            "belongs to what a latent is, so that a folder that was begun with another goes on with its own only."
        ) from fault


def is_exhaustion(fault: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    words = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "bad alloc")
    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or any(
        w in str(fault).lower() for w in words
    )
