"""A folder of aligned faces: ``<photo_id>.png`` beside a manifest that says where each came from.

``_chips.parquet`` holds one row per photograph, also for those that failed; names beginning with ``_`` are
never chips. Files appear under their name only when they are complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from stylegan_surv._files import sha256, whole
from stylegan_surv._photos import MANIFEST, is_file_safe
from stylegan_surv._types import Floats, Pixels
from stylegan_surv.errors import InputError
from stylegan_surv.faces.quality import QUALITY, image_quality

JOURNAL = "_journal.jsonl"  # rows of a run under way
SETTINGS = "_settings.json"  # what `align` was asked for
IDENTITY = ("photo_id", "source_name", "source_path", "source_sha256", "status", "error")
GEOMETRY = ("score", "detector", "n_faces", "inter_eye_px", "roll_deg", "yaw", "crop_scale", "padded")
GRADED = ("face_padded", "rival", "bars", "flat", "picture_hash")  # for the review list
COLUMNS = (*IDENTITY, *GEOMETRY, *QUALITY, *GRADED, "landmarks")
TEXTS = (*IDENTITY, "detector", "grey", "picture_hash", "landmarks")  # columns of objects


@dataclass(frozen=True, eq=False)
class Chips:
    """Aligned faces on disk.

    Attributes
    ----------
    folder : Path
    table : DataFrame
        One row per photograph, in the order they were given: ``photo_id, source_name, source_path,
        source_sha256, status`` ("ok" or "failed"), ``error`` (the reason or None), and the quality columns
        that docs/faces.md explains (NaN for failed rows).
    ignored : dict of str to int
        After an alignment: what else the folder of photographs holds, by extension → how many files.
    kept : int
        After an alignment: photographs of earlier runs that the manifest holds as well.
    """

    folder: Path
    table: pd.DataFrame
    ignored: dict[str, int] = field(default_factory=dict)
    kept: int = 0

    @classmethod
    def open(cls, folder: str | Path, columns: Sequence[str] | None = None) -> Chips:
        """Open a folder that `align` or `Chips.create` has written; of a large one, only these `columns`."""
        folder = Path(folder)
        wanted = None if columns is None else list(columns)
        try:
            table = pd.read_parquet(folder / MANIFEST, columns=wanted)
            pa.default_memory_pool().release_unused()  # of a long table it keeps as much as the table takes
        except FileNotFoundError as error:
            hint = (
                "the alignment was not finished: run it again" if (folder / JOURNAL).exists() else "run align"
            )
            raise InputError(f"{folder} is no folder of chips (it has no {MANIFEST}); {hint}.") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / MANIFEST} cannot be read: {error}") from error
        _check_manifest(table, folder, wanted or IDENTITY)
        return cls(folder, table)

    @staticmethod
    def is_folder(path: str | Path) -> bool:
        """Whether `path` is a folder of chips."""
        return (Path(path) / MANIFEST).is_file()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        images: Iterable[Pixels],
        photo_ids: Sequence[str],
        source: str = "generated",
    ) -> Chips:
        """Write faces that are aligned by construction (simulated photographs), without detection.

        Parameters
        ----------
        images : iterable of array of uint8, shape (side, side, 3)
        photo_ids : sequence of str
            One per image, unique, safe as file names; the source name is ``<photo_id>.png``.
        source : str
            What made them; stands in the column ``detector``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETTINGS).exists():
            raise InputError(
                f"{folder} holds chips that were aligned from photographs; choose another folder."
            )
        rows = []
        for photo_id, image in zip(photo_ids, images, strict=True):
            name = f"{photo_id}.png"
            save_png(folder / name, image)
            digest = sha256(folder / name)
            row = {"photo_id": photo_id, "source_name": name, "source_path": None, "source_sha256": digest}
            rows.append({**row, "status": "ok", "error": None, "detector": source, **image_quality(image)})
        write_manifest(folder, rows)
        return cls.open(folder)

    @property
    def ok(self) -> pd.DataFrame:
        """Rows that have a chip."""
        return self.table[self.table["status"] == "ok"]

    @property
    def failed(self) -> pd.DataFrame:
        """Rows without a chip; ``error`` says why."""
        return self.table[self.table["status"] != "ok"]

    @property
    def settings(self) -> dict[str, Any] | None:
        """How the faces were cut; None where they were not aligned from photographs."""
        return read_settings(self.folder)

    def __len__(self) -> int:
        """Number of photographs, failed ones included."""
        return len(self.table)

    def path(self, photo_id: str) -> Path:
        """File of a chip."""
        return chip_path(self.folder, photo_id)

    def landmarks(self, photo_id: str) -> Floats | None:
        """The 68 landmarks of one chip in its pixels, ``[68, 2]``; None if it was made without detection."""
        found = self.table.loc[self.table["photo_id"] == photo_id, "landmarks"]
        if found.empty:
            raise InputError(f"{self.folder} has no photograph '{photo_id}'.")
        return None if found.item() is None else np.asarray(found.item(), dtype=float).reshape(68, 2)

    def load(self, photo_id: str) -> Pixels:
        """One chip as an array ``[H, W, 3]``, uint8."""
        return read_chip(self.path(photo_id))


def _check_manifest(table: pd.DataFrame, folder: Path, expected: Sequence[str]) -> None:
    """Refuse a table that is no manifest, or whose identifiers are no names of files in this folder."""
    if missing := [name for name in expected if name not in table]:
        raise InputError(f"{folder / MANIFEST} has no column {missing[0]}; align the photographs again.")
    if "photo_id" not in table:
        return
    if wrong := [name for name in table["photo_id"] if not is_file_safe(name)]:
        raise InputError(
            f"{folder / MANIFEST} names a chip {wrong[0]!r}; expected the name of a file in the folder. Align the "
            "photographs again."
        )
    if table["photo_id"].duplicated().any():
        raise InputError(f"{folder / MANIFEST} names a chip twice; align the photographs again.")


def read_settings(folder: Path) -> dict[str, Any] | None:
    """How the faces of a folder were cut; None where they were not aligned from photographs."""
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); align into another folder.") from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path} holds {found!r}; expected the settings of an alignment. Align into another folder."
        )
    return found


def chip_path(folder: Path, photo_id: str) -> Path:
    """File of one chip in a folder of chips."""
    return folder / f"{photo_id}.png"


def read_chip(path: Path) -> Pixels:
    """The pixels of a chip, ``[side, side, 3]``; what a PNG file is not raises an InputError."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"The chip {path} cannot be read: {error}") from error


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run by photo_id: from the manifest, then from the journal of a run that was killed."""
    rows: dict[str, dict[str, Any]] = {}
    if (folder / MANIFEST).exists():
        records: list[Any] = Chips.open(folder).table.to_dict("records")
        rows = {row["photo_id"]: row for row in records}
    if (folder / JOURNAL).exists():
        for line in (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            row = _journal_row(line)
            if row is not None:
                rows[row["photo_id"]] = row
    return rows


def _journal_row(line: str) -> dict[str, Any] | None:
    """A row of the journal; None for the line that was being written when the run was killed, or damaged since."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole_row = isinstance(row, dict) and set(IDENTITY) <= row.keys() <= set(COLUMNS)
    named = whole_row and is_file_safe(row["photo_id"]) and isinstance(row["source_name"], str)
    return row if named and row["status"] in ("ok", "failed") else None


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``_chips.parquet`` with all its columns, at once or not at all."""
    table = pd.DataFrame(list(rows)).reindex(columns=list(COLUMNS))
    for name in TEXTS:
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    with whole(folder / MANIFEST) as partial:
        table.to_parquet(partial, index=False)


def save_png(path: Path, image: Pixels) -> None:
    """Write a chip; it appears under its name only when it is complete."""
    with whole(path, flush=False) as partial:
        Image.fromarray(image).save(partial, "PNG", compress_level=4)
