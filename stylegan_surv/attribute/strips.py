"""Pictures side by side with words: the strip of an edit."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from stylegan_surv.attribute.pattern import NOTE

CELL, TOP, BOTTOM = 160, 26, 24  # px: one picture of a strip, the line above and the line below


def strip(
    images: Sequence[Image.Image],
    steps: Sequence[float],
    note: str = NOTE,
    said: str | None = None,
    *,
    photo: Image.Image | None = None,
) -> Image.Image:
    """One picture with the edits side by side, their steps above and the caution below.

    Parameters
    ----------
    images : sequence of PIL.Image
    steps : sequence of float
        In SD of risk, one for each picture.
    note : str
        The caution.
    said : str, optional
        Where the latent comes from that was edited, see :class:`Beginning`.
    photo : PIL.Image, optional
        The aligned photograph, which comes first.
    """
    lines = [note] if said is None else [said, note]
    words = ["as embedded" if step == 0 else f"{step:+g} SD of risk" for step in steps]
    cells = list(zip(images, words))
    if photo is not None:
        cells = [(photo, "photograph"), *cells]
    sheet = Image.new("RGB", (CELL * len(cells), CELL + TOP + BOTTOM * len(lines)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (image, text) in enumerate(cells):
        sheet.paste(image.resize((CELL, CELL), Image.Resampling.BICUBIC), (i * CELL, TOP))
        draw.text((i * CELL + CELL // 2, TOP // 2), text, fill="black", font=font, anchor="mm")
    small = ImageFont.load_default(11)
    for i, line in enumerate(lines):
        middle = (sheet.width // 2, CELL + TOP + i * BOTTOM + BOTTOM // 2)
        draw.text(middle, line, fill="#444444", font=small, anchor="mm")
    return sheet
