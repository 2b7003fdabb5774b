"""The FFHQ crop: a square around the face whose axes follow the eyes and the mouth.

Source: Karras et al., Progressive Growing of GANs (arXiv 1710.10196), appendix C, with 68 landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform

from stylegan_surv._types import Bools, Floats, Ints, Pixels
from stylegan_surv.faces.points import FacePoints

GRID = 64  # points each way in which the share beyond the photograph is measured
MARGIN = 0.02  # of the square's side: what cubic interpolation sees beyond the edge
EYES_TO_CENTRE = 0.1  # the centre lies this share of the eye–mouth distance below the eyes
EYE_WIDTHS, MOUTH_HEIGHTS = 4.0, 3.6  # side of the square in inter-eye and eye–mouth distances


@dataclass(frozen=True)
class Square:
    """A turned square in a photograph; coordinates are continuous, pixel (0, 0) covers [0, 1] × [0, 1].

    Attributes
    ----------
    centre : array of float, shape (2,)
    axis : array of float, shape (2,)
        Unit vector along the upper edge, left to right.
    side : float
        In pixels of the photograph.
    """

    centre: Floats
    axis: Floats
    side: float

    @property
    def down(self) -> Floats:
        """Unit vector along the left edge, from top to bottom."""
        return np.array([-self.axis[1], self.axis[0]])

    def corners(self) -> Floats:
        """Upper left, upper right, lower right, lower left, as ``[4, 2]``."""
        x, y = self.axis * self.side / 2, self.down * self.side / 2
        return np.stack([self.centre - x - y, self.centre + x - y, self.centre + x + y, self.centre - x + y])

    def to_chip(self, points: Floats, size: int) -> Floats:
        """Points of the photograph in the pixels of a chip of side `size`."""
        relative = (points - self.centre) @ np.stack([self.axis, self.down], axis=1)
        pixels: Floats = (relative / self.side + 0.5) * size
        return pixels

    def points_of_chip(self, points: FacePoints, size: int) -> FacePoints:
        """Landmarks of the photograph as those of a chip of side `size`."""
        return FacePoints(self.to_chip(points.xy, size), points.scheme)


def ffhq_square(points: FacePoints) -> Square:
    """Square of a face, from eyes and mouth where dlib's 68 points would have them."""
    left, right, mouth = points.ffhq_anchors()
    across = right - left
    up = (left + right) / 2 - mouth
    axis = across - np.array([up[1], -up[0]])  # up, turned by 90°, points left where the face is upright
    axis /= np.hypot(*axis)
    side = max(EYE_WIDTHS * np.hypot(*across), MOUTH_HEIGHTS * np.hypot(*up))
    return Square((left + right) / 2 - EYES_TO_CENTRE * up, axis, float(side))


def crop(image: Image.Image, square: Square, size: int) -> tuple[Pixels, float]:
    """Cut the square out of a photograph: an area filter when shrinking, then cubic; reflected outside.

    Parameters
    ----------
    image : Image
        RGB.
    square : Square
    size : int
        Side of the chip in pixels.

    Returns
    -------
    chip : array of uint8, shape (size, size, 3)
    padded : float
        Share of the chip that lies outside the photograph.
    """
    corners = square.corners()
    margin = max(2.0, MARGIN * square.side) + 2 * square.side / size
    low = np.floor(corners.min(axis=0) - margin).astype(int)
    high = np.ceil(corners.max(axis=0) + margin).astype(int)
    region = _cut_reflected(np.asarray(image), low, high)
    shrink = max(square.side / size, 1.0)
    width, height = (max(round(extent / shrink), 1) for extent in high - low)
    small = Image.fromarray(region)
    if shrink > 1:  # Hamming: a plain box would shift details by half a pixel between 1:1 and 2:1
        small = small.resize((width, height), Image.Resampling.HAMMING)
    scale = np.array([width, height]) / (high - low)
    step = np.stack([square.axis, square.down], axis=1) * square.side / size * scale[:, None]
    first = (corners[0] - low) * scale + step @ (0.5, 0.5) - 0.5  # centre of the chip's first pixel
    # scipy counts rows before columns; Pillow's own cubic transform cuts off fractions and overshoots
    matrix, offset, shape = step[::-1, ::-1], first[::-1], (size, size)
    channels = [
        affine_transform(np.asarray(band, np.float32), matrix, offset, shape, order=3, mode="nearest")
        for band in small.split()
    ]
    chip = np.round(np.clip(np.stack(channels, axis=-1), 0, 255)).astype(np.uint8)
    return chip, float(np.mean(outside(square, image.size)))


def _cut_reflected(pixels: Pixels, low: Ints, high: Ints) -> Pixels:
    """Rows and columns low…high of a picture that is mirrored at its edges for ever."""
    height, width = pixels.shape[:2]
    columns = _mirror(np.arange(low[0], high[0]), width)
    rows = _mirror(np.arange(low[1], high[1]), height)
    return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])


def _mirror(index: Ints, length: int) -> Ints:
    folded = np.mod(index, 2 * length)
    mirrored: Ints = np.minimum(folded, 2 * length - 1 - folded)
    return mirrored


def outside(square: Square, size: tuple[int, int]) -> Bools:
    """Which points of a grid of 64 × 64 in the square lie beyond a picture of (width, height)."""
    at = (np.arange(GRID) + 0.5) / GRID - 0.5
    x, y = np.meshgrid(at, at)
    points = square.centre + square.side * (x[..., None] * square.axis + y[..., None] * square.down)
    beyond: Bools = np.any((points < 0) | (points > np.array(size)), axis=-1)
    return beyond
