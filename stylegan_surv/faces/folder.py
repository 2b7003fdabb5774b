"""Which files of a folder are photographs: by their content, so that none is passed over for its name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stylegan_surv._files import as_text
from stylegan_surv._photos import MANIFEST
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import SETTINGS
from stylegan_surv.faces.formats import SUFFIXES, recognise

CLUTTER_FOLDERS = {
    "@eadir",
    "__macosx",
    "#recycle",
    "$recycle.bin",
    "lost+found",
}  # thumbnails and waste bins
CLUTTER_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db"}
SHUT = "that cannot be opened"


@dataclass(frozen=True)
class Listing:
    """The photographs of a folder.

    Attributes
    ----------
    files : tuple of Path
        Photographs, sorted; also those that are damaged or only called photographs, so that no name is lost.
    ignored : dict of str to int
        What else is there, by extension → how many; the clutter of operating systems is not counted.
    """

    files: tuple[Path, ...]
    ignored: dict[str, int]

    def __str__(self) -> str:
        """What was ignored, in words; empty if nothing was."""
        return ignored_in_words(self.ignored)


def list_photographs(root: Path) -> Listing:
    """The photographs in a folder and its subfolders, linked ones included; no hidden ones, and no chips.

    Raises
    ------
    InputError
        If it is no folder or holds no photographs.
    """
    if not root.is_dir():
        raise InputError(f"There is no folder of photographs {root}.")
    if (root / MANIFEST).is_file():
        raise InputError(f"{root} holds chips that are aligned already.")
    files, counted = [], Counter[str]()
    for path in _walk(root, counted):
        label = _label(path)
        if label is None:
            files.append(path)
        else:
            counted[label] += 1
    ignored = dict(counted.most_common())
    if not files:
        also = f" ({ignored_in_words(ignored)})" if ignored else ""
        raise InputError(
            f"{root} holds no photographs{also}; expected files such as {', '.join(SUFFIXES[:4])}."
        )
    return Listing(tuple(sorted(files)), ignored)


def ignored_in_words(ignored: dict[str, int]) -> str:
    """Such as ``3 files ignored: 2 .txt, 1 .dcm (a DICOM image)``."""
    if not ignored:
        return ""
    count = sum(ignored.values())
    kinds = ", ".join(f"{n} {label}" for label, n in ignored.items())
    return f"{count} file{'s' if count > 1 else ''} ignored: {kinds}"


def _walk(root: Path, ignored: Counter[str]) -> Iterator[Path]:
    """Every file but clutter; a folder that links lead to in several ways is entered once."""

    def shut(_: OSError) -> None:
        ignored[f"folders {SHUT}"] += 1

    entered = set()
    for at, folders, names in os.walk(root, followlinks=True, onerror=shut):
        status = os.stat(at)
        if (status.st_dev, status.st_ino) in entered or {MANIFEST, SETTINGS} & set(names):
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = [
            name for name in folders if not _hidden(name) and name.casefold() not in CLUTTER_FOLDERS
        ]
        folders.sort(
            key=lambda name: (os.path.islink(os.path.join(at, name)), name)
        )  # the folder before links to it
        yield from (
            Path(at, name) for name in names if not _hidden(name) and name.casefold() not in CLUTTER_FILES
        )


def _hidden(name: str) -> bool:
    return name.startswith(".")  # also ._NAME, in which macOS keeps what other file systems cannot


def _label(path: Path) -> str | None:
    """What a file is ignored as; None for a photograph."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and (path.is_file() or path.is_symlink()):
        return None
    name = as_text(suffix) or "without extension"
    if not path.is_file():
        return f"{name} that are no files"
    try:
        kind = recognise(path)
    except OSError:
        return f"{name} {SHUT}"
    if kind.decoders:
        return None
    return f"{name} ({kind.foreign})" if kind.foreign else name
