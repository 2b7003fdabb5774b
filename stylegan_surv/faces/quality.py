"""What a photograph tells besides the face: light, colour and sharpness, measured on the aligned chip.

These are a study's nuisance variables. A model that predicts from them alone has learnt the camera.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import laplace

from stylegan_surv._types import Array, Floats, Pixels
from stylegan_surv.faces.masks.ellipse import HEAD, ellipse
from stylegan_surv.faces.masks.outline import face_mask

QUALITY = ("sharpness", "brightness", "contrast", "background", "saturation", "warmth", "grey")
REFERENCE = 128  # sharpness is measured at this size, so that chips of all sizes compare
GREY = 0.02  # mean saturation below which a photograph counts as black and white
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def image_quality(chip: Pixels) -> dict[str, float | bool]:
    """Measure one aligned chip.

    Parameters
    ----------
    chip : array of uint8, shape (side, side, 3)

    Returns
    -------
    dict of str to float or bool
        ``sharpness``: SD of the Laplacian of the face at 128 px over its contrast (blurred < 0.3 < crisp);
        ``brightness``, ``contrast``: mean and SD of the face's luma, 0–1; ``background``: mean luma outside the
        head; ``saturation``: mean of max − min over channels, 0–1; ``warmth``: mean red minus mean blue of the
        face; ``grey``: whether the photograph is black and white.
    """
    colour = chip / 255.0
    size = chip.shape[0]
    face, wall = face_mask(size), 1 - ellipse(size, HEAD)
    luma = colour @ LUMA
    brightness = _mean(luma, face)
    contrast = np.sqrt(_mean((luma - brightness) ** 2, face))
    small = Image.fromarray(chip).convert("L").resize((REFERENCE, REFERENCE), Image.Resampling.BOX)
    edges = laplace(np.asarray(small, dtype=float) / 255.0)
    spread = np.sqrt(_mean(edges**2, face_mask(REFERENCE)))
    saturation = float(np.mean(colour.max(axis=2) - colour.min(axis=2)))
    return {
        "sharpness": float(spread / max(contrast, 1e-3)),
        "brightness": brightness,
        "contrast": float(contrast),
        "background": _mean(luma, wall),
        "saturation": saturation,
        "warmth": _mean(colour[..., 0] - colour[..., 2], face),
        "grey": saturation < GREY,
    }


def _mean(values: Array, weights: Floats) -> float:
    return float(np.sum(values * weights) / np.sum(weights))
