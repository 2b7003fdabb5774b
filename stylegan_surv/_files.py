"""Files that appear under their name only when they are whole: a full disk or a kill leaves the old one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from stylegan_surv.errors import InputError


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name to write to; what is there at the end is flushed to the disk and renamed to ``path``.

    Raises
    ------
    InputError
        If the disk is full or not writable; an older file of this name is untouched.
    """
    partial = Path(f"{path}.partial")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as fault:  # OSError, or the classes that safetensors and torch have for it
        raise InputError(
            f"cannot save {path} ({fault}); what was there before is intact: make room, then give the same "
            "command again"
        ) from fault
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, :func:`whole`."""
    with whole(path) as partial:
        save_file(dict(tensors), partial, metadata=dict(metadata))
