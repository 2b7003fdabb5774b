"""PyTorch archives (``.pt``, ``.pth``, ``.ckpt``): tensors by name, and which layout the names are of.

Archives are unpickled by torch's weights-only reader, which builds tensors and plain containers. A network's table may
lie under its name (``g_ema``, ``G_ema``), under ``state_dict`` or ``model``, or be the whole file; ``module.``, which
DataParallel puts before every name, is taken off.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats import rosinality
from stylegan_surv.gan.formats.foreign import asks_for, what_it_is
from stylegan_surv.gan.formats.stored import MAX_BYTES, PUBLISHED, ZIP, Stored, check_size

NAMES = {"G_ema": ("g_ema", "G_ema"), "G": ("g", "G"), "D": ("d", "D")}
WRAPPERS = ("state_dict", "model", "params_ema", "params")  # of files with one network
PREFIX = "module."
SHOWN = 5  # names that a message lists
# tensors that only a generator, and only a discriminator, of either layout has
OF_GENERATOR = ("synthesis.", "style.1.weight", "input.input", "mapping.w_avg")
OF_DISCRIMINATOR = ("final_linear.", "b4.out.", "b4.fc.")


def read(path: Path, network: str) -> Stored:
    """One network (``G_ema``, ``G`` or ``D``) of a PyTorch archive."""
    content = _open(path)
    return from_table(path, _table(path, content, network), content, network)


def from_table(path: Path, table: dict[str, Tensor], content: dict[str, Any], network: str) -> Stored:
    """A network from its tensors by name, of the ``G_ema`` layout or rosinality's.

    Parameters
    ----------
    path : Path
        The file, for messages.
    table : dict of str to Tensor
    content : dict
        What else is in the file.
    network : str
        ``G_ema``, ``G`` or ``D``.
    """
    if not any(key.startswith(("synthesis.", "mapping.", "b4.")) for key in table):
        return rosinality.from_table(path, table, content, network)
    state = {key: value.detach().float() for key, value in table.items()}
    note = "conv_clamp is not in a state dict: taken as none, as for networks that were trained in single precision"
    card = {"licence": PUBLISHED, "provenance": {"kind": "unknown"}, "notes": [note]}
    return Stored(state, {}, card)


def _open(path: Path) -> dict[str, Any]:
    """The archive's dict, read as data only."""
    check_size(path)
    try:
        # an open file, for torch.load would choose another reader by a path's suffix
        with open(path, "rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            if file.read(4) == ZIP:
                _check_archive(path, zipfile.ZipFile(file))
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as fault:
        if wanted := re.search(r"GLOBAL ([\w.]+)", str(fault)):
            reason = asks_for(wanted[1])
        else:
            what = what_it_is(path)
            reason = f"it is {what}" if what else "it is damaged or no archive"
        raise Refused(f"{path.name} is refused, and nothing in it was run: {reason}") from fault
    if not isinstance(content, dict):
        raise Refused(f"{path.name} holds {type(content).__name__}; expected a dict with g_ema or state_dict")
    return content


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if any(e.compress_type for e in entries) or sum(e.file_size for e in entries) > MAX_BYTES:
        what = what_it_is(path)
        said = f"it is {what}" if what else "its archive unpacks to more than it holds"
        raise Refused(f"{path.name} is refused: {said}")


def _table(path: Path, content: dict[str, Any], network: str) -> dict[str, Tensor]:
    """The tensors of one network; an e4e or pSp file's decoder is its G_ema."""
    for name in NAMES.get(network, ()):
        if table := tensors_of(content.get(name)):
            return table
    bare = [content, *(content[name] for name in WRAPPERS if isinstance(content.get(name), dict))]
    for whole in bare:
        if network == "G_ema" and (table := _decoder(whole)):
            return table
        if (table := tensors_of(whole)) and network == kind_of(table):
            return table
    held = [ours for ours, theirs in NAMES.items() if any(tensors_of(content.get(name)) for name in theirs)]
    held += [kind for whole in bare if (kind := kind_of(tensors_of(whole)))]
    if held:
        said = ", ".join(held)
    else:
        said = "the keys " + ", ".join(str(key)[:40] for key in list(content)[:SHOWN])
        said += f" and {len(content) - SHOWN} more" if len(content) > SHOWN else ""
    raise InputError(f"{path.name} holds no {network}; it holds {said}")


def tensors_of(table: object) -> dict[str, Tensor]:
    """The tensors of a state dict, without DataParallel's prefix; empty where it is none."""
    if not isinstance(table, dict):
        return {}
    found = {str(k): v for k, v in table.items() if isinstance(v, Tensor)}
    if found and all(key.startswith(PREFIX) for key in found):
        return {key.removeprefix(PREFIX): value for key, value in found.items()}
    return found


def _decoder(table: dict[str, Any]) -> dict[str, Tensor]:
    found = tensors_of(table)
    return {k.removeprefix("decoder."): v for k, v in found.items() if k.startswith("decoder.")}


def kind_of(table: Mapping[str, Tensor]) -> str | None:
    """``G_ema`` or ``D``: which network a bare state dict is of, by the names of its tensors."""
    if any(key.startswith(OF_GENERATOR) for key in table):
        return "G_ema"
    return "D" if any(key.startswith(OF_DISCRIMINATOR) for key in table) else None
