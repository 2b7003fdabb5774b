"""Where the pictures of a run come from: a folder of chips, raw photographs, or arrays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from stylegan_surv._images import to_images
from stylegan_surv._photos import MANIFEST
from stylegan_surv._types import Array, Pixels
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces import align
from stylegan_surv.faces.align import METHOD
from stylegan_surv.faces.chips import Chips, chip_path, read_chip
from stylegan_surv.faces.detect import finder
from stylegan_surv.faces.ffhq import crop, ffhq_square
from stylegan_surv.faces.folder import list_photographs
from stylegan_surv.faces.found import Face, NoFace

SLACK = 1e-3  # by which an array may leave [−1, 1], for rounding
CHIP_SIDE = 256  # px; chips are never cut smaller, so that another generator can use them too
COLUMNS = ("photo_id", "source_name", "source_path", "source_sha256", "status", "error")  # of the manifest
NOT_ALIGNED = "not among the aligned chips"
Cut: TypeAlias = Mapping[str, Any]  # how faces were cut, as the chips' folder says


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


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures in memory, with the names of their photographs.

    Attributes
    ----------
    images : Tensor or array, shape (n, 3, side, side)
        FFHQ-aligned faces in [−1, 1].
    photo_ids : sequence of str, length n, optional
        By default the cohort's photographs in the order of its table, or "0", "1", ….
    patient_ids : sequence of str, length n, optional
        By default the cohort's; without a cohort each photograph is its own patient.
    """

    images: Tensor | Array
    photo_ids: Sequence[str] | None = None
    patient_ids: Sequence[str] | None = None

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.images)


Photographs: TypeAlias = Chips | str | Path | Cohort | Pictures | Tensor | Array


class Source(Protocol):
    """Photographs in a fixed order, their pixels, and how their faces were cut, if that is known."""

    photos: list[Photo]
    cut: Cut | None

    def load(self, photo: Photo, resolution: int) -> Tensor:
        """Pixels [3, resolution, resolution] in [−1, 1]; raises ``OSError`` or ``ValueError`` on a bad file."""
        ...


class ChipFolder:
    """Aligned chips ``<photo_id>.png``, described by their manifest."""

    def __init__(self, photos: Sequence[Photo], cut: Cut | None = None) -> None:
        self.photos, self.cut = list(photos), cut

    def load(self, photo: Photo, resolution: int) -> Tensor:
        if photo.folder is None or photo.chip_id is None:
            raise ValueError(photo.error or "no chip")
        return chip_tensor(Image.fromarray(read_chip(chip_path(photo.folder, photo.chip_id))), resolution)


class ArraySource:
    """Pictures in memory [n, 3, h, w] in [−1, 1]."""

    def __init__(self, images: Tensor, photo_ids: Sequence[str], patient_ids: Sequence[str]) -> None:
        if not len(images) == len(photo_ids) == len(patient_ids):
            raise InputError(
                f"{len(images)} images, {len(photo_ids)} photo_ids and {len(patient_ids)} patient_ids; "
                "expected as many."
            )
        self.images = images
        self.cut: Cut | None = None
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


def chip_tensor(image: Image.Image, resolution: int) -> Tensor:
    """An aligned face as the networks see it, [3, resolution, resolution] in [−1, 1]."""
    return to_images(np.asarray(resample(image.convert("RGB"), resolution)))


def cut_face(
    picture: Image.Image, resolution: int, cut: Cut | None = None, face: Face | None = None
) -> Pixels:
    """The chip of an upright RGB photograph, as `embed` would cut it.

    Parameters
    ----------
    picture : PIL image
    resolution : int
        Side of the generator's images in pixels.
    cut : mapping, optional
        How the chips of a dataset were cut; by default as `embed` aligns raw photographs.
    face : Face, optional
        What `find_face` has found in it, so that it is not searched again.

    Returns
    -------
    array of uint8, shape (size, size, 3)

    Raises
    ------
    InputError
        If no usable face is found; :class:`Refused` if the chips were cut by another version of the method.
    """
    face = face or find_face(picture, cut)
    size = chip_side(resolution) if cut is None else int(cut.get("size", chip_side(resolution)))
    return crop(picture, ffhq_square(face.points), size)[0]


def find_face(picture: Image.Image, cut: Cut | None = None) -> Face:
    """The face that `cut_face` cuts out; raises as it does."""
    check_cut(cut)
    try:
        return finder("mesh" if cut is None else cut.get("landmarks", "dlib68")).find(picture)
    except NoFace as reason:
        raise InputError(
            f"the photograph cannot be used: {reason}; give a portrait, or a chip with --aligned"
        ) from reason


def cut_of(chips: Chips) -> Cut | None:
    """How the faces of a folder were cut, without what else was asked for; None where nothing was cut."""
    settings = chips.settings
    return None if settings is None else {k: v for k, v in settings.items() if k != "skin_tone"}


def check_cut(cut: Cut | None) -> None:
    """Refuse faces that were cut by another version of the method; what was not cut from photographs passes."""
    if cut is not None and cut.get("method") != METHOD:
        raise Refused(
            f"The faces were cut by method {cut.get('method')}, and this version has method {METHOD}: align and embed "
            "the photographs again, or, for one photograph, give the chip itself with --aligned."
        )


def chip_side(resolution: int) -> int:
    """Side in pixels of chips that are cut for a generator."""
    return max(CHIP_SIDE, resolution)


def count(photos: Photographs, cohort: Cohort | None = None) -> int:
    """How many photographs a run has, without looking at one."""
    if isinstance(photos, Tensor | np.ndarray | Pictures | Chips) and cohort is None:
        return len(photos)
    if isinstance(photos, Cohort):
        cohort = photos
    if cohort is not None:
        return len(cohort.table)
    folder = Path(str(photos))
    if Chips.is_folder(folder):
        return int(pq.read_metadata(folder / MANIFEST).num_rows)
    return len(list_photographs(folder).files)


def open_source(
    photos: Photographs,
    cohort: Cohort | None = None,
    *,
    aligned_to: Path | None = None,
    size: int = CHIP_SIDE,
) -> Source:
    """Whatever a user calls photographs, as a source in order of ``photo_id``.

    Parameters
    ----------
    photos : Chips, folder of chips, folder of raw photographs, Cohort, Pictures, or array of shape (n, 3, h, w)
    cohort : Cohort, optional
        Gives each photograph its patient, and says which photographs belong to the run.
    aligned_to : Path, optional
        Where chips of raw photographs go.
    size : int
        Side of those chips in pixels.

    Raises
    ------
    InputError
        If there are no such photographs, or arrays are of another shape or range.
    """
    if isinstance(photos, np.ndarray | Tensor):
        photos = Pictures(photos)
    if isinstance(photos, Pictures):
        return _from_pictures(photos, cohort)
    if isinstance(photos, Cohort):  # it stands for its own photographs
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


def _from_pictures(pictures: Pictures, cohort: Cohort | None) -> Source:
    images = torch.as_tensor(pictures.images).detach().cpu()
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise InputError(f"The images have shape {list(images.shape)}; expected [n, 3, side, side].")
    finite = images.float().nan_to_num(0, 0, 0)  # others are failed rows
    if len(images) and finite.abs().max() > 1 + SLACK:
        raise InputError(
            f"The images have values from {finite.min():g} to {finite.max():g}; expected −1 to 1 (of 0…255: "
            "x / 127.5 − 1)."
        )
    names, patients = pictures.photo_ids, pictures.patient_ids
    if names is None:
        names = [str(i) for i in range(len(images))] if cohort is None else list(cohort.table["photo_id"])
    if patients is None and cohort is not None:
        owner = dict(zip(cohort.table["photo_id"], cohort.table["patient_id"]))
        patients = [owner.get(name, name) for name in names]
    return ArraySource(images, list(names), list(names if patients is None else patients))


def _align(folder: Path, cohort: Cohort | None, target: Path | None, size: int) -> Chips:
    if target is None:
        raise InputError(
            f"{folder} holds raw photographs: align them first, or give `out`, where chips can go."
        )
    return align(folder if cohort is None else cohort, out=target, size=size)


def _from_chips(chips: Chips, cohort: Cohort | None) -> Source:
    cut = cut_of(chips)
    check_cut(cut)
    chips = Chips(chips.folder.resolve(), chips.table)  # workers have other working directories
    rows = zip(*(chips.table[name].tolist() for name in COLUMNS))
    if cohort is None:
        photos = [_photo(chips, row, row[0], row[0]) for row in rows]
        return ChipFolder(sorted(photos, key=lambda photo: photo.photo_id), cut)
    by_name = {row[1]: row for row in rows}
    photos = []
    for entry in _records(cohort.table.sort_values("photo_id")):
        photos.append(_photo(chips, by_name.get(entry["photo"]), entry["photo_id"], entry["patient_id"]))
    if all(photo.error == NOT_ALIGNED for photo in photos):
        raise InputError(
            f"None of the cohort's {len(photos)} photographs is among the {len(chips)} chips of {chips.folder}: the "
            f"table says {cohort.table['photo'].iloc[0]!r}, the chips {next(iter(by_name), None)!r}."
        )
    return ChipFolder(photos, cut)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _photo(chips: Chips, row: tuple[Any, ...] | None, photo_id: str, patient_id: str) -> Photo:
    if row is None:
        return Photo(photo_id, patient_id, error=NOT_ALIGNED)
    chip_id, _, path, digest, status, error = row
    if status != "ok":
        return Photo(photo_id, patient_id, path, digest, str(error or "alignment failed"))
    return Photo(photo_id, patient_id, path, digest, None, chips.folder, chip_id)
