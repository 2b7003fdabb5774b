"""Files that appear under their name only when they are whole: a full disk or a kill leaves the old one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from stylegan_surv.errors import InputError


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: under a temporary name, flushed to the disk, renamed.

    Raises
    ------
    InputError
        If the disk is full or not writable; an older file of this name is untouched.
    """
    partial = Path(f"{path}.partial")
    try:
        save_file(dict(tensors), partial, metadata=dict(metadata))
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as fault:  # OSError, or the class that safetensors has for it
        raise InputError(
            f"cannot save {path} ({fault}); what was there before is intact: make room, then give the same "
            "command again"
        ) from fault
    finally:
        partial.unlink(missing_ok=True)
