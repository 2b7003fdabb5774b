"""Pictures side by side with words: the strip of an edit, and the grid of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from stylegan_surv.attribute.pattern import NOTE
from stylegan_surv.errors import InputError

CELL, TOP, BOTTOM = 160, 26, 24  # px: one picture, the line above it and a line below all


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
    return grid({"": images}, steps, note, said, photo=photo)


def grid(
    rows: Mapping[str, Sequence[Image.Image]],
    steps: Sequence[float],
    note: str = NOTE,
    said: str | None = None,
    *,
    photo: Image.Image | None = None,
) -> Image.Image:
    """Strips one above the other, each under its name.

    Parameters
    ----------
    rows : mapping of str to sequence of PIL.Image
        Pictures by the name of the row, one for each step.
    steps : sequence of float
        In SD of risk.
    note, said : str
        As in :func:`strip`.
    photo : PIL.Image, optional
        The aligned photograph, which comes first in every row.

    Raises
    ------
    InputError
        If a row has not one picture for each step.
    """
    lines = [note] if said is None else [said, note]
    words = ["as embedded" if step == 0 else f"{step:+g} SD of risk" for step in steps]
    first = [] if photo is None else [(photo, "photograph")]
    sheet = Image.new(
        "RGB",
        (CELL * (len(steps) + len(first)), (CELL + TOP) * len(rows) + BOTTOM * len(lines)),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for k, (name, images) in enumerate(rows.items()):
        if len(images) != len(steps):
            raise InputError(
                f"the row {name!r} has {len(images)} pictures; expected {len(steps)}, one for each step"
            )
        top = k * (CELL + TOP)
        for i, (image, text) in enumerate([*first, *zip(images, words)]):
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.BICUBIC), (i * CELL, top + TOP))
            shown = f"{name}: {text}" if name and i == 0 else text
            draw.text((i * CELL + CELL // 2, top + TOP // 2), shown, fill="black", font=font, anchor="mm")
    small = ImageFont.load_default(11)
    for i, line in enumerate(lines):
        middle = (sheet.width // 2, (CELL + TOP) * len(rows) + i * BOTTOM + BOTTOM // 2)
        draw.text(middle, line, fill="#444444", font=small, anchor="mm")
    return sheet
