"""Landmarks and masks of aligned faces: the FFHQ crop says where the face is, so that no detector is asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.masks.ellipse import FACE, HEAD, ellipse, smoothstep
from stylegan_surv.faces.masks.regions import Region, RegionKind, find_regions
from stylegan_surv.faces.mesh.find import MIN_SCORE, read_mesh
from stylegan_surv.faces.mesh.sampling import as_picture, one_thread
from stylegan_surv.faces.points import FacePoints

# The mesh's crop in an FFHQ chip, as shares of its side: 1.5 times the face, which reaches from .28 to .92.
CROP_CENTRE, CROP_SIDE = (0.5, 0.6), 0.96
CHIN, CHIN_FADES = 0.90, 0.05  # the FFHQ crop ends a frontal chin above this height; shares of the side


def points_of_chip(chip: Pixels) -> FacePoints | None:
    """The mesh of an aligned face in the pixels of its chip [side, side, 3]; None where it sees no face."""
    side = len(chip)
    square = Square(np.array(CROP_CENTRE) * side, np.array([1.0, 0.0]), CROP_SIDE * side)
    with one_thread():
        face = read_mesh(as_picture(chip), [square])[0]
    return face.points if face.score >= MIN_SCORE else None


def chip_regions(chip: Pixels, points: FacePoints | None = None) -> Mapping[RegionKind, Region]:
    """Face, head, person, background and skin of an aligned face.

    Parameters
    ----------
    chip : array of uint8, shape (side, side, 3)
    points : FacePoints, optional
        In pixels of the chip; by default the mesh is read from it.

    Returns
    -------
    dict of str to Region
        By kind. Where no face is seen: the ellipses in which the FFHQ crop has face and head, with a quality of 0.
    """
    points = points or points_of_chip(chip)
    if points is None:
        return _ellipses(len(chip))
    with one_thread():
        return find_regions(as_picture(chip), points)


def _ellipses(size: int) -> Mapping[RegionKind, Region]:
    face, person = (np.asarray(ellipse(size, shape), float) for shape in (FACE, HEAD))
    rows = (np.arange(size) + 0.5) / size
    head = person * (1 - smoothstep((rows - CHIN) / CHIN_FADES))[:, None]
    weights: dict[RegionKind, Floats] = {
        "face": face, "head": head, "person": person, "background": 1 - person, "skin": face,
    }  # fmt: skip
    return {kind: Region(kind, weight, 0.0) for kind, weight in weights.items()}
