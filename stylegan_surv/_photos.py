"""Names of photographs: as a table gives them, as files lie in a folder, and as identifiers that are safe as files."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from stylegan_surv._files import as_text, composed
from stylegan_surv.errors import InputError

MANIFEST = "_chips.parquet"  # of a folder of aligned chips
MAX_BYTES = 200  # of an identifier: file systems take names of 255 bytes, and a suffix follows
DIGEST = 8  # hexadecimal digits that keep apart what is cut to the same name


def photo_ids(names: Sequence[str]) -> list[str]:
    """Unique names that are safe as files, one per photograph: its stem, or its whole name where stems clash.

    >>> photo_ids(["a.jpg", "b/c.png", "d/c.png"])
    ['a', 'b_c.png', 'd_c.png']
    """
    short = [_safe(re.split(r"[\\/]", name)[-1].rsplit(".", 1)[0]) for name in names]
    count = Counter(stem.casefold() for stem in short)  # some file systems ignore case
    used: set[str] = set()
    ids = []
    for name, stem in zip(names, short):
        ids.append(unused(stem if count[stem.casefold()] == 1 else _safe(name), used))
        used.add(ids[-1].casefold())
    return ids


def unused(wish: str, used: set[str]) -> str:
    """An identifier that is not in ``used`` (case-folded ones): ``wish``, or the first of wish-2, wish-3, …"""
    name, suffix = wish, 1
    while name.casefold() in used:
        suffix += 1
        name = f"{wish}-{suffix}"
    return name


def is_file_safe(photo_id: object) -> bool:
    """Whether something that was read back can name a file of a folder, and no other one.

    >>> is_file_safe("p1"), is_file_safe("../p1"), is_file_safe("_p1"), is_file_safe(None)
    (True, False, False, False)
    """
    return isinstance(photo_id, str) and re.fullmatch(r"[^\\/\x00._][^\\/\x00]*", photo_id) is not None


def _safe(name: str) -> str:
    name = composed(name)
    safe = re.sub(r"[^\w.-]+", "_", name).strip("_.-") or "photo"
    if len(safe.encode()) <= MAX_BYTES:
        return safe
    end = safe.encode()[DIGEST + 1 - MAX_BYTES :].decode(errors="ignore").strip("_.-")
    return f"{end}-{hashlib.sha256(name.encode()).hexdigest()[:DIGEST]}"


def relative_name(name: str, folder: Path | None) -> str | None:
    """A photograph's name relative to its folder, one for every way of writing it; None if it lies outside.

    >>> relative_name("./ward/../b.jpg", None)
    'b.jpg'
    """
    if folder is not None and os.path.isabs(name):
        try:
            name = Path(os.path.normpath(name)).relative_to(folder).as_posix()
        except ValueError:
            return None
    tidy = posixpath.normpath(composed(name))
    return None if tidy == ".." or tidy.startswith("../") else tidy


@dataclass(frozen=True)
class PhotoFolder:
    """A folder of photographs in which names are looked up in composed form, whatever wrote them."""

    root: Path

    def find(self, name: str) -> Path | None:
        """The file of a name that is relative to the folder."""
        path = self.root / name
        return path if path.is_file() else self._files.get(name)

    def alike(self, name: str) -> str | None:
        """A file in the folder itself that differs in case or suffix only."""
        return self._near.get(Path(name).stem.casefold())

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = [Path(at, file) for at, _, files in os.walk(self.root) for file in files]
        return {composed(as_text(path.relative_to(self.root).as_posix())): path for path in sorted(found)}

    @cached_property
    def _near(self) -> dict[str, str]:
        return {Path(name).stem.casefold(): name for name in self._files if "/" not in name}


def locate(names: pd.Series, folder: Path) -> tuple[pd.DataFrame, dict[int, str]]:
    """Where photographs lie in a folder, or in a folder of chips whose manifest knows the original names.

    Parameters
    ----------
    names : Series of str
        As :func:`relative_name` gives them; empty where a table names none.
    folder : Path

    Returns
    -------
    places : DataFrame
        ``photo_id`` and ``path`` (None in a folder of chips), with the index of ``names``.
    absent : dict
        Position of a photograph that is not there → what was expected.
    """
    places = pd.DataFrame({"photo_id": photo_ids(list(names)), "path": None}, index=names.index, dtype=object)
    if (folder / MANIFEST).exists():
        known = _aligned(folder)
        others = set(known.values())  # a photograph that has no chip must not pass for one that has
        own = [f"{own}-unaligned" if own in others else own for own in places["photo_id"]]
        places["photo_id"] = [known.get(name, other) for name, other in zip(names, own)]
        expected = f"a photograph that was aligned into {folder.name}"
        return places, {k: expected for k, name in enumerate(names) if name and name not in known}
    photographs = PhotoFolder(folder)
    found = [photographs.find(name) if name else None for name in names]
    places["path"] = [str(path or folder / name) for name, path in zip(names, found)]
    absent = {}
    for k, name in enumerate(names):
        if name and found[k] is None:
            like = photographs.alike(name)
            absent[k] = f"a file in {folder.name}" + (f" (there is {like})" if like else "")
    return places, absent


def _aligned(folder: Path) -> dict[str, str]:
    """Original name → photo_id, of a folder of chips."""
    try:
        chips = pd.read_parquet(folder / MANIFEST, columns=["photo_id", "source_name"])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / MANIFEST} cannot be read: {error}; align the photographs again."
        ) from error
    return {composed(name): photo for name, photo in zip(chips["source_name"], chips["photo_id"])}


def photo_paths(out: pd.DataFrame, photos: str | Path | None) -> tuple[Path | None, dict[int, str]]:
    """Fill photo_id and path; the folder, and position → expectation of every photograph that is not there."""
    names = out["photo"].fillna("")
    if photos is None:
        out["photo_id"] = photo_ids(list(names))
        absolute = [name if Path(name).is_absolute() else None for name in names]
        out["path"] = pd.Series(absolute, dtype=object, index=out.index)
        return None, {}
    folder = photo_folder(photos)
    places, absent = locate(names, folder)
    out[["photo_id", "path"]] = places
    return folder, absent


def photo_folder(photos: str | Path) -> Path:
    """The folder, absolute; InputError where there is none."""
    folder = Path(photos).resolve()
    if not folder.is_dir():
        raise InputError(f"There is no folder of photographs {photos}.")
    return folder
