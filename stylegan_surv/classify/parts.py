"""Parts of the mean face, for shares of a map: they do not overlap and together are the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from stylegan_surv._types import Floats
from stylegan_surv.faces.masks.outline import face_outline
from stylegan_surv.faces.points import MESH468, FacePoints

PARTS = ("skin", "eyes", "mouth", "hair", "background")
EYES_WIDER, MOUTH_WIDER = 1.6, 1.2  # lids and shadows belong to the eyes, the rim to the mouth
FINE = 4


def part_masks(points: Floats, cover: Floats) -> dict[str, Floats]:
    """Weight of every part at every pixel; they sum to 1.

    Parameters
    ----------
    points : array of float, shape (468, 2)
        The mean face in pixels.
    cover : array of float, shape (side, side)
        Mean of what was kept of every pixel: beyond it is background.
    """
    face = FacePoints(points, MESH468)
    side = len(cover)
    hull = _filled([face_outline(face)], side)
    eyes = _filled([_grown(face[f"{s}_eye_area"], EYES_WIDER) for s in ("left", "right")], side) * hull
    mouth = _filled([_grown(face["lips"], MOUTH_WIDER)], side) * hull * (1 - eyes)
    rest = 1 - hull
    return {
        "skin": hull - eyes - mouth,
        "eyes": eyes,
        "mouth": mouth,
        "hair": rest * cover,
        "background": rest * (1 - cover),
    }


def _grown(outline: Floats, factor: float) -> Floats:
    middle = outline.mean(axis=0)
    return np.asarray(middle + factor * (outline - middle))


def _filled(outlines: list[Floats], side: int) -> Floats:
    canvas = Image.new("L", (side * FINE,) * 2)
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        pen.polygon([(float(x), float(y)) for x, y in outline * FINE - 0.5], fill=255)
    filled: Floats = np.asarray(canvas, float).reshape(side, FINE, side, FINE).mean(axis=(1, 3)) / 255
    return filled
