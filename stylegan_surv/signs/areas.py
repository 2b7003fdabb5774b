"""Where a sign shows: skin, lips, whites of the eyes, scalp and brows, as soft weights.

What several signs of one face ask for is kept until the next face.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.faces.masks.matte import person_matte
from stylegan_surv.faces.masks.outline import face_outline, head_window
from stylegan_surv.faces.masks.regions import skin_colour
from stylegan_surv.faces.mesh.find import square_of_points
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.signs.face import SIDES, PaintedFace

# Standard deviations of edges, in eye distances.
SKIN_EDGE, EYE_EDGE, LIP_EDGE, BROW_EDGE, SCALP_EDGE = 0.08, 0.04, 0.04, 0.06, 0.12
INNER = 0.85  # the part of the face that is skin whatever its colour, over the whole
NECK_DOWN, NECK_IN = 1.3, 0.8  # the neck below the chin, and its half width over that of the jaw
BROW_GROWN = (1.15, 1.7)  # the brow's area along and across: its hairs leave the mesh's outline
BROW_GAIN = 1.2  # a brow is thinner than its soft edge: what the edge takes is given back
HAIRLINE = 0.9  # standard deviation of how far above the hairline hair grows thin, in eye distances


@lru_cache(maxsize=1)
def skin(face: PaintedFace) -> Floats:
    """The face with its lips, without eyes; at its rim and on the neck, what has its colour, (h, w)."""
    points = face.mesh.points
    outline = face_outline(points)
    hull = face.filled([outline], SKIN_EDGE)
    inner = face.filled([outline.mean(axis=0) + INNER * (outline - outline.mean(axis=0))], SKIN_EDGE)
    down, across = face.axes[1], face.axes[0]
    chin, jaw = points["chin"], (points["left_jaw_angle"], points["right_jaw_angle"])
    middle = (jaw[0] + jaw[1]) / 2
    half = NECK_IN * np.abs((jaw[1] - jaw[0]) @ across) / 2
    ends = [middle - half * across, middle + half * across]
    below = chin + NECK_DOWN * face.unit * down
    neck = np.array([ends[0], ends[1], below + half * across, below - half * across])
    around = np.maximum(face.filled([neck], SKIN_EDGE), hull) * skin_colour(face.rgb, hull)
    weight: Floats = np.maximum(inner, around) * (1 - eyes(face))
    return weight


@lru_cache(maxsize=1)
def eyes(face: PaintedFace) -> Floats:
    """What lies between the lids, (h, w)."""
    return face.filled([face.mesh.points[f"{side}_eye_area"] for side in SIDES], EYE_EDGE)


def lips(face: PaintedFace) -> Floats:
    """The lips, (h, w)."""
    return face.filled([face.mesh.points["lips"]], LIP_EDGE)


def whites(face: PaintedFace) -> Floats:
    """Whites of the eyes: what is bright between the lids, (h, w)."""
    between = eyes(face)
    level = face.density.mean(axis=-1)
    inside = level[between > 0.5]
    if not len(inside):
        return between
    bright, dark = np.quantile(inside, [0.1, 0.9])
    white: Floats = between * np.clip((dark - level) / max(dark - bright, 1e-3), 0, 1)
    return white


def brows(face: PaintedFace) -> Floats:
    """The eyebrows, (h, w)."""
    outlines = []
    for side in SIDES:
        outline = face.mesh.points[f"{side}_brow_area"]
        laid = (outline - outline.mean(axis=0)) @ face.axes.T * BROW_GROWN
        outlines.append(laid @ face.axes + outline.mean(axis=0))
    weight: Floats = np.clip(BROW_GAIN * face.filled(outlines, BROW_EDGE), 0, 1)
    return weight


def scalp(face: PaintedFace) -> Floats:
    """Where hair recedes and thins: above and beside the forehead, most at the hairline, (h, w)."""
    points = face.mesh.points
    hull = face.filled([face_outline(points)], SCALP_EDGE)
    window = face.filled([head_window(points)], SCALP_EDGE)
    matte = person_matte(as_picture(np.round(face.rgb * 255).astype(np.uint8)), square_of_points(points))
    down = (face.centres - points["forehead"]) @ face.axes[1] / face.unit
    brow = (face.at("brow_middle", "left") + face.at("brow_middle", "right")) / 2 - points["forehead"]
    level = float(brow @ face.axes[1] / face.unit)  # of the brows, below the mesh's top of the forehead
    near = np.exp(-(np.clip(-down / (HAIRLINE * face.manner.width), 0, None) ** 2) / 2)
    above = np.clip((level * 0.8 - down) / (level * 0.5), 0, 1)
    weight: Floats = matte * window * (1 - hull) * near * above
    return weight


def forehead_density(face: PaintedFace) -> Floats:
    """Density of the bare skin between the brows and the top of the forehead, (3,)."""
    points = face.mesh.points
    brow = np.array([face.at("brow_middle", side) for side in SIDES])
    top = points["forehead"] - brow.mean(axis=0)
    low, high = brow + 0.25 * top, brow + 0.7 * top
    patch = face.filled([np.concatenate([low, high[::-1]])], BROW_EDGE)
    inside = face.density[patch > 0.5]
    if len(inside) == 0:
        inside = face.density[face.filled([face_outline(points)], SKIN_EDGE) > 0.5]
    return np.asarray(np.quantile(inside, 0.35, axis=0))
