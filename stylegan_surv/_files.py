"""Files that appear under their name only when they are whole: a full disk or a kill leaves the old one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LEFTOVERS = "_*.partial"  # glob of what a killed process may leave in a folder


def partial_name(path: str | Path) -> Path:
    """A temporary name beside ``path``: short however long the name is, and this process's own.

    It begins with ``_``, as everything in a dataset's folder does that is not part of the data.
    """
    path = Path(path)
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return path.with_name(f"_{os.getpid()}-{digest}.partial")


@contextmanager
def whole(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """Yields a temporary name to write to; what is there at the end is renamed to ``path``.

    Parameters
    ----------
    path : str or Path
    flush : bool
        Also wait until the bytes are on the disk; ``False`` for many small files that can be made again.

    Raises
    ------
    InputError
        If the disk is full or not writable; an older file of this name is untouched.
    """
    partial = partial_name(path)
    try:
        partial.touch()
        mode = partial.stat().st_mode  # as the umask has it, whatever the writer sets
        yield partial
        if flush:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        partial.chmod(mode)
        partial.replace(path)
    except Exception as fault:  # OSError, or the classes that safetensors and torch have for it
        raise InputError(
            f"cannot save {path} ({fault}); what was there before is intact: make room, then give the same "
            "command again"
        ) from fault
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, record: Any, *, indent: int | None = 1) -> None:
    """Write JSON, :func:`whole`; numpy's numbers become Python's."""
    write_text(path, json.dumps(record, indent=indent, default=float))


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write torch tensors as a safetensors file, :func:`whole`."""
    from safetensors.torch import save_file

    with whole(path) as partial:
        save_file(dict(tensors), partial, metadata=dict(metadata))


def write_arrays(path: str | Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write numpy arrays as a safetensors file, :func:`whole`."""
    from safetensors.numpy import save_file

    with whole(path) as partial:
        save_file(dict(arrays), partial, metadata=dict(metadata))
