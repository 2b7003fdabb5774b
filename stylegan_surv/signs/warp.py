"""Smooth, invertible changes of shape, and the one resampling that they are drawn by.

A shape changes along a velocity that is a sum of Gaussian pushes; walking along it for a time d moves the picture by a
dose d, for −d undoes it, and never folds it (a one-parameter group of diffeomorphisms).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from stylegan_surv._types import Floats

STEPS = (
    4  # of the midpoint rule along the velocity; more would move no point by a hundredth of a pixel in 256
)


@dataclass(frozen=True)
class Push:
    """What is near a point is moved.

    Attributes
    ----------
    at : array of float, shape (2,)
        Centre, in pixels.
    by : array of float, shape (2,)
        Shift of the centre per unit of dose, in pixels, for small doses.
    width : float
        Standard deviation of the Gaussian, in pixels.
    """

    at: Floats
    by: Floats
    width: float


def velocity(where: Floats, pushes: Sequence[Push]) -> Floats:
    """Sum of pushes at points, in pixels per unit of dose.

    Parameters
    ----------
    where : array of float, shape (..., 2)
    pushes : sequence of Push

    Returns
    -------
    array of float, shape (..., 2)
    """
    at, by = np.stack([push.at for push in pushes]), np.stack([push.by for push in pushes])
    narrow = 1 / np.array([push.width for push in pushes]) ** 2
    flat = where.reshape(-1, 2)
    # −|x − p|² / 2σ², written out: all pairs of points and pushes are one product of matrices
    exponent = flat @ (at * narrow[:, None]).T
    exponent -= (flat**2).sum(axis=1)[:, None] * (narrow / 2) + (at**2).sum(axis=1) * narrow / 2
    total: Floats = (np.exp(exponent, out=exponent) @ by).reshape(where.shape)
    return total


def walk(where: Floats, pushes: Sequence[Push], dose: float) -> Floats:
    """Where points arrive that follow the velocity for a time `dose`; ``walk(…, -dose)`` leads back."""
    step = dose / STEPS
    for _ in range(STEPS):
        middle = where + step / 2 * velocity(where, pushes)
        where = where + step * velocity(middle, pushes)
    return where


def pixel_centres(height: int, width: int) -> Floats:
    """Continuous coordinates (x, y) of the pixels, shape (height, width, 2); pixel (0, 0) covers [0, 1] × [0, 1]."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=-1)


def resample(picture: Floats, source: Floats) -> Floats:
    """The picture whose every pixel is taken from a place of another, by cubic splines, mirrored at the border.

    Parameters
    ----------
    picture : array of float, shape (h, w, 3)
    source : array of float, shape (h, w, 2)
        Continuous coordinates (x, y) in `picture`.

    Returns
    -------
    array of float, shape (h, w, 3)
        In the range of `picture`.
    """
    at = [source[..., 1] - 0.5, source[..., 0] - 0.5]
    drawn = np.stack(
        [map_coordinates(picture[..., c], at, order=3, mode="mirror") for c in range(picture.shape[-1])],
        axis=-1,
    )
    inside: Floats = np.clip(drawn, picture.min(), picture.max())
    return inside
