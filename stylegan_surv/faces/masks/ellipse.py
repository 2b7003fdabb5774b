"""Where the FFHQ crop puts a frontal face, as a soft ellipse: for pictures in which no landmark is known."""

from __future__ import annotations

import numpy as np

from stylegan_surv._types import Array, Floats

# The FFHQ crop puts the eyes at .47 and the mouth at .75 of the height, the eyes .25 of the width apart; the
# ellipse runs from the hairline to the chin and from ear to ear (fractions of the side).
FACE = (0.5, 0.57, 0.29, 0.38)  # centre x, centre y, radius x, radius y
HEAD = (0.5, 0.50, 0.40, 0.52)  # with hair


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
