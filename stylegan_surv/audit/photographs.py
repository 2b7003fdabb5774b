"""What a photograph tells without the face, and pictures that different patients share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from stylegan_surv._types import Array, Floats, Pixels, Progress
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.duplicates import face_embeddings
from stylegan_surv.faces.masks.ellipse import HEAD, ellipse
from stylegan_surv.faces.masks.outline import face_mask
from stylegan_surv.faces.masks.regions import Region, RegionKind

CAMERA = (
    "brightness", "contrast", "saturation", "warmth", "sharpness", "background", "grey",
    "inter_eye_px", "crop_scale", "padded", "roll_deg", "yaw",
)  # fmt: skip
_SIDE = 48  # chips are looked at in this size
_CELLS = 12  # colour is averaged over 12 × 12 cells
_BLOCKS, _DIRECTIONS = 4, 8  # gradients: 4 × 4 blocks of 8 directions
_SURE = 0.9  # weight of a mask from which a pixel counts
_LEAST_COVERED = 0.3  # share of a cell that must lie outside the mask


PARTS = ("background", "no_face")  # what is behind the person, and all but the face


def region(masks: Mapping[RegionKind, Region], name: str) -> Floats:
    """Share of each pixel [48, 48] that surely belongs to a part: "background" or "no_face"."""
    weight = masks["background"].weight if name == "background" else 1 - masks["face"].weight
    surely = Image.fromarray((weight >= _SURE).astype(np.float32))
    return np.asarray(surely.resize((_SIDE, _SIDE), Image.Resampling.BOX), float)


def layout(name: str) -> Floats:
    """Where a part lies in an FFHQ crop [48, 48]: it says which cells are described, the same in every photograph."""
    return np.asarray(1 - (ellipse(_SIDE, HEAD) if name == "background" else face_mask(_SIDE)), float)


def pixel_features(chip: Pixels, weight: Floats, shown: Floats) -> Floats:
    """Colours and gradients of the part of a chip that `weight` shows.

    Cell means of the three channels, their weighted means and spreads, and histograms of gradient directions
    (Dalal & Triggs 2005). Pixels with weight 0 have no influence. Cells are described that `layout` shows; one that
    this photograph's mask covers takes the mean of the others.
    """
    image = np.asarray(Image.fromarray(chip).resize((_SIDE, _SIDE), Image.Resampling.BOX), float) / 255
    seen = _pool(weight, _CELLS)
    total = max(float(weight.sum()), 1e-9)
    mean = np.tensordot(weight, image, 2) / total
    spread = np.sqrt(np.tensordot(weight, (image - mean) ** 2, 2) / total)
    open_, described = seen > _LEAST_COVERED, _pool(shown, _CELLS) > _LEAST_COVERED
    pooled = [_pool(image[..., c] * weight, _CELLS) / np.maximum(seen, 1e-9) for c in range(3)]
    cells = np.stack([np.where(open_, p, m)[described] for p, m in zip(pooled, mean)])
    return np.concatenate([cells.ravel(), mean, spread, _gradients(image.mean(axis=2), weight)])


def _gradients(grey: Floats, weight: Floats) -> Floats:
    dy, dx = np.gradient(grey)
    # a difference that reaches over the mask's edge would let the face in
    whole = weight > 0.999
    around = np.pad(whole, 1, constant_values=True)
    inside = whole & around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2]
    strength = np.hypot(dx, dy) * inside
    direction = np.floor((np.arctan2(dy, dx) % np.pi) / np.pi * _DIRECTIONS).astype(int) % _DIRECTIONS
    return np.concatenate([_pool(strength * (direction == d), _BLOCKS).ravel() for d in range(_DIRECTIONS)])


def _pool(x: Floats, cells: int) -> Floats:
    step = x.shape[0] // cells
    return np.asarray(x.reshape(cells, step, cells, step).mean(axis=(1, 3)))


@dataclass(frozen=True)
class Photographs:
    """What is measured on the photographs of a study, one row per photograph.

    Attributes
    ----------
    photo_id, patient_id : array of str, shape (photos,)
    camera : array of float, shape (photos, k)
        Light, colour, sharpness, pose, crop.
    background, no_face : array of float, shape (photos, features)
        `pixel_features` of what is behind the person, and of all but the face.
    recognition : array of float, shape (photos, 128), or None
        The face recogniser's descriptor, which any such system reads from a photograph.
    """

    photo_id: Array
    patient_id: Array
    camera: Floats
    background: Floats
    no_face: Floats
    recognition: Floats | None = None

    def by_patient(self, values: Floats, patients: Sequence[str]) -> Floats:
        """Mean over a patient's photographs, rows in the order of `patients`; missing ones get the mean."""
        means = pd.DataFrame(values).groupby(self.patient_id.astype(str)).mean().reindex(list(patients))
        return np.asarray(means.fillna(means.mean()).to_numpy(np.float32))


def measure(
    chips: Chips,
    photo_id: Sequence[str],
    patient_id: Sequence[str],
    progress: Progress | None = None,
    *,
    recognition: bool = False,
) -> Photographs:
    """Measure the aligned photographs of a study.

    Parameters
    ----------
    chips : Chips
        Their folder; quality columns are taken from its table as far as there are any.
    photo_id, patient_id : sequence of str
        Which photographs, and whose.
    progress : callable, optional
        Called with (done, total).
    recognition : bool
        Also embed the faces by face recognition, about 0.1 s each; kept beside the chips.
    """
    layouts = {name: layout(name) for name in PARTS}
    features: dict[str, list[Floats]] = {name: [] for name in PARTS}
    for k, name in enumerate(photo_id):
        chip, masks = chips.load(name), chips.masks(name)
        for part, shown in layouts.items():
            features[part].append(pixel_features(chip, region(masks, part), shown))
        if progress:
            progress(k + 1, len(photo_id))
    columns = [c for c in CAMERA if c in chips.table]
    rows = chips.table.set_index("photo_id").reindex(list(photo_id))[columns].astype(float)
    camera = rows.fillna(rows.mean()).fillna(0.0).to_numpy()
    return Photographs(
        np.asarray(photo_id),
        np.asarray(patient_id),
        camera,
        np.array(features["background"]),
        np.array(features["no_face"]),
        face_embeddings(chips, photo_id, progress) if recognition else None,
    )


@dataclass(frozen=True)
class AlikePair:
    """Two photographs of different patients that are alike, and how far apart they are."""

    photo_a: str
    patient_a: str
    photo_b: str
    patient_b: str
    distance: float


def across_patients(pairs: pd.DataFrame, patient_of: Mapping[str, str]) -> tuple[AlikePair, ...]:
    """Those pairs of photographs (`same_picture`, `same_person`) that belong to different patients, nearest first.

    Parameters
    ----------
    pairs : DataFrame
        Two photographs and their distance, nearest first.
    patient_of : mapping of str to str
        Photograph to patient.
    """
    found = []
    for a, b, distance in pairs.itertuples(index=False):
        one, other = patient_of.get(a), patient_of.get(b)
        if one is not None and other is not None and one != other:
            found.append(AlikePair(a, one, b, other, float(distance)))
    return tuple(found)
