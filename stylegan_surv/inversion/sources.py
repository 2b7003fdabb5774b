"""Where the pictures of a run come from: a folder of chips, raw photographs, or arrays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips, chip_path, read_chip

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort

SLACK = 1e-3  # by which an array may leave [−1, 1], for rounding


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph of a run; ``error`` says why it has no chip. Small, as all of a run's are in memory."""

    photo_id: str
    patient_id: str
    source_path: str | None = None
    source_sha256: str | None = None
    error: str | None = None
    folder: Path | None = None
    chip_id: str | None = None


class Source(Protocol):
    """Photographs in a fixed order, their pixels, and how their faces were cut, if that is known."""

    photos: list[Photo]
    cut: dict[str, Any] | None

    def load(self, photo: Photo, resolution: int) -> Tensor:
        """Pixels [3, resolution, resolution] in [−1, 1]; raises ``OSError`` or ``ValueError`` on a bad file."""
        ...


class ChipFolder:
    """Aligned chips ``<photo_id>.png``, described by their manifest."""

    def __init__(self, photos: Sequence[Photo], cut: dict[str, Any] | None = None) -> None:
        self.photos, self.cut = list(photos), cut

    def load(self, photo: Photo, resolution: int) -> Tensor:
        if photo.folder is None or photo.chip_id is None:
            raise ValueError(photo.error or "no chip")
        chip = Image.fromarray(read_chip(chip_path(photo.folder, photo.chip_id)))
        return to_tensor(resample(chip, resolution))


class Arrays:
    """Pictures in memory [n, 3, h, w] in [−1, 1]."""

    def __init__(self, images: Tensor, photo_ids: Sequence[str], patient_ids: Sequence[str]) -> None:
        if not len(images) == len(photo_ids) == len(patient_ids):
            raise InputError(
                f"{len(images)} images, {len(photo_ids)} photo_ids and {len(patient_ids)} patient_ids; "
                "expected as many."
            )
        self.images = images
        self.cut: dict[str, Any] | None = None
        self.row = {name: i for i, name in enumerate(photo_ids)}
        self.photos = [
            Photo(name, patient, None, hashlib.sha256(image.tobytes()).hexdigest())
            for name, patient, image in zip(photo_ids, patient_ids, images.float().numpy())
        ]

    def load(self, photo: Photo, resolution: int) -> Tensor:
        image = self.images[self.row[photo.photo_id]].float()
        if not torch.isfinite(image).all():
            raise ValueError("the picture holds values that are not finite")
        if image.shape[-1] == resolution:
            return image
        return torch.nn.functional.interpolate(
            image[None], (resolution, resolution), mode="bilinear", antialias=True, align_corners=False
        )[0].clamp(-1, 1)


def resample(image: Image.Image, resolution: int) -> Image.Image:
    """A square picture at another size: area filter where it shrinks by a whole factor, Lanczos otherwise."""
    width, height = image.size
    if width != height:
        raise ValueError(f"the chip is {width} × {height}; expected a square")
    if width == resolution:
        return image
    whole = width > resolution and width % resolution == 0
    return image.resize((resolution,) * 2, Image.Resampling.BOX if whole else Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image | NDArray[np.uint8]) -> Tensor:
    """RGB picture (or uint8 [h, w, 3]) to [3, h, w] in [−1, 1]."""
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(pixels).permute(2, 0, 1)


def open_source(
    photos: Any,
    cohort: Cohort | None = None,
    *,
    photo_ids: Sequence[str] | None = None,
    patient_ids: Sequence[str] | None = None,
    aligned_to: Path | None = None,
    size: int = 256,
) -> Source:
    """Whatever a user calls photographs, as a source in order of ``photo_id``.

    Parameters
    ----------
    photos : Chips, folder of chips, folder of raw photographs, Cohort, or array [n, 3, h, w] in [−1, 1].
    cohort : gives each photograph its patient, and says which photographs belong to the run.
    photo_ids, patient_ids : names of an array's rows; the cohort's rows by default.
    aligned_to : where chips of raw photographs go.
    size : side of those chips in pixels.
    """
    if isinstance(photos, np.ndarray | Tensor):
        return _from_array(torch.as_tensor(photos), cohort, photo_ids, patient_ids)
    if hasattr(photos, "patients") and hasattr(photos, "table"):  # a Cohort stands for its own photographs
        cohort = photos
        if cohort.photos_dir is None:
            raise InputError("The cohort was read without photographs; give the folder of photographs.")
        photos = cohort.photos_dir
    if isinstance(photos, Chips):
        return _from_chips(photos, cohort)
    folder = Path(photos)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; expected photographs or aligned chips.")
    if not Chips.is_folder(folder):
        return _from_chips(_align(folder, cohort, aligned_to, size), cohort)
    return _from_chips(Chips.open(folder, COLUMNS), cohort)


def _from_array(
    images: Tensor, cohort: Cohort | None, photo_ids: Sequence[str] | None, patient_ids: Sequence[str] | None
) -> Source:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise InputError(f"The images have shape {list(images.shape)}; expected [n, 3, side, side].")
    images = images.detach().cpu()
    finite = images.float().nan_to_num(0, 0, 0)  # others are failed rows
    if len(images) and finite.abs().max() > 1 + SLACK:
        raise InputError(
            f"The images have values from {finite.min():g} to {finite.max():g}; expected −1 to 1 (of 0…255: "
            "x / 127.5 − 1)."
        )
    if photo_ids is None:
        photo_ids = [str(i) for i in range(len(images))] if cohort is None else list(cohort.table["photo_id"])
    if patient_ids is None and cohort is not None:
        patient_ids = [_patients_of(cohort).get(name, name) for name in photo_ids]
    return Arrays(images, list(photo_ids), list(photo_ids if patient_ids is None else patient_ids))


def _patients_of(cohort: Cohort) -> dict[str, str]:
    return dict(zip(cohort.table["photo_id"], cohort.table["patient_id"]))


def _align(folder: Path, cohort: Cohort | None, target: Path | None, size: int) -> Chips:
    if target is None:
        raise InputError(
            f"{folder} holds raw photographs: align them first, or give `out`, where chips can go."
        )
    from stylegan_surv.faces import align

    chips: Chips = align(folder if cohort is None else cohort, out=target, size=size)
    return chips


def _from_chips(chips: Chips, cohort: Cohort | None) -> Source:
    chips = Chips(chips.folder.resolve(), chips.table)  # workers have other working directories
    rows = zip(*(chips.table[name].tolist() for name in COLUMNS))
    if cohort is None:
        photos = [_photo(chips, row, row[0], row[0]) for row in rows]
        return ChipFolder(sorted(photos, key=lambda photo: photo.photo_id), chips.settings)
    by_name = {row[1]: row for row in rows}
    photos = []
    for entry in _records(cohort.table.sort_values("photo_id")):
        photos.append(_photo(chips, by_name.get(entry["photo"]), entry["photo_id"], entry["patient_id"]))
    if all(photo.error == NOT_ALIGNED for photo in photos):
        raise InputError(
            f"None of the cohort's {len(photos)} photographs is among the {len(chips)} chips of {chips.folder}: the "
            f"table says {cohort.table['photo'].iloc[0]!r}, the chips {next(iter(by_name), None)!r}."
        )
    return ChipFolder(photos, chips.settings)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


COLUMNS = ("photo_id", "source_name", "source_path", "source_sha256", "status", "error")  # of the manifest
NOT_ALIGNED = "not among the aligned chips"


def _photo(chips: Chips, row: tuple[Any, ...] | None, photo_id: str, patient_id: str) -> Photo:
    if row is None:
        return Photo(photo_id, patient_id, error=NOT_ALIGNED)
    chip_id, _, path, digest, status, error = row
    if status != "ok":
        return Photo(photo_id, patient_id, path, digest, str(error or "alignment failed"))
    return Photo(photo_id, patient_id, path, digest, None, chips.folder, chip_id)
