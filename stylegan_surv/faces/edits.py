"""What may differ between two photographs of one face: changes of an aligned chip that a risk should not follow."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces.masks.chip import chip_regions
from stylegan_surv.faces.masks.ellipse import smoothstep

COLLAR = 0.75  # height from which what is not the head is clothing, neck or what stands beside them
GREY = 128.0
QUALITY, GAIN, DEGREES = 30, 1.25, 5.0


def other_background(chip: Pixels, other: Pixels) -> Pixels:
    """The chip's head before the surroundings of another chip of the same size."""
    return _blend(chip, other.astype(float), 1 - chip_regions(chip)["head"].weight)


def no_clothing(chip: Pixels) -> Pixels:
    """What lies below and beside the chin, neck included, turned to plain grey; the head with its hair stays."""
    rows = (np.arange(len(chip)) + 0.5) / len(chip)
    low = smoothstep((rows - COLLAR) / 0.05)[:, None]
    return _blend(chip, np.full(chip.shape, GREY), low * (1 - chip_regions(chip)["head"].weight))


def jpeg(chip: Pixels) -> Pixels:
    """Saved as JPEG of quality 30."""
    buffer = io.BytesIO()
    Image.fromarray(chip).save(buffer, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(buffer, formats=["JPEG"]).convert("RGB"))


def brighter(chip: Pixels) -> Pixels:
    """A quarter brighter."""
    return _round(chip * GAIN)


def darker(chip: Pixels) -> Pixels:
    """A fifth darker: `brighter` undone."""
    return _round(chip / GAIN)


def rotated(chip: Pixels) -> Pixels:
    """Turned by five degrees, the corners filled by the nearest border."""
    side = len(chip)
    border = side // 8
    padded = np.pad(chip, ((border, border), (border, border), (0, 0)), mode="edge")
    turned = Image.fromarray(padded).rotate(DEGREES, Image.Resampling.BICUBIC)
    return np.asarray(turned)[border:-border, border:-border]


def _blend(chip: Pixels, fill: Floats, weight: Floats) -> Pixels:
    w = weight[..., None]
    return _round(chip * (1 - w) + fill * w)


def _round(image: Floats) -> Pixels:
    rounded: Pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return rounded


EDITS: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "another background": other_background,
    "clothing masked": lambda chip, other: no_clothing(chip),
    "JPEG, quality 30": lambda chip, other: jpeg(chip),
    "25 % brighter": lambda chip, other: brighter(chip),
    "20 % darker": lambda chip, other: darker(chip),
    "rotated by 5°": lambda chip, other: rotated(chip),
}
"""Each takes the chip and one of another patient, [H, W, 3] uint8, of which only the background swap makes use."""
