"""Parts of a photograph as soft masks: face, head with hair, person, background and skin, each with its quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.matte import person_matte
from stylegan_surv.faces.mesh.find import MeshFace
from stylegan_surv.faces.points import FacePoints

RegionKind = Literal["face", "head", "person", "background", "skin"]
REGIONS: tuple[RegionKind, ...] = ("face", "head", "person", "background", "skin")

# Lengths are in inter-eye distances unless said otherwise.
EDGE = 0.04  # standard deviation of the soft edge
FOREHEAD = 0.3  # the oval ends below the hairline: what is above the brows is stretched by this share
HEAD_WIDTH = 2.0  # of the window for hair at the height of the eyes and above, in half widths of the oval
CHIN_WIDTH = 1.4  # the same at the height of the chin: hair beside the jaw, but hardly the shoulders
HEAD_ABOVE = 2.0  # of the window above the oval
GROWN = {
    "eye": 1.35,
    "brow": 1.3,
    "lips": 1.15,
}  # outlines are enlarged about their middle before they are cut out
NOSTRIL = 0.08  # radius
SURE = (0.1, 0.9)  # a matte between these is uncertain
FINE, FINE_BELOW = 4, 1024  # polygons of pictures up to this long side are drawn larger, for exact edges
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


def find_regions(picture: Tensor, face: MeshFace) -> dict[RegionKind, Region]:
    """All parts of a photograph.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    face : MeshFace
        Of this picture.

    Returns
    -------
    dict of str to Region
        By kind.
    """
    height, width = picture.shape[1:]
    points = face.points
    matte = person_matte(picture, face)
    hull = _filled([face_outline(points)], height, width, points.inter_eye)
    window = _filled([head_window(points)], height, width, points.inter_eye)
    head = matte * np.maximum(window, hull)
    agreement = _mean(matte, hull)
    plain = hull * (1 - _features(points, height, width))
    skin = plain * matte * skin_colour(picture.detach().movedim(0, -1).cpu().numpy(), plain * matte)
    sure = _sure(matte)
    made: dict[RegionKind, tuple[Floats, float]] = {
        "face": (hull, agreement),
        "head": (head, _sure(matte, window) * agreement),
        "person": (matte, sure),
        "background": (1 - matte, sure),
        "skin": (skin, float(skin.sum() / max(plain.sum(), 1e-9))),
    }
    return {kind: Region(kind, weight, quality) for kind, (weight, quality) in made.items()}


def face_outline(points: FacePoints) -> Floats:
    """The mesh's oval with the forehead stretched towards the hairline, (k, 2)."""
    oval = points["oval"]
    brows = np.concatenate([points["left_brow"], points["right_brow"]]).mean(axis=0)
    down = _down(points)
    above = np.clip((brows - oval) @ down, 0, None)
    outline: Floats = oval - FOREHEAD * above[:, None] * down
    return outline


def head_window(points: FacePoints) -> Floats:
    """Where hair may be, as a polygon (k, 2): beside and above the face, down to the jaw and the height of the chin."""
    down = _down(points)
    along = np.array([down[1], -down[0]])
    frame = np.stack([along, down])
    origin = points["oval"].mean(axis=0)
    oval, jaw, chin = ((points[name] - origin) @ frame.T for name in ("oval", "jaw", "chin"))
    left, right = oval[:, 0].min(), oval[:, 0].max()
    middle, half = (left + right) / 2, (right - left) / 2
    top = oval[:, 1].min() - HEAD_ABOVE * points.inter_eye
    eyes = float(((points.left_eye + points.right_eye) / 2 - origin) @ down)
    edge = [(HEAD_WIDTH, top), (HEAD_WIDTH, eyes), (CHIN_WIDTH, chin[1])]
    beside = [(middle + factor * half, height) for factor, height in edge]
    mirrored = [(2 * middle - x, y) for x, y in beside[::-1]]
    ends = (jaw[-1, 0], chin[1]), (jaw[0, 0], chin[1])
    laid = np.array([*beside, ends[0], *jaw[::-1], ends[1], *mirrored])
    polygon: Floats = laid @ frame + origin
    return polygon


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


def _features(points: FacePoints, height: int, width: int) -> Floats:
    """Eyes, brows, lips and nostrils, 1 inside."""
    parts = {"eye": ("left_eye_area", "right_eye_area"), "brow": ("left_brow_area", "right_brow_area")}
    outlines = [_grown(points[name], GROWN[kind]) for kind, names in parts.items() for name in names]
    outlines.append(_grown(points["lips"], GROWN["lips"]))
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    disc = NOSTRIL * points.inter_eye * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outlines += [(points[ala] + points["nose_base"]) / 2 + disc for ala in ("left_ala", "right_ala")]
    return _filled(outlines, height, width, points.inter_eye)


def _grown(outline: Floats, factor: float) -> Floats:
    middle = outline.mean(axis=0)
    grown: Floats = middle + factor * (outline - middle)
    return grown


def _filled(outlines: Sequence[Floats], height: int, width: int, inter_eye: float) -> Floats:
    """Polygons filled with 1, with a soft edge."""
    fine = FINE if max(height, width) <= FINE_BELOW else 1
    canvas = Image.new("L", (width * fine, height * fine))
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        pen.polygon([(float(x), float(y)) for x, y in outline * fine - 0.5], fill=255)
    filled = np.asarray(canvas, dtype=float).reshape(height, fine, width, fine).mean(axis=(1, 3)) / 255
    soft: Floats = np.clip(gaussian_filter(filled, EDGE * inter_eye), 0, 1)
    return soft


def _down(points: FacePoints) -> Floats:
    """Unit vector from the brow to the chin, at right angles to the eyes."""
    across = points.right_eye - points.left_eye
    return np.array([-across[1], across[0]]) / max(float(np.hypot(*across)), 1e-9)


def _mean(values: Floats, weight: Floats) -> float:
    return float((values * weight).sum() / max(weight.sum(), 1e-9))


def _sure(matte: Floats, window: Floats | None = None) -> float:
    """Share of the person's pixels that the matte is sure of."""
    low, high = SURE
    inside = np.ones(matte.shape) if window is None else window
    person = (inside * (matte >= low)).sum()
    unsure = (inside * ((matte >= low) & (matte <= high))).sum()
    return float(1 - unsure / max(person, 1e-9))
