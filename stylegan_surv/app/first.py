"""The face that is there at once: the middle of the strip that the study has of its generator's average face."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

STRIP = "strip.png"
LARGEST = 4096  # px; a strip is smaller


def first_face(folder: Path) -> bytes | None:
    """PNG of the average face; None where the study has no strip.

    Parameters
    ----------
    folder : Path
        Of the study. Its strip is a row of square pictures with the average face in the middle.
    """
    from stylegan_surv.attribute.strips import CELL, TOP

    path = folder / STRIP
    if not path.is_file():
        return None
    with Image.open(path, formats=("PNG",)) as strip:
        if max(strip.size) > LARGEST or strip.width < CELL or strip.height < TOP + CELL:
            return None
        left = (strip.width - CELL) // 2
        face = strip.convert("RGB").crop((left, TOP, left + CELL, TOP + CELL))
    buffer = io.BytesIO()
    face.save(buffer, "PNG")
    return buffer.getvalue()
