"""The face that is there at once: the middle frame of the slider that the study has of its generator's average face."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

SLIDER = "slider.webp"


def first_face(folder: Path) -> bytes | None:
    """PNG of the average face; None where the study has no slider.

    Parameters
    ----------
    folder : Path
        Of the study. Its slider is a column of square frames with the average face in the middle.
    """
    path = folder / SLIDER
    if not path.is_file():
        return None
    with Image.open(path, formats=("WEBP",)) as sheet:
        side, frames = sheet.width, sheet.height // sheet.width
        face = sheet.convert("RGB").crop((0, frames // 2 * side, side, (frames // 2 + 1) * side))
    buffer = io.BytesIO()
    face.save(buffer, "PNG")
    return buffer.getvalue()
