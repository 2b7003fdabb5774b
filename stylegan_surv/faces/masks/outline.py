"""Outlines of face, hair and features from named landmarks, as polygons and as soft masks. No network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.spatial import ConvexHull

from stylegan_surv._types import Floats
from stylegan_surv.faces.masks.ellipse import ellipse
from stylegan_surv.faces.points import FacePoints

# Lengths are in inter-eye distances unless said otherwise.
EDGE = 0.04  # standard deviation of the soft edge
FOREHEAD = 0.3  # the oval ends below the hairline: what is above the brows is stretched by this share
BROWS_TO_HAIR = (
    0.55  # height of the forehead above the brows over the distance from brows to mouth, without an oval
)
HEAD_WIDTH = 2.0  # of the window for hair at the height of the eyes and above, in half widths of the oval
CHIN_WIDTH = 1.4  # the same at the height of the chin: hair beside the jaw, but hardly the shoulders
HEAD_ABOVE = 2.0  # of the window above the oval
GROWN = {
    "eye": 1.35,
    "brow": 1.3,
    "lips": 1.15,
}  # outlines are enlarged about their middle before they are cut out
BROW = 0.14  # height of a brow of which only a line is known
NOSTRIL = 0.08  # radius
FINE, FINE_BELOW = 4, 1024  # polygons of pictures up to this long side are drawn larger, for exact edges


def face_mask(size: int, points: FacePoints | None = None, *, softness: float = 0.03) -> Floats:
    """Soft mask of the face in an aligned chip.

    Parameters
    ----------
    size : int
        Side of the chip in pixels.
    points : FacePoints, optional
        In chip pixels: the mask is their outline with a forehead above the brows. Without them, the ellipse where
        the FFHQ crop puts a frontal face.
    softness : float
        Standard deviation of the edge over the side (with landmarks only).

    Returns
    -------
    array of float32, shape (size, size)
        Between 0 and 1.
    """
    if points is None:
        return ellipse(size)
    mask: Floats = filled([face_outline(points)], size, size, softness * size).astype(np.float32)
    return mask


def face_outline(points: FacePoints) -> Floats:
    """The mesh's oval, or the hull of dlib's points, with a forehead that reaches to the hairline, (k, 2)."""
    brow_line = np.concatenate([points["left_brow"], points["right_brow"]])
    brows = brow_line.mean(axis=0)
    if "oval" not in points:
        forehead = brow_line + BROWS_TO_HAIR * (brows - points.mouth)
        around = np.concatenate([points.xy, forehead])
        hull: Floats = around[ConvexHull(around).vertices]
        return hull
    oval = points["oval"]
    down = _down(points)
    above = np.clip((brows - oval) @ down, 0, None)
    outline: Floats = oval - FOREHEAD * above[:, None] * down
    return outline


def head_window(points: FacePoints) -> Floats:
    """Where hair may be, as a polygon (k, 2): beside and above the face, down to the jaw and the height of the chin."""
    down = _down(points)
    along = np.array([down[1], -down[0]])
    frame = np.stack([along, down])
    face = points["oval"] if "oval" in points else face_outline(points)
    origin = face.mean(axis=0)
    oval, jaw, chin = ((place - origin) @ frame.T for place in (face, points["jaw"], points["chin"]))
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


def features(points: FacePoints, height: int, width: int) -> Floats:
    """Eyes, brows, lips and nostrils, 1 inside."""
    eyes = [
        points[f"{name}_area" if f"{name}_area" in points else name] for name in ("left_eye", "right_eye")
    ]
    outlines = [_grown(eye, GROWN["eye"]) for eye in eyes]
    outlines += [_grown(_brow(points, name), GROWN["brow"]) for name in ("left_brow", "right_brow")]
    outlines.append(_grown(points["lips"], GROWN["lips"]))
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    disc = NOSTRIL * points.inter_eye * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outlines += [(points[ala] + points["nose_base"]) / 2 + disc for ala in ("left_ala", "right_ala")]
    return filled(outlines, height, width, EDGE * points.inter_eye)


def _brow(points: FacePoints, name: str) -> Floats:
    """Outline of a brow; where only its upper line is known, a band below that."""
    if f"{name}_area" in points:
        return points[f"{name}_area"]
    line = points[name]
    band: Floats = np.concatenate([line, line[::-1] + BROW * points.inter_eye * _down(points)])
    return band


def _grown(outline: Floats, factor: float) -> Floats:
    middle = outline.mean(axis=0)
    grown: Floats = middle + factor * (outline - middle)
    return grown


def filled(outlines: Sequence[Floats], height: int, width: int, softness: float) -> Floats:
    """Polygons filled with 1, with an edge that is soft by a standard deviation of so many pixels."""
    fine = FINE if max(height, width) <= FINE_BELOW else 1
    canvas = Image.new("L", (width * fine, height * fine))
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        pen.polygon([(float(x), float(y)) for x, y in outline * fine - 0.5], fill=255)
    drawn = np.asarray(canvas, dtype=float).reshape(height, fine, width, fine).mean(axis=(1, 3)) / 255
    soft: Floats = np.clip(gaussian_filter(drawn, softness), 0, 1)
    return soft


def _down(points: FacePoints) -> Floats:
    """Unit vector from the brow to the chin, at right angles to the eyes."""
    across = points.right_eye - points.left_eye
    return np.array([-across[1], across[0]]) / max(float(np.hypot(*across)), 1e-9)
