"""From photographs to a folder of aligned chips, on all cores, each photograph for itself.

A photograph without a usable face is a row that says why, so names never shift. A run that was killed goes
on where it was: finished photographs stand in a journal until the manifest is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stylegan_surv._photos import photo_ids
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import (
    JOURNAL,
    MANIFEST,
    SETTINGS,
    Chips,
    read_rows,
    save_png,
    sha256,
    write_manifest,
)
from stylegan_surv.faces.detect import DETECTORS, DetectorName, FaceFinder, NoFace
from stylegan_surv.faces.ffhq import crop, ffhq_square
from stylegan_surv.faces.landmarks import pose
from stylegan_surv.faces.load import SUFFIXES, load_image
from stylegan_surv.faces.quality import image_quality

METHOD = 2  # raised when the same photograph would give another chip

Photos = str | Path | Cohort | Sequence[str | Path]
Row = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    photo_id: str
    source_name: str
    source_path: str


def align(
    photos: Photos,
    out: str | Path = "chips",
    *,
    size: int = 256,
    workers: int | None = None,
    detector: DetectorName = "hog+cnn",
    progress: Callable[[int, int], None] | None = None,
) -> Chips:
    """Find the best-scored face of every photograph and cut the FFHQ crop.

    Parameters
    ----------
    photos : folder, Cohort or list of files
        A folder is searched with its subfolders; of a cohort every photograph is aligned.
    out : path
        Folder of the chips; by default ``chips`` in the working directory. Photographs that were aligned there
        before, with the same settings and unchanged content, are not done again; chips of photographs that are
        no longer given are removed.
    size : int
        Side of the chips in pixels, 32–2048.
    workers : int, optional
        Processes; default: one per core that this process may use.
    detector : {"hog+cnn", "hog", "cnn"}
        ``hog+cnn`` asks the slower CNN only where HOG finds nothing.
    progress : callable, optional
        Called with (done, total).

    Returns
    -------
    Chips
        One row per photograph, in the order given; the same whatever the number of workers.

    Raises
    ------
    InputError
        No photographs, wrong settings, or a folder that holds chips of other settings.
    """
    if not 32 <= size <= 2048:
        raise InputError(f"size is {size}; expected 32 to 2048 pixels.")
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1.")
    if detector not in DETECTORS:
        raise InputError(f"detector is '{detector}'; expected one of {', '.join(DETECTORS)}.")
    folder = Path(out)
    jobs = _jobs(photos, folder)
    _check_settings(folder, {"size": size, "detector": detector, "method": METHOD})
    earlier = read_rows(folder)
    done: dict[str, Row] = {}
    todo: list[_Job] = []
    for job in jobs:
        row = earlier.get(job.photo_id)
        if row is not None and _still_valid(row, job, folder):
            done[job.photo_id] = {**row, "source_path": job.source_path}
        else:
            todo.append(job)
    if progress:
        progress(len(done), len(jobs))
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write("\n")  # a killed run may have left half a line
        for row in _run(todo, folder, size, detector, workers):
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            done[row["photo_id"]] = row
            if progress:
                progress(len(done), len(jobs))
    write_manifest(folder, [done[job.photo_id] for job in jobs])
    _tidy(folder, earlier, done)
    return Chips.open(folder)


# ---- what is to be done ----------------------------------------------------------------------------------


def _jobs(photos: Photos, out: Path) -> list[_Job]:
    if isinstance(photos, Cohort):
        table = photos.table
        if photos.photos_dir is not None and Chips.is_folder(photos.photos_dir):
            raise InputError(f"{photos.photos_dir} holds chips that are aligned already.")
        if table["path"].isna().any():
            raise InputError(
                "The cohort does not know where its photographs are; read it with photos=FOLDER."
            )
        return [_Job(*row) for row in table[["photo_id", "photo", "path"]].itertuples(index=False)]
    if isinstance(photos, str | Path):
        root = Path(photos)
        files = _listed(root)
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
    ids = photo_ids(names)
    return [_Job(*job) for job in zip(ids, names, (str(file.resolve()) for file in files))]


def _listed(root: Path) -> list[Path]:
    """Photographs in a folder and its subfolders, sorted, without hidden ones and folders of chips."""
    if not root.is_dir():
        raise InputError(f"There is no folder of photographs {root}.")
    if Chips.is_folder(root):
        raise InputError(f"{root} holds chips that are aligned already.")
    chips = {file.parent for name in (SETTINGS, MANIFEST) for file in root.rglob(name)}
    files = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and chips.isdisjoint(file.parents)
    )
    if not files:
        raise InputError(f"{root} holds no photographs; expected files such as {', '.join(SUFFIXES[:4])}.")
    return files


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix chips of different settings in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if not path.exists():
        if (folder / MANIFEST).exists():
            raise InputError(
                f"{folder} holds chips that were not aligned from photographs; choose another folder."
            )
        temporary = folder / f"_{os.getpid()}.tmp"
        temporary.write_text(json.dumps(settings))
        os.replace(temporary, path)
        return
    found = json.loads(path.read_text())
    if found != settings:
        raise InputError(f"{folder} holds chips with {found}; asked for {settings}. Choose another folder.")


def _still_valid(row: Row, job: _Job, folder: Path) -> bool:
    """Whether an earlier row is of this very file and its chip is still there."""
    path = Path(job.source_path)
    if row["source_name"] != job.source_name or not path.is_file() or sha256(path) != row["source_sha256"]:
        return False
    return row["status"] == "failed" or (folder / f"{job.photo_id}.png").exists()


def _tidy(folder: Path, earlier: dict[str, Row], done: dict[str, Row]) -> None:
    """Remove chips that the manifest no longer stands for, and what killed runs have left."""
    for photo_id in earlier.keys() | done.keys():
        if photo_id not in done or done[photo_id]["status"] == "failed":
            (folder / f"{photo_id}.png").unlink(missing_ok=True)
    for file in (folder / JOURNAL, *folder.glob("_*.tmp")):
        file.unlink(missing_ok=True)


# ---- doing it --------------------------------------------------------------------------------------------


def _run(
    jobs: list[_Job], folder: Path, size: int, detector: DetectorName, workers: int | None
) -> Iterator[Row]:
    from joblib import Parallel, cpu_count, delayed

    count = workers or cpu_count()
    if count == 1 or len(jobs) < 2:
        yield from (_align_one(job, folder, size, detector) for job in jobs)
        return
    pool = Parallel(n_jobs=min(count, len(jobs)), return_as="generator_unordered")
    yield from pool(delayed(_align_one)(job, folder, size, detector) for job in jobs)


@lru_cache(maxsize=1)
def _finder(detector: DetectorName) -> FaceFinder:
    """Models are loaded once per process."""
    return FaceFinder(detector)


def _align_one(job: _Job, folder: Path, size: int, detector: DetectorName) -> Row:
    """Align one photograph; whatever is wrong with it becomes a failed row."""
    path = Path(job.source_path)
    row: Row = {"photo_id": job.photo_id, "source_name": job.source_name, "source_path": job.source_path}
    row["source_sha256"] = sha256(path) if path.is_file() else None
    try:
        image = load_image(path)
        face = _finder(detector).find(image)
    except (InputError, NoFace) as error:
        return {**row, "status": "failed", "error": str(error)}
    except RuntimeError as error:  # how dlib reports its own failures
        return {**row, "status": "failed", "error": f"the detector failed: {' '.join(str(error).split())}"}
    square = ffhq_square(face.landmarks)
    chip, padded = crop(image, square, size)
    save_png(folder / f"{job.photo_id}.png", chip)
    lies = pose(face.landmarks)
    geometry = {
        "score": face.score,
        "detector": face.detector,
        "n_faces": face.n_faces,
        "inter_eye_px": lies.inter_eye_px,
        "roll_deg": lies.roll_deg,
        "yaw": lies.yaw,
        "crop_scale": square.side / size,
        "padded": padded,
        "landmarks": [round(float(value), 2) for value in square.to_chip(face.landmarks, size).ravel()],
    }
    return {**row, "status": "ok", "error": None, **geometry, **image_quality(chip)}
