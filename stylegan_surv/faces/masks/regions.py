"""Parts of a photograph as soft masks: face, head with hair, person, background and skin, each with its quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.matte import person_matte
from stylegan_surv.faces.masks.outline import EDGE, face_outline, features, filled, head_window
from stylegan_surv.faces.mesh.find import square_of_points
from stylegan_surv.faces.points import FacePoints

RegionKind = Literal["face", "head", "person", "background", "skin"]
REGIONS: tuple[RegionKind, ...] = ("face", "head", "person", "background", "skin")

SURE = (0.1, 0.9)  # a matte between these is uncertain
# colour of skin: robust standard deviations from the median of L*, a*, b* that are fully and no longer skin, and the
# smallest standard deviation that is assumed (shading of a flat-lit face)
WITHIN, BEYOND = 2.5, 4.0
LEAST_SPREAD = np.array([6.0, 3.0, 3.0])
MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Region:
    """One part of a photograph.

    Attributes
    ----------
    kind : {"face", "head", "person", "background", "skin"}
    weight : array of float, shape (h, w)
        0 outside to 1 inside.
    quality : float
        0 … 1. Face: mean matte within its hull (they agree). Head, person, background: the share of pixels that
        the matte is sure of, within the head's window or the picture; the head's also times that agreement. Skin:
        the share of the face, without eyes, brows, lips and nostrils, that has the colour of skin.
    """

    kind: RegionKind
    weight: Floats
    quality: float


def find_regions(picture: Tensor, points: FacePoints) -> dict[RegionKind, Region]:
    """All parts of a photograph.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    points : FacePoints
        In pixels of the picture, of either scheme.

    Returns
    -------
    dict of str to Region
        By kind.
    """
    height, width = picture.shape[1:]
    matte = person_matte(picture, square_of_points(points))
    soft = EDGE * points.inter_eye
    hull = filled([face_outline(points)], height, width, soft)
    window = filled([head_window(points)], height, width, soft)
    person = np.maximum(matte, hull)  # what the matte misses of a face is no background
    head = person * np.maximum(window, hull)
    agreement = _mean(matte, hull)
    plain = hull * (1 - features(points, height, width))
    skin = plain * matte * skin_colour(picture.detach().movedim(0, -1).cpu().numpy(), plain * matte)
    sure = _sure(matte)
    made: dict[RegionKind, tuple[Floats, float]] = {
        "face": (hull, agreement),
        "head": (head, _sure(matte, window) * agreement),
        "person": (person, sure),
        "background": (1 - person, sure),
        "skin": (skin, float(skin.sum() / max(plain.sum(), 1e-9))),
    }
    return {kind: Region(kind, weight, quality) for kind, (weight, quality) in made.items()}


def skin_colour(rgb: Floats, where: Floats) -> Floats:
    """How far each pixel has the colour that prevails in a region: 1 skin, 0 beard, glasses, strands, glare.

    Parameters
    ----------
    rgb : array of float, shape (h, w, 3)
        sRGB in 0 … 1.
    where : array of float, shape (h, w)
        The region; its pixels above 0.5 are the sample.

    Returns
    -------
    array of float, shape (h, w)
    """
    sample = where > 0.5
    if not sample.any():
        return np.zeros(where.shape)
    lab = to_lab(rgb)
    centre = np.median(lab[sample], axis=0)
    spread = MAD_TO_SD * np.median(np.abs(lab[sample] - centre), axis=0)
    distance = (np.abs(lab - centre) / np.maximum(spread, LEAST_SPREAD)).max(axis=-1)
    colour: Floats = np.clip((BEYOND - distance) / (BEYOND - WITHIN), 0, 1)
    return colour


def _mean(values: Floats, weight: Floats) -> float:
    return float((values * weight).sum() / max(weight.sum(), 1e-9))


def _sure(matte: Floats, window: Floats | None = None) -> float:
    """Share of the person's pixels that the matte is sure of."""
    low, high = SURE
    inside = np.ones(matte.shape) if window is None else window
    person = (inside * (matte >= low)).sum()
    unsure = (inside * ((matte >= low) & (matte <= high))).sum()
    return float(1 - unsure / max(person, 1e-9))
