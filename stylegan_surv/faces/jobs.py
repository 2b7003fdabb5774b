"""Which photographs an alignment is asked for, and the name that each of them keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stylegan_surv._files import as_text, composed
from stylegan_surv._photos import photo_ids, unused
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.folder import list_photographs

Photos = str | Path | Cohort | Sequence[str | Path]
Row = dict[str, Any]  # of the manifest


@dataclass(frozen=True)
class Job:
    """A photograph that is asked for; ``file`` may hold bytes that are no text, the names may not."""

    photo_id: str
    source_name: str
    file: str


def jobs_of(photos: Photos, out: Path) -> tuple[list[Job], dict[str, int]]:
    """The photographs that are asked for, and which files of a folder are none.

    Parameters
    ----------
    photos : str, Path, Cohort or sequence of Path
        As :func:`stylegan_surv.faces.align` takes them.
    out : Path
        Where the chips go, which is never where the photographs are.

    Returns
    -------
    jobs : list of Job
    ignored : dict of str to int
        Extension → how many files.
    """
    ignored: dict[str, int] = {}
    if isinstance(photos, Cohort):
        table = photos.table
        if photos.photos_dir is not None and Chips.is_folder(photos.photos_dir):
            raise InputError(f"{photos.photos_dir} holds chips that are aligned already.")
        if table["path"].isna().any():
            raise InputError(
                "The cohort does not know where its photographs are; read it with photos=FOLDER."
            )
        rows = zip(table["photo_id"], table["photo"], table["path"])
        return [Job(str(photo_id), str(name), str(path)) for photo_id, name, path in rows], ignored
    if isinstance(photos, str | Path):
        root = Path(photos)
        listing = list_photographs(root)
        files, ignored = list(listing.files), listing.ignored
        names = [file.relative_to(root).as_posix() for file in files]
        if root.resolve() == out.resolve():
            raise InputError(f"{out} is the folder of the photographs; chips need a folder of their own.")
    else:
        files = [Path(photo) for photo in photos]
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            names = [file.as_posix() for file in files]
        if not files:
            raise InputError("No photographs were given.")
    names = _distinct(names)
    resolved = (str(file.resolve()) for file in files)
    return [Job(*job) for job in zip(photo_ids(names), names, resolved)], ignored


def _distinct(names: list[str]) -> list[str]:
    """Names as text, in composed form unless that would make two the same."""
    texts = [as_text(name) for name in names]
    exact, used, tidy = set(texts), set[str](), []
    for text in texts:
        wish = composed(text)
        if wish != text and (wish in exact or wish in used):
            wish = text
        tidy.append(wish)
        used.add(wish)
    return tidy


def named_as_before(jobs: list[Job], earlier: dict[str, Row], prune: bool) -> list[Job]:
    """A photograph keeps the photo_id that it has here; a new one takes none that stands for another."""
    known = {row["source_name"]: photo_id for photo_id, row in earlier.items()}
    wanted = {job.source_name for job in jobs}
    used = {
        photo_id.casefold() for photo_id, row in earlier.items() if row["source_name"] in wanted or not prune
    }
    named = []
    for job in jobs:
        photo_id = known.get(job.source_name) or unused(job.photo_id, used)
        used.add(photo_id.casefold())
        named.append(replace(job, photo_id=photo_id))
    return named
