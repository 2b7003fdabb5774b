"""From photographs to a folder of aligned chips, on all cores, each photograph for itself.

A photograph without a usable face is a row that says why, so names never shift. A run that was killed goes
on where it was: finished photographs stand in a journal until the manifest is written.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from stylegan_surv._files import LEFTOVERS, as_text, check_folder, sha256, write_json
from stylegan_surv._photos import MANIFEST
from stylegan_surv._types import Pixels, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import (
    COLUMNS,
    JOURNAL,
    SETTINGS,
    Chips,
    read_rows,
    read_settings,
    save_png,
    write_manifest,
)
from stylegan_surv.faces.detect import DETECTORS, DetectorName, FaceFinder, NoFace
from stylegan_surv.faces.ffhq import crop, ffhq_square
from stylegan_surv.faces.jobs import Job, Photos, Row, jobs_of, named_as_before
from stylegan_surv.faces.landmarks import pose
from stylegan_surv.faces.load import load_image
from stylegan_surv.faces.quality import image_quality
from stylegan_surv.faces.review import check_sheet, grade, in_words, review, write_sheet

METHOD = 2  # raised when the same photograph would give another chip
REVIEWED = "to be looked at: "  # how the error of a photograph begins that only `strict` has failed
NO_PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EFBIG,
}  # faults of the disk: the next photograph has them too


class _NoPlace(InputError):
    """The disk is full, or may no longer be written."""


def align(
    photos: Photos,
    out: str | Path = "chips",
    *,
    size: int = 256,
    workers: int | None = None,
    detector: DetectorName = "hog+cnn",
    prune: bool = False,
    strict: bool = False,
    sheet: str | Path | None = None,
    progress: Progress | None = None,
) -> Chips:
    """Find the best-scored face of every photograph and cut the FFHQ crop.

    Parameters
    ----------
    photos : str, Path, Cohort or sequence of Path
        A folder is searched with its subfolders; of a cohort every photograph is aligned.
    out : str or Path
        Folder of the chips; by default ``chips`` in the working directory. Photographs that were aligned there
        before, with the same settings and unchanged content, are not done again.
    size : int
        Side of the chips in pixels, 32–2048.
    workers : int, optional
        Processes; default: one per core that this process may use.
    detector : {"hog+cnn", "hog", "cnn"}
        ``hog+cnn`` asks the slower CNN only where HOG finds nothing.
    prune : bool
        Remove chips of photographs that are not given this time; otherwise they stay.
    strict : bool
        Fail the photographs that :func:`~stylegan_surv.faces.review.review` finds.
    sheet : str or Path, optional
        Picture to write of the chips on the review list; it shows faces.
    progress : callable, optional
        Called with (done, total).

    Returns
    -------
    Chips
        One row per photograph, in the order given; the same whatever the number of workers.

    Raises
    ------
    InputError
        No photographs, wrong settings, or a folder that cannot be written or holds chips of other settings.
    """
    _check(size, workers, detector, sheet)
    folder = check_folder(out)
    jobs, ignored = jobs_of(photos, folder)
    _check_settings(folder, {"size": size, "detector": detector, "method": METHOD})
    earlier = read_rows(folder)
    jobs = named_as_before(jobs, earlier, prune)
    done = {
        job.photo_id: row for job in jobs if (row := _still_valid(earlier.get(job.photo_id), job, folder))
    }
    todo = [job for job in jobs if job.photo_id not in done]
    if progress:
        progress(len(done), len(jobs))
    with _disk(folder), (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write("\n")  # a killed run may have left half a line
        for row in _run(todo, folder, size, detector, workers):
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            done[row["photo_id"]] = row
            if progress:
                progress(len(done), len(jobs))
    given = {job.photo_id for job in jobs}
    kept = [] if prune else [row for photo_id, row in earlier.items() if photo_id not in given]
    chips = _finish(folder, [done[job.photo_id] for job in jobs], kept, strict, sheet)
    with _disk(folder):
        _tidy(folder, {*chips.ok["photo_id"], *(row["photo_id"] for row in kept)}, earlier.keys() | given)
    return replace(chips, ignored=ignored)


def _check(size: int, workers: int | None, detector: str, sheet: str | Path | None) -> None:
    if not 32 <= size <= 2048:
        raise InputError(f"size is {size}; expected 32 to 2048 pixels.")
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1.")
    if detector not in DETECTORS:
        raise InputError(f"detector is '{detector}'; expected one of {', '.join(DETECTORS)}.")
    if sheet is not None:
        check_sheet(sheet)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """One message for a folder in which the work cannot go on."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"nothing more can be written to {folder} ({error.strerror or error}); what is done is kept: make room, "
            "then give the same command again."
        ) from error


# ---- what is to be done ----------------------------------------------------------------------------------


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix chips of different settings in one folder."""
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found = read_settings(folder)
    if found is None:
        if (folder / MANIFEST).exists():
            raise InputError(
                f"{folder} holds chips that were not aligned from photographs; choose another folder."
            )
        write_json(folder / SETTINGS, settings, indent=None)
    elif found != settings:
        raise InputError(f"{folder} holds chips with {found}; asked for {settings}. Choose another folder.")


def _still_valid(row: Row | None, job: Job, folder: Path) -> Row | None:
    """An earlier row, if it is complete and of this very file and its chip is still there."""
    if row is None or not set(COLUMNS) >= row.keys() or row["source_name"] != job.source_name:
        return None
    failed = row["status"] == "failed"
    if failed and str(row["error"]).startswith(REVIEWED):
        return None
    if not failed and (row.get("picture_hash") is None or not (folder / f"{job.photo_id}.png").exists()):
        return None
    try:
        if sha256(Path(job.file)) != row["source_sha256"]:
            return None
    except OSError:
        return None
    return {**row, "source_path": as_text(job.file)}


def _tidy(folder: Path, with_chip: set[str], known: set[str]) -> None:
    """Remove chips that the manifest no longer stands for, and what killed runs have left."""
    for photo_id in known - with_chip:
        (folder / f"{photo_id}.png").unlink(missing_ok=True)
    for file in (folder / JOURNAL, *folder.glob(LEFTOVERS)):
        file.unlink(missing_ok=True)


# ---- doing it --------------------------------------------------------------------------------------------


def _run(
    jobs: list[Job], folder: Path, size: int, detector: DetectorName, workers: int | None
) -> Iterator[Row]:
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, cpu_count, delayed

    count = workers or cpu_count()
    if count == 1 or len(jobs) < 2:
        yield from (_align_one(job, folder, size, detector) for job in jobs)
        return
    pool = Parallel(n_jobs=min(count, len(jobs)), return_as="generator_unordered")
    try:
        yield from pool(delayed(_align_one)(job, folder, size, detector) for job in jobs)
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {count} processes was ended from outside, most often because memory ran out; what is done is "
            "kept: give the same command again with fewer workers."
        ) from error


@lru_cache(maxsize=1)
def _finder(detector: DetectorName) -> FaceFinder:
    """Models are loaded once per process."""
    return FaceFinder(detector)


def _align_one(job: Job, folder: Path, size: int, detector: DetectorName) -> Row:
    """Align one photograph; whatever is wrong with it becomes a failed row, a disk that takes no more does not."""
    row: Row = {"photo_id": job.photo_id, "source_name": job.source_name, "source_path": as_text(job.file)}
    row |= {"source_sha256": None, "status": "failed"}
    try:
        row["source_sha256"] = _digest(Path(job.file))
        return {**row, "status": "ok", "error": None, **_cut(job, folder, size, detector)}
    except _NoPlace:
        raise
    except (InputError, NoFace) as error:
        return {**row, "error": str(error)}
    except RuntimeError as error:  # how dlib reports its own failures
        return {**row, "error": f"the detector failed: {' '.join(str(error).split())}"}
    except Exception as error:  # a photograph that nobody has thought of must not end the run of all others
        return {**row, "error": f"it cannot be aligned ({type(error).__name__}: {error})"}


def _digest(path: Path) -> str | None:
    """SHA-256 of a photograph; None where there is no file that can be read, which loading it then explains."""
    try:
        return sha256(path) if path.is_file() else None
    except OSError:
        return None


def _cut(job: Job, folder: Path, size: int, detector: DetectorName) -> Row:
    """Write the chip of one photograph; what the manifest says of it."""
    image = load_image(job.file)
    face = _finder(detector).find(image)
    square = ffhq_square(face.landmarks)
    chip, padded = crop(image, square, size)
    _save(folder / f"{job.photo_id}.png", chip)
    lies = pose(face.landmarks)
    landmarks = square.to_chip(face.landmarks, size)
    geometry = {
        "score": face.score,
        "detector": face.detector,
        "n_faces": face.n_faces,
        "rival": face.rival,
        "inter_eye_px": lies.inter_eye_px,
        "roll_deg": lies.roll_deg,
        "yaw": lies.yaw,
        "crop_scale": square.side / size,
        "padded": padded,
        "landmarks": [round(float(value), 2) for value in landmarks.ravel()],
    }
    return {**geometry, **image_quality(chip), **grade(chip, landmarks, square, image.size)}


def _save(path: Path, chip: Pixels) -> None:
    """Write a chip; a disk that takes no more chips is no fault of the photograph."""
    try:
        save_png(path, chip)
    except InputError as error:
        fault = error.__cause__
        if isinstance(fault, OSError) and fault.errno in NO_PLACE:
            raise _NoPlace(str(error)) from error
        raise


def _finish(folder: Path, rows: list[Row], kept: list[Row], strict: bool, sheet: str | Path | None) -> Chips:
    """Write the manifest; the chips that were asked for, of which ``strict`` fails those on the review list."""
    write_manifest(folder, [*rows, *kept])
    chips = Chips.open(folder)
    asked = replace(chips, table=chips.table.iloc[: len(rows)], kept=len(kept))
    if sheet is None and not strict:
        return asked
    found = review(asked)
    if sheet is not None:
        write_sheet(asked, found, sheet)
    if not strict or found.empty:
        return asked
    reasons = in_words(found)
    failed = [_failed(row, reasons.get(row["photo_id"])) for row in rows]
    write_manifest(folder, [*failed, *kept])
    chips = Chips.open(folder)
    return replace(chips, table=chips.table.iloc[: len(rows)], kept=len(kept))


def _failed(row: Row, reason: str | None) -> Row:
    """A row as it is without a reason; failed with one."""
    if reason is None:
        return row
    known = ("photo_id", "source_name", "source_path", "source_sha256")
    return {**{name: row[name] for name in known}, "status": "failed", "error": f"{REVIEWED}{reason}"}
