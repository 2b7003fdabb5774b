"""An edit that needs no server: frames in one WebP file, and a slider in plain HTML that moves between them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stylegan_surv.attribute.pattern import NOTE
from stylegan_surv.errors import InputError

FRAMES = tuple(np.round(np.linspace(-3, 3, 21), 2).tolist())  # steps, SD of risk
BUDGET = 300_000  # bytes of the frames within a page, where base64 takes four for three
LEAST_DB = 38.0  # PSNR of the frames; below it one begins to see the compression
QUALITIES = (None, 95, 90, 85, 80, 70)  # of WebP; None loses nothing
TALLEST = 16383  # px that a WebP may have
WORDS = "A face along the health attribute, from lower to higher risk"


@dataclass(frozen=True)
class Slider:
    """Frames of an edit, one above the other in one WebP picture.

    Attributes
    ----------
    webp : bytes
    steps : tuple of float
        Of the frames, SD of risk.
    note : str
        The caution, which stands below.
    """

    webp: bytes
    steps: tuple[float, ...] = FRAMES
    note: str = NOTE

    def frames(self) -> list[Image.Image]:
        """The frames as they are shown."""
        sheet = Image.open(io.BytesIO(self.webp), formats=("WEBP",)).convert("RGB")
        height = sheet.height // len(self.steps)
        return [sheet.crop((0, k * height, sheet.width, (k + 1) * height)) for k in range(len(self.steps))]

    def html(self, words: str = WORDS) -> str:
        """A figure with picture and slider; works from the keyboard and without anything else on the page.

        Parameters
        ----------
        words : str
            What the picture shows, for those who cannot see it.
        """
        middle = len(self.steps) // 2
        said = [f"{step:+g} SD of risk" if step else "as it is" for step in self.steps]
        move = (
            "const f=this.closest('figure'),k=+this.value,w=this.dataset.said.split('|')[k];"
            "f.querySelector('img').style.top=-100*k+'%';f.querySelector('output').textContent=w;"
            "this.setAttribute('aria-valuetext',w)"
        )
        source = "data:image/webp;base64," + base64.b64encode(self.webp).decode()
        return (
            '<figure class="slider" style="max-width:20rem">'
            '<div style="aspect-ratio:1;overflow:hidden;position:relative">'
            f'<img alt="{html.escape(words)}" src="{source}" '
            f'style="left:0;max-width:none;position:absolute;top:{-100 * middle}%;width:100%"></div>'
            f'<label>SD of risk <input type="range" min="0" max="{len(self.steps) - 1}" value="{middle}" '
            f'data-said="{html.escape("|".join(said))}" aria-valuetext="{said[middle]}" oninput="{html.escape(move)}" '
            'style="width:100%"></label>'
            f"<output>{said[middle]}</output><br><small>{html.escape(self.note)}</small></figure>"
        )

    def _repr_html_(self) -> str:
        return self.html()


def slider(pictures: Sequence[Image.Image], steps: Sequence[float] = FRAMES, note: str = NOTE) -> Slider:
    """Put pictures of an edit behind a slider, within `BUDGET` and no worse than `LEAST_DB`.

    Pictures that are too large for that are made smaller.

    Parameters
    ----------
    pictures : sequence of PIL.Image
        Square, of one size.
    steps : sequence of float
        One for each.
    note : str
        The caution.

    Raises
    ------
    InputError
        If the numbers differ.
    """
    if len(pictures) != len(steps) or not pictures:
        raise InputError(f"there are {len(pictures)} pictures and {len(steps)} steps; expected one for each")
    side = min(pictures[0].width, TALLEST // len(pictures))
    while True:
        sheet = _sheet(pictures, side)
        for quality in QUALITIES:
            found = _webp(sheet, quality)
            if (
                len(found) * 4 <= BUDGET * 3
                and psnr(sheet, Image.open(io.BytesIO(found), formats=("WEBP",))) >= LEAST_DB
            ):
                return Slider(found, tuple(steps), note)
        side = side * 3 // 4


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures in dB; infinite where they are equal."""
    error = float(np.mean((np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _sheet(pictures: Sequence[Image.Image], side: int) -> Image.Image:
    sheet = Image.new("RGB", (side, side * len(pictures)))
    for k, picture in enumerate(pictures):
        fitting = picture.size == (side, side)
        sheet.paste(
            picture if fitting else picture.resize((side, side), Image.Resampling.LANCZOS), (0, k * side)
        )
    return sheet


def _webp(sheet: Image.Image, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    if quality is None:
        sheet.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    else:
        sheet.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
