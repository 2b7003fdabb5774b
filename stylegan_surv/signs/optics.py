"""Skin as an absorber: colours as optical densities, and what each chromophore adds to them.

Light that returns from skin falls off exponentially with the amount of melanin and haemoglobin that it has crossed
(Tsumura et al., JOSA A 16:2169, 1999), so a change of one chromophore *multiplies* linear light, channel by channel,
whatever the skin's tone, the lamp and the exposure.
"""

from __future__ import annotations

import numpy as np

from stylegan_surv._types import Floats

# Relative densities in red, green and blue, of unit length. Melanin, and haemoglobin's ratio of green to blue:
# independent components of skin images (Tsumura et al., ACM Trans. Graph. 22:770, 2003). Haemoglobin in red is a little
# less than theirs (0.30): oxygenated, it absorbs above 600 nm less than a seventh of what it absorbs at 510 to 570 nm.
# Bilirubin absorbs a band around 460 nm, 400 to 510 nm at half of its height: blue, a little green, no red (spectra:
# Prahl, Oregon Medical Laser Center).
MELANIN = np.array([0.4143, 0.3570, 0.8372])
HAEMOGLOBIN = np.array([0.260, 0.688, 0.678])
BILIRUBIN = np.array([0.0, 0.20, 0.98])
SHADE = np.ones(3) / np.sqrt(3)  # less light, of the same colour

DARKEST = 1e-3  # linear light below which density is not told from black
# sRGB, IEC 61966-2-1
KNEE, KNEE_LINEAR, SLOPE, OFFSET, POWER = 0.04045, 0.0031308, 12.92, 0.055, 2.4


def to_density(rgb: Floats) -> Floats:
    """Optical density, −ln of linear light.

    Parameters
    ----------
    rgb : array of float, shape (..., 3)
        sRGB in 0 … 1.

    Returns
    -------
    array of float, shape (..., 3)
        0 for white; 6.9 for black.
    """
    coded = np.clip(rgb, 0, 1)
    linear = np.where(coded <= KNEE, coded / SLOPE, ((coded + OFFSET) / (1 + OFFSET)) ** POWER)
    density: Floats = -np.log(np.maximum(linear, DARKEST))
    return density


def from_density(density: Floats) -> Floats:
    """sRGB in 0 … 1 of optical densities; below 0 they are white."""
    linear = np.exp(-np.maximum(density, 0))
    coded: Floats = np.where(
        linear <= KNEE_LINEAR, linear * SLOPE, (1 + OFFSET) * linear ** (1 / POWER) - OFFSET
    )
    return coded
