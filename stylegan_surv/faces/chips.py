"""A folder of aligned faces: ``<photo_id>.png`` beside a manifest that says where each came from.

``_chips.parquet`` holds one row per photograph, also for those that failed; names beginning with ``_`` are
never chips. Files appear under their name only when they are complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from stylegan_surv.errors import InputError
from stylegan_surv.faces.quality import QUALITY, image_quality

MANIFEST = "_chips.parquet"
JOURNAL = "_journal.jsonl"  # rows of a run under way
SETTINGS = "_settings.json"  # what `align` was asked for
IDENTITY = ("photo_id", "source_name", "source_path", "source_sha256", "status", "error")
GEOMETRY = ("score", "detector", "n_faces", "inter_eye_px", "roll_deg", "yaw", "crop_scale", "padded")
COLUMNS = (*IDENTITY, *GEOMETRY, *QUALITY, "landmarks")


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
    """

    folder: Path
    table: pd.DataFrame

    @classmethod
    def open(cls, folder: str | Path, columns: Sequence[str] | None = None) -> Chips:
        """Open a folder that `align` or `Chips.create` has written; of a large one, only these `columns`."""
        folder = Path(folder)
        wanted = None if columns is None else list(columns)
        try:
            table = pd.read_parquet(folder / MANIFEST, columns=wanted)
            pa.default_memory_pool().release_unused()  # of a long table it keeps as much as the table takes
            return cls(folder, table)
        except FileNotFoundError as error:
            hint = (
                "the alignment was not finished: run it again" if (folder / JOURNAL).exists() else "run align"
            )
            raise InputError(f"{folder} is no folder of chips (it has no {MANIFEST}); {hint}.") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / MANIFEST} cannot be read: {error}") from error

    @staticmethod
    def is_folder(path: str | Path) -> bool:
        """Whether `path` is a folder of chips."""
        return (Path(path) / MANIFEST).is_file()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        images: Iterable[NDArray[np.uint8]],
        photo_ids: Sequence[str],
        source: str = "generated",
    ) -> Chips:
        """Write faces that are aligned by construction (simulated photographs), without detection.

        Parameters
        ----------
        images : iterable of arrays ``[H, W, 3]``, uint8, square
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
        path = self.folder / SETTINGS
        return json.loads(path.read_text()) if path.exists() else None

    def __len__(self) -> int:
        """Number of photographs, failed ones included."""
        return len(self.table)

    def path(self, photo_id: str) -> Path:
        """File of one chip."""
        return chip_path(self.folder, photo_id)

    def landmarks(self, photo_id: str) -> NDArray[np.float64] | None:
        """The 68 landmarks of one chip in its pixels, ``[68, 2]``; None if it was made without detection."""
        found = self.table.loc[self.table["photo_id"] == photo_id, "landmarks"]
        if found.empty:
            raise InputError(f"{self.folder} has no photograph '{photo_id}'.")
        return None if found.item() is None else np.asarray(found.item(), dtype=float).reshape(68, 2)

    def load(self, photo_id: str) -> NDArray[np.uint8]:
        """One chip as an array ``[H, W, 3]``, uint8."""
        try:
            with Image.open(self.path(photo_id)) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise InputError(f"The chip {self.path(photo_id)} cannot be read: {error}") from error


def chip_path(folder: Path, photo_id: str) -> Path:
    """File of one chip in a folder of chips."""
    return folder / f"{photo_id}.png"


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run by photo_id: from the manifest, then from the journal of a run that was killed."""
    rows: dict[str, dict[str, Any]] = {}
    if (folder / MANIFEST).exists():
        records: list[Any] = Chips.open(folder).table.to_dict("records")
        rows = {row["photo_id"]: row for row in records}
    if (folder / JOURNAL).exists():
        for line in (folder / JOURNAL).read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written
                continue
            rows[row["photo_id"]] = row
    return rows


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``_chips.parquet`` with all its columns, at once or not at all."""
    table = pd.DataFrame(list(rows)).reindex(columns=list(COLUMNS))
    for name in (*IDENTITY, "detector", "grey", "landmarks"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    temporary = folder / f"_{os.getpid()}.tmp"
    table.to_parquet(temporary, index=False)
    os.replace(temporary, folder / MANIFEST)


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a chip; it appears under its name only when it is complete."""
    temporary = path.with_name(f"_{os.getpid()}-{path.name}.tmp")
    Image.fromarray(image).save(temporary, "PNG", compress_level=4)
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
