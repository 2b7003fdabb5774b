"""Skin tone as the individual typology angle, to see whether a model serves everybody: a sensitive measurement.

ITA° = arctan((L* − 50) / b*) (Chardon, Cretois & Hourseau, Int J Cosmet Sci 13(4), 1991), from medians over the skin of
the face. A photograph without a colour target knows neither the light nor the camera's white balance: the angle sorts
the photographs of one study, and is no measurement of a person.
"""

from __future__ import annotations

import numpy as np

from stylegan_surv._types import Pixels
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.regions import Region

TONE = ("ita_deg", "skin_quality")
LEAST_QUALITY = 0.3  # share of the face that must have the colour of skin
GREY_CHROMA = 2.0  # median chroma of skin, CIE units, below which the photograph is black and white
# upper ends of the bands from dark on, degrees (Del Bino & Bernerd, Br J Dermatol 169 Suppl 3, 2013), darkest first
EDGES = (-30.0, 10.0, 28.0, 41.0, 55.0)
BANDS = ("dark", "brown", "tan", "intermediate", "light", "very light")


def skin_tone(chip: Pixels, skin: Region) -> dict[str, float]:
    """Individual typology angle of the skin of a chip.

    Parameters
    ----------
    chip : array of uint8, shape (side, side, 3)
    skin : Region
        Its mask ``skin``.

    Returns
    -------
    dict of str to float
        ``ita_deg``: −90 (dark) … 90 (light), degrees; NaN, not measurable, in black and white or where hardly any skin
        is seen. ``skin_quality``: the share of the face that has the colour of skin, 0 … 1.
    """
    seen = skin.weight > 0.5
    tone = {"ita_deg": float("nan"), "skin_quality": skin.quality}
    if skin.quality < LEAST_QUALITY or not seen.any():
        return tone
    lightness, a, b = np.median(to_lab(chip[seen] / 255.0), axis=0)
    if np.hypot(a, b) < GREY_CHROMA:
        return tone
    return tone | {"ita_deg": float(np.degrees(np.arctan2(lightness - 50, max(b, 1e-6))))}
