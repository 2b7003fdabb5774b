"""What a photograph tells without the face, and photographs that occur twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from stylegan_surv.faces.mask import HEAD, ellipse, face_mask

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]

CAMERA = (
    "brightness", "contrast", "saturation", "warmth", "sharpness", "background", "grey",
    "inter_eye_px", "crop_scale", "padded", "roll_deg", "yaw",
)  # fmt: skip
_SIDE = 48  # chips are looked at in this size
_CELLS = 12  # colour is averaged over 12 × 12 cells
_BLOCKS, _DIRECTIONS = 4, 8  # gradients: 4 × 4 blocks of 8 directions
_LEAST_COVERED = 0.3  # share of a cell that must lie outside the mask


def region(name: str, size: int = _SIDE) -> Floats:
    """Weight of each pixel [size, size]: "background" is outside the head, "no_face" all but the face."""
    return np.asarray(1 - (ellipse(size, HEAD) if name == "background" else face_mask(size)), float)


def pixel_features(chip: Pixels, weight: Floats) -> Floats:
    """Colours and gradients of the part of a chip that `weight` shows.

    Cell means of the three channels, their weighted means and spreads, and histograms of gradient directions
    (Dalal & Triggs 2005). Pixels with weight 0 have no influence.
    """
    image = np.asarray(Image.fromarray(chip).resize((_SIDE, _SIDE), Image.Resampling.BOX), float) / 255
    seen = _pool(weight, _CELLS)
    shown = seen > _LEAST_COVERED
    cells = np.stack([_pool(image[..., c] * weight, _CELLS)[shown] / seen[shown] for c in range(3)])
    mean = np.tensordot(weight, image, 2) / weight.sum()
    spread = np.sqrt(np.tensordot(weight, (image - mean) ** 2, 2) / weight.sum())
    return np.concatenate([cells.ravel(), mean, spread, _gradients(image.mean(axis=2), weight)])


def _gradients(grey: Floats, weight: Floats) -> Floats:
    dy, dx = np.gradient(grey)
    # a difference that reaches over the mask's edge would let the face in
    whole = weight > 0.999
    inside = whole.copy()
    inside[1:-1, 1:-1] &= whole[2:, 1:-1] & whole[:-2, 1:-1] & whole[1:-1, 2:] & whole[1:-1, :-2]
    strength = np.hypot(dx, dy) * inside
    direction = np.floor((np.arctan2(dy, dx) % np.pi) / np.pi * _DIRECTIONS).astype(int) % _DIRECTIONS
    return np.concatenate([_pool(strength * (direction == d), _BLOCKS).ravel() for d in range(_DIRECTIONS)])


def _pool(x: Floats, cells: int) -> Floats:
    step = x.shape[0] // cells
    return np.asarray(x.reshape(cells, step, cells, step).mean(axis=(1, 3)))


def perceptual_hash(chip: Pixels) -> NDArray[np.bool_]:
    """256 bits of the low frequencies of a picture: signs of a 16 × 16 DCT block about its median.

    Aligned faces resemble one another, so 64 bits are too few. Among 1.1 million pairs of different faces the
    least distance was 24 bits; a picture that was shrunk, brightened and compressed anew lay within 18 bits of
    itself in 95 % of cases.
    """
    grey = Image.fromarray(chip).convert("L").resize((64, 64), Image.Resampling.BOX)
    low = dctn(np.asarray(grey, float), norm="ortho")[:16, :16].ravel()
    return np.asarray(low > np.median(low[1:]))


@dataclass(frozen=True)
class Photographs:
    """What is measured on the photographs of a study, one row per photograph.

    Attributes
    ----------
    photo_id, patient_id : arrays [photos]
    camera : array [photos, k]
        Light, colour, sharpness, pose, crop.
    background, no_face : arrays [photos, features]
        `pixel_features` of the part outside the head, and of all but the face.
    hashes : bool array [photos, 256]
    """

    photo_id: NDArray
    patient_id: NDArray
    camera: Floats
    background: Floats
    no_face: Floats
    hashes: NDArray[np.bool_]

    def by_patient(self, values: Floats, patients: Sequence[str]) -> Floats:
        """Mean over a patient's photographs, rows in the order of `patients`; missing ones get the mean."""
        means = pd.DataFrame(values).groupby(self.patient_id.astype(str)).mean().reindex(list(patients))
        return np.asarray(means.fillna(means.mean()).to_numpy(np.float32))


def measure(
    load: Callable[[str], Pixels],
    photo_id: Sequence[str],
    patient_id: Sequence[str],
    quality: pd.DataFrame,
    progress: Callable[[int, int], None] | None = None,
) -> Photographs:
    """Measure aligned photographs.

    Parameters
    ----------
    load : callable
        ``load(photo_id)`` gives the chip, uint8 [H, W, 3]; e.g. ``Chips.load``.
    quality : DataFrame
        Rows of the chips' manifest with `photo_id`; its camera columns are used as far as there are any.
    """
    weights = {name: region(name) for name in ("background", "no_face")}
    features: dict[str, list[Floats]] = {name: [] for name in weights}
    hashes = []
    for k, name in enumerate(photo_id):
        chip = load(name)
        for part, weight in weights.items():
            features[part].append(pixel_features(chip, weight))
        hashes.append(perceptual_hash(chip))
        if progress:
            progress(k + 1, len(photo_id))
    columns = [c for c in CAMERA if c in quality]
    rows = quality.set_index(quality["photo_id"].astype(str)).reindex([str(i) for i in photo_id])
    camera = rows[columns].astype(float)
    camera = camera.fillna(camera.mean()).fillna(0.0)
    return Photographs(
        np.asarray(photo_id),
        np.asarray(patient_id),
        camera.to_numpy(),
        np.array(features["background"]),
        np.array(features["no_face"]),
        np.array(hashes),
    )


def near_duplicates(photographs: Photographs, *, bits: int = 20) -> pd.DataFrame:
    """Photographs of *different* patients that are the same picture.

    Returns
    -------
    DataFrame
        photo_a, patient_a, photo_b, patient_b, bits (differing ones of 256), nearest first.
    """
    sign = photographs.hashes.astype(np.float32) * 2 - 1
    rows: list[tuple[object, ...]] = []
    for start in range(0, len(sign), 2048):
        differing = (sign.shape[1] - sign[start : start + 2048] @ sign.T) / 2
        i, j = np.nonzero(differing <= bits)
        for a, b in _later(i + start, j):
            if photographs.patient_id[a] != photographs.patient_id[b]:
                pair = [photographs.photo_id[a], photographs.patient_id[a]]
                pair += [photographs.photo_id[b], photographs.patient_id[b]]
                rows.append((*pair, int(differing[a - start, b])))
    names = ["photo_a", "patient_a", "photo_b", "patient_b", "bits"]
    return pd.DataFrame(rows, columns=names).sort_values("bits", ignore_index=True)


def _later(i: NDArray[np.intp], j: NDArray[np.intp]) -> Iterable[tuple[int, int]]:
    return ((int(a), int(b)) for a, b in zip(i, j) if a < b)
