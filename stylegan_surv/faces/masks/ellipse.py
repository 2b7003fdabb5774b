"""Where the face is in an aligned chip, as a soft mask."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.spatial import ConvexHull

from stylegan_surv._types import Array, Floats

# The FFHQ crop puts the eyes at .47 and the mouth at .75 of the height, the eyes .25 of the width apart; the
# ellipse runs from the hairline to the chin and from ear to ear (fractions of the side).
FACE = (0.5, 0.57, 0.29, 0.38)  # centre x, centre y, radius x, radius y
HEAD = (0.5, 0.50, 0.40, 0.52)  # with hair
FOREHEAD = 0.55  # height of the forehead above the brows over the distance from brows to mouth


def ellipse(size: int, shape: tuple[float, float, float, float] = FACE, softness: float = 0.1) -> Floats:
    """Soft ellipse in a square: 1 inside, 0 outside.

    Parameters
    ----------
    size : int
        Side in pixels.
    shape : tuple of float
        Centre and radii as fractions of the side.
    softness : float
        Width of the edge over the radius.

    Returns
    -------
    array of float32, shape (size, size)
    """
    centre_x, centre_y, radius_x, radius_y = shape
    at = (np.arange(size) + 0.5) / size
    radius = np.hypot((at[None, :] - centre_x) / radius_x, (at[:, None] - centre_y) / radius_y)
    return smoothstep((1 + softness / 2 - radius) / softness)


def smoothstep(t: Array) -> Floats:
    """3t² − 2t³, held at 0 below 0 and at 1 above 1."""
    t = np.clip(t, 0.0, 1.0).astype(np.float32)
    step: Floats = t * t * (3 - 2 * t)
    return step


def face_mask(size: int, landmarks: Floats | None = None, *, softness: float = 0.03) -> Floats:
    """Soft mask of the face in an aligned chip.

    Parameters
    ----------
    size : int
        Side of the chip in pixels.
    landmarks : array of float, shape (68, 2), optional
        iBUG landmarks (x, y) in chip pixels: the mask is their convex hull with a forehead above the brows.
        Without them, the ellipse where the FFHQ crop puts a frontal face.
    softness : float
        Standard deviation of the edge over the side (landmarks only).

    Returns
    -------
    array of float32, shape (size, size)
        Between 0 and 1.
    """
    if landmarks is None:
        return ellipse(size)
    points = np.asarray(landmarks, dtype=float)
    if points.shape != (68, 2):
        raise ValueError(f"landmarks have the shape {points.shape}; expected (68, 2)")
    brows, mouth = points[17:27], points[48:68].mean(axis=0)
    forehead = brows + FOREHEAD * (brows.mean(axis=0) - mouth)
    outline = np.concatenate([points, forehead])
    hull = outline[ConvexHull(outline).vertices]
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in hull], fill=255)
    filled = np.asarray(canvas, dtype=np.float32) / 255.0
    mask: Floats = np.clip(gaussian_filter(filled, softness * size), 0.0, 1.0)
    return mask
