"""A training state is a named list of objects: networks, optimisers, tensors, numbers. Saved whole, loaded exactly.

One safetensors file holds every tensor under ``object/key``; its metadata holds the numbers as JSON. A full disk or a
kill at any moment leaves the old file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from stylegan_surv._files import write_tensors
from stylegan_surv.errors import InputError

FORMAT = "1"  # of the file
Stateful = nn.Module | Optimizer | Tensor


def tensors_of(thing: Stateful) -> dict[str, Tensor]:
    """The tensors of a network, an optimiser or a tensor, by name."""
    if isinstance(thing, Tensor):
        return {"value": thing}
    if isinstance(thing, nn.Module):
        return dict(thing.state_dict())
    slots = thing.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, slot in slots.items() for k, v in slot.items()}


def _restore(name: str, thing: Stateful, tensors: dict[str, Tensor]) -> None:
    if isinstance(thing, Tensor):
        thing.copy_(tensors["value"])
    elif isinstance(thing, nn.Module):
        thing.load_state_dict(tensors)
    else:
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            i, field = key.split(".", 1)
            slots.setdefault(int(i), {})[field] = value
        thing.load_state_dict({"state": slots, "param_groups": thing.state_dict()["param_groups"]})


def save_state(path: Path, objects: Mapping[str, Stateful], numbers: Mapping[str, Any]) -> None:
    """Write all of ``objects`` and ``numbers`` (JSON values) to one file, atomically.

    Raises
    ------
    InputError
        If the disk is full or not writable; the previous file is untouched.
    """
    # a clone: safetensors refuses tensors that share memory, and drops no strides
    flat = {
        f"{name}/{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, thing in objects.items()
        for key, value in tensors_of(thing).items()
    }
    write_tensors(path, flat, {"format": FORMAT, "numbers": json.dumps(dict(numbers))})


def _numbers(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The numbers in a state's metadata, if it is of this version's format."""
    found = (metadata or {}).get("format")
    if found != FORMAT:
        raise InputError(
            f"{path} is {'no training state' if metadata is None else f'a training state of format {found}'}; this "
            f"version reads format {FORMAT}: finish the run with the version that began it, or start a new folder"
        )
    numbers: dict[str, Any] = json.loads((metadata or {})["numbers"])
    return numbers


def read_numbers(path: Path) -> dict[str, Any]:
    """The numbers of a state, without its tensors.

    Raises
    ------
    InputError
        If the file is damaged, or of another version's format.
    """
    try:
        with safe_open(path, "pt") as file:
            return _numbers(path, file.metadata())
    except InputError:
        raise
    except Exception as fault:
        raise InputError(f"{path} is no training state ({fault}): start a new folder") from fault


@torch.no_grad()
def load_state(path: Path, objects: Mapping[str, Stateful]) -> dict[str, Any]:
    """Fill ``objects`` from the file and return its numbers.

    Raises
    ------
    InputError
        If the file is of another run (other objects or shapes) or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            numbers = _numbers(path, file.metadata())
            parts: dict[str, dict[str, Tensor]] = {}
            for full in file.keys():  # noqa: SIM118
                name, key = full.split("/", 1)
                parts.setdefault(name, {})[key] = file.get_tensor(full)
        for name, thing in objects.items():
            _restore(name, thing, parts.get(name, {}))
    except InputError:
        raise
    except Exception as fault:
        raise InputError(
            f"{path.name} does not hold the state of this run ({fault}); resume with the recipe that it was "
            "started with, or start a new folder"
        ) from fault
    return numbers
