"""Files that appear under their name only when they are whole: a full disk or a kill leaves the old one.

Here as well: whether a place can be written before the work starts, and names that no text can hold as text.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

LEFTOVERS = "_*.partial"  # glob of what a killed process may leave in a folder
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that spreadsheets run; OWASP, CSV injection
PROBE = bytes(4096)  # one block: an empty file can be made on a full disk
ESCAPED = re.compile("<([0-9a-f]{2})>")  # a byte that is not of the text, as `as_text` writes it


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


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def write_csv(path: str | Path, table: DataFrame) -> None:
    """Write a table as CSV without its index, :func:`whole`.

    Spreadsheets run a text that begins with = + - @ (or a tab or carriage return) as a formula: it gets an apostrophe
    before it, which :func:`unescaped` takes away. Numbers stay numbers.
    """
    safe = table.copy()
    for place, name in enumerate(table.columns):
        if not table[name].map(type).isin([str]).any():
            continue
        safe.isetitem(place, [escaped(cell) if isinstance(cell, str) else cell for cell in table[name]])
    safe.columns = safe.columns.map(lambda name: escaped(str(name)))
    with whole(path) as partial:
        safe.to_csv(partial, index=False)


def escaped(text: str) -> str:
    """A text that no spreadsheet takes for a formula.

    >>> escaped("=1+1"), escaped("a=1"), escaped("'@me")
    ("'=1+1", 'a=1', "''@me")
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def unescaped(text: str) -> str:
    """The text of which :func:`escaped` made ``text``."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def check_folder(path: str | Path) -> Path:
    """Whether files can be written in a folder, which need not exist yet; nothing is left behind.

    Parameters
    ----------
    path : str or Path
        The folder of an output, checked before the work whose result it is to hold.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    InputError
        If it is a file, lies below one, or the place is read-only or full.
    """
    path = Path(path)
    try:
        there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
        if not there.is_dir():
            raise InputError(
                f"{as_text(there)} is a file; expected a folder to write to, or a name that is free."
            )
        probe = partial_name(there / "probe")
        try:
            probe.write_bytes(PROBE)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as fault:
        raise InputError(
            f"nothing can be written to {as_text(path)} ({fault.strerror or fault}); choose another place, or make "
            "room in this one."
        ) from fault
    return path


def check_file(path: str | Path) -> Path:
    """Whether a file can be written: it is no folder, and :func:`check_folder` accepts where it lies."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{as_text(path)} is a folder; expected the name of a file to write.")
    check_folder(path.parent)
    return path


def check_new(path: str | Path, force: bool) -> Path:
    """Refuse a file that exists, unless ``force`` says that it may be replaced, and a place that cannot be written."""
    if Path(path).exists() and not force:
        raise InputError(
            f"{path} exists already; name another file.",
            python="Or give force=True to replace it.",
            command="Or give --force to replace it.",
        )
    return check_file(path)


def as_text(name: str | Path) -> str:
    r"""A file's name as text that every table and screen can hold; a byte that is no UTF-8 becomes ``<ff>``.

    :func:`from_text` reverses it.

    >>> as_text(os.fsdecode(b"M\xfcller.jpg"))
    'M<fc>ller.jpg'
    """
    shielded = ESCAPED.sub(r"<3c>\1>", str(name))
    return "".join(f"<{ord(c) - 0xDC00:02x}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in shielded)


def printable(text: str) -> str:
    """Text that any screen can show: as it is, but for bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def from_text(text: str) -> str:
    """The name of which :func:`as_text` made ``text``."""
    raw = re.sub(b"<([0-9a-f]{2})>", lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(text))
    return os.fsdecode(raw)


def composed(name: str) -> str:
    """A name with composed characters (NFC): macOS writes ü as two, others as one, and they look alike."""
    return unicodedata.normalize("NFC", name)
