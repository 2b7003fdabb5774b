"""sRGB to CIE L*a*b*, for what is judged by colour."""

from __future__ import annotations

import numpy as np

from stylegan_surv._types import Floats

# IEC 61966-2-1 (sRGB, white point D65) and CIE 15:2004
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(axis=1)
EPSILON, KAPPA = 216 / 24389, 24389 / 27


def to_lab(rgb: Floats) -> Floats:
    """CIE L*a*b* under D65.

    Parameters
    ----------
    rgb : array of float, shape (..., 3)
        sRGB in 0 … 1.

    Returns
    -------
    array of float, shape (..., 3)
        L* in 0 … 100, a*, b*; a* = b* = 0 for grey.

    Examples
    --------
    >>> to_lab(np.array([1.0, 1.0, 1.0])).round(3) + 0.0
    array([100.,   0.,   0.])
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.clip(rgb, 0, None) + 0.055) / 1.055) ** 2.4)
    ratio = linear @ TO_XYZ.T / WHITE
    f = np.where(ratio > EPSILON, np.cbrt(ratio), (KAPPA * ratio + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    lab: Floats = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return lab
