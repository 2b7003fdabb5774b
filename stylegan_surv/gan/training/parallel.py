"""Several training processes that act as one; without torch.distributed every function is the identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stylegan_surv.errors import InputError


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def session(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; yields this process's device.

    Raises
    ------
    InputError
        If torch has no such device here.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise InputError(
            f"the device {device!r} cannot be used here ({str(fault).splitlines()[0]}): expected cpu or, with a GPU "
            "and a torch built for it, cuda"
        ) from fault
    if not several:
        yield device
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if _active() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _active() else 1


def barrier() -> None:
    """Wait for all processes."""
    if _active():
        dist.barrier()


def digest_of_names(names: Iterable[str]) -> str:
    """A short hash of a list of names."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


@torch.no_grad()
def share(networks: Iterable[nn.Module]) -> None:
    """Give all processes the first one's parameters and buffers."""
    if _active():
        for net in networks:
            for tensor in net.state_dict().values():
                dense = tensor.contiguous()  # gloo sends no others
                dist.broadcast(dense, src=0)
                tensor.copy_(dense)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of all processes, in one message; every process has them for the same parameters."""
    graded = [p for p in parameters if p.grad is not None]
    if not _active() or not graded:
        return
    flat = torch.cat([p.grad.flatten() for p in graded if p.grad is not None])
    dist.all_reduce(flat)
    for p, part in zip(graded, flat.split([p.numel() for p in graded])):
        p.grad = part.view_as(p).clone()


def mean_terms(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars of the same names over all processes."""
    if not _active():
        return dict(terms)
    flat = torch.stack([v.double() for v in terms.values()])
    dist.all_reduce(flat)
    return dict(zip(terms, flat / world()))


def gather_in_order(parts: Mapping[int, Tensor], total: int) -> Tensor:
    """Concatenate what the processes hold under numbers 0 … total − 1; every part has the same shape."""
    if not _active():
        return torch.cat([parts[i] for i in range(total)])
    like = next(iter(parts.values()))
    stacked = like.new_zeros(total, *like.shape)
    for i, part in parts.items():
        stacked[i] = part
    dist.all_reduce(stacked)
    return stacked.flatten(0, 1)


def agree(flag: bool) -> bool:
    """Whether any process says so; all get the same answer."""
    if not _active():
        return flag
    vote = torch.tensor(float(flag))
    if dist.get_backend() == "nccl":
        vote = vote.cuda()
    dist.all_reduce(vote, dist.ReduceOp.MAX)
    return bool(vote > 0)
