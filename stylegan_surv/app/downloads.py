"""Files that a visitor takes along: strip, film, latent, and the figures that were shown."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stylegan_surv import __version__
from stylegan_surv._images import to_pixels
from stylegan_surv.app.exhibit import Exhibit, Way
from stylegan_surv.app.person import Person, png, standing
from stylegan_surv.attribute.edit import STEPS
from stylegan_surv.attribute.strips import strip
from stylegan_surv.errors import InputError

FILM = tuple(np.round(np.linspace(-3, 3, 17), 2).tolist())  # steps, there; the way back is the same
FRAME, SIDE = 80, 256  # ms and px of a frame


@dataclass(frozen=True)
class File:
    """Content with its media type."""

    data: bytes
    media_type: str


def download(what: str, exhibit: Exhibit, person: Person, way: Way, step: float) -> File:
    """A file of what a tab shows.

    Parameters
    ----------
    what : {"strip", "gif", "latent", "shown"}
    exhibit : Exhibit
    person : Person
    way : Way
    step : float
        SD of risk.

    Raises
    ------
    InputError
        If `what` is another word.
    """
    if what == "strip":
        photo = None if person.chip is None else Image.fromarray(to_pixels(person.chip))
        pictures = person.pictures(exhibit, way, list(STEPS))
        sheet = strip(pictures, STEPS, exhibit.attribute.note, person.said, photo=photo)
        return File(png(sheet), "image/png")
    if what == "gif":
        return File(_film(person.pictures(exhibit, way, list(FILM))), "image/gif")
    if what == "latent":
        buffer = io.BytesIO()
        latents = person.at(exhibit, way, [0.0, step]).numpy()
        np.savez(buffer, start=latents[0], edited=latents[1], step=step, kind=way.kind, layers=way.layers)
        return File(buffer.getvalue(), "application/octet-stream")
    if what == "shown":
        return File(json.dumps(_record(exhibit, person, way, step), indent=1).encode(), "application/json")
    raise InputError(f"what is {what!r}; expected strip, gif, latent or shown")


def _film(pictures: list[Image.Image]) -> bytes:
    frames = [p.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in (*pictures, *pictures[-2:0:-1])]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=FRAME, loop=0)
    return buffer.getvalue()


def _record(exhibit: Exhibit, person: Person, way: Way, step: float) -> dict[str, object]:
    """What was on the page, in numbers."""
    latents = person.at(exhibit, way, [step, 0.0])
    line = exhibit.page.calibration
    return {
        "note": exhibit.attribute.note,
        "version": __version__,
        "generator": exhibit.generator.card.get("sha256"),
        "kind": way.kind,
        "layers": way.layers,
        "step": step,
        "said": person.said,
        "quality": person.quality,
        "tuned_for_display": person.tuned is not None,
        "times": [round(float(t), 4) for t in exhibit.page.survival.time],
        "time_unit": exhibit.page.time_unit,
        "calibration_horizon": None if line is None else line.horizon,
        **standing(exhibit, latents),
    }
