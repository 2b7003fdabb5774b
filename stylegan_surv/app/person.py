"""Whom a tab shows: a face that nobody has, or a photograph as the study would embed it, and its edits."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylegan_surv._images import to_pixels
from stylegan_surv._types import Floats, Progress
from stylegan_surv.app.exhibit import REACH, STRIDE, Exhibit, Way
from stylegan_surv.attribute.difference import difference
from stylegan_surv.attribute.edit import draw, faithful, likeness, moved
from stylegan_surv.errors import InputError
from stylegan_surv.faces.found import NoFace
from stylegan_surv.faces.load import load_bytes
from stylegan_surv.gan import Generator
from stylegan_surv.inversion.again import Beginning, embedded
from stylegan_surv.inversion.encode import encode
from stylegan_surv.inversion.identity import similarity
from stylegan_surv.inversion.sources import chip_tensor, cut_face, find_face


@dataclass(eq=False)
class Person:
    """A beginning, and the generator that draws it.

    Attributes
    ----------
    start : Tensor, shape (num_ws, w_dim)
    chip : Tensor, shape (3, resolution, resolution), or None
        The aligned photograph; None for a face that nobody has.
    said : str
        Where the latent comes from.
    quality : dict of float
        How well the latent holds the photograph.
    tuned : Generator or None
        Bent to draw the photograph exactly; for display.
    """

    start: Tensor
    chip: Tensor | None
    said: str
    quality: dict[str, float] = field(default_factory=dict)
    tuned: Generator | None = None

    @classmethod
    def average(cls, exhibit: Exhibit) -> Person:
        """The generator's mean face."""
        return cls(exhibit.average(), None, "The generator's average face: nobody's.")

    @classmethod
    def another(cls, exhibit: Exhibit, seed: int) -> Person:
        """A face that is made up."""
        said = f"A face made up from the spread of the cohort's latents (number {seed}): nobody's."
        return cls(exhibit.another(seed), None, said)

    @classmethod
    def patient(cls, exhibit: Exhibit, name: str) -> Person:
        """A photograph of the study by its `photo_id`; an InputError unless faces are allowed."""
        if name not in exhibit.names() or exhibit.patients is None or exhibit.chips is None:
            raise InputError("There is no such photograph, or the page was started without --faces.")
        at = list(map(str, exhibit.patients.ids)).index(name)
        start = torch.from_numpy(np.array(exhibit.patients.w_plus[at]))
        chip = chip_tensor(Image.fromarray(exhibit.chips.load(name)), exhibit.generator.config.resolution)
        said = f"{name}, a patient of the study, at the latent that the model was fitted to."
        found = Beginning(start, chip, said, name)
        return cls(start, chip, said, {"identity": likeness(found, exhibit.generator)})

    @classmethod
    def of_photograph(cls, exhibit: Exhibit, data: bytes, progress: Progress) -> Person:
        """The content of a picture file, cut and embedded as the study's photographs were.

        Raises
        ------
        InputError
            If it cannot be read or shows no usable face.
        """
        origin, resolution = exhibit.attribute.origin, exhibit.generator.config.resolution
        cut = None if origin is None else origin.cut
        picture = load_bytes(data)
        progress(0, 1)
        try:
            face = find_face(picture, cut)
        except InputError as fault:
            if isinstance(fault.__cause__, NoFace):
                raise InputError(
                    f"The photograph cannot be used: {fault.__cause__}. Take an upright portrait that shows one face "
                    "from the front."
                ) from fault
            raise
        progress(0, 1)
        chip = chip_tensor(Image.fromarray(cut_face(picture, resolution, cut, face)), resolution)
        found = embedded(chip, exhibit.inverter, origin, progress=progress)
        seen = "" if face.n_faces == 1 else f" {face.n_faces} faces were found; the clearest is shown."
        return cls(
            found.w_plus,
            chip,
            found.said + seen,
            {**found.quality, "identity": likeness(found, exhibit.generator)},
        )

    def generator(self, exhibit: Exhibit) -> Generator:
        """What draws: the tuned one where there is one."""
        return self.tuned or exhibit.generator

    def at(self, exhibit: Exhibit, way: Way, steps: list[float]) -> Tensor:
        """Latents at these steps, shape (len(steps), num_ws, w_dim)."""
        return moved(exhibit.along(way), self.start, steps, way.kind)

    def pictures(self, exhibit: Exhibit, way: Way, steps: list[float]) -> list[Image.Image]:
        """Pictures at these steps, as `edit` draws them."""
        return draw(self.generator(exhibit), self.at(exhibit, way, steps))

    def tune(self, exhibit: Exhibit, progress: Progress) -> Generator:
        """A copy of the generator that draws the photograph exactly; takes minutes.

        Raises
        ------
        InputError
            If there is no photograph.
        """
        if self.chip is None:
            raise InputError("A face that the generator made up is drawn exactly already.")
        return faithful(Beginning(self.start, self.chip, self.said), exhibit.generator, progress=progress)


def introduction(exhibit: Exhibit, person: Person) -> dict[str, Any]:
    """What the page shows of a person once."""
    photo = None if person.chip is None else Image.fromarray(to_pixels(person.chip))
    drawn = draw(person.generator(exhibit), person.start[None])[0]
    return {
        "photo": None if photo is None else data_url(photo),
        "drawn": data_url(drawn),
        "said": person.said,
        "quality": {k: round(v, 4) for k, v in person.quality.items()},
        "tuned": person.tuned is not None,
    }


def reach(exhibit: Exhibit, person: Person, way: Way) -> dict[str, Any]:
    """Between which steps the edit stays among latents that are usual; None where not even its start does."""
    steps = np.round(np.arange(-REACH, REACH + STRIDE / 2, STRIDE), 6)
    usual = exhibit.usual(person.at(exhibit, way, steps.tolist()))
    middle = len(steps) // 2
    if not usual[middle]:
        return {"low": None, "high": None}
    below = np.flatnonzero(~usual[: middle + 1])
    above = np.flatnonzero(~usual[middle:])
    low = steps[below[-1] + 1] if len(below) else -REACH
    high = steps[middle + above[0] - 1] if len(above) else REACH
    return {"low": float(low), "high": float(high)}


def shown(
    exhibit: Exhibit, person: Person, way: Way, step: float, *, map_too: bool = False
) -> dict[str, Any]:
    """One edit for the page: its picture and where it stands."""
    latents = person.at(exhibit, way, [step, 0.0])
    edited, *original = draw(person.generator(exhibit), latents if map_too else latents[:1])
    record = {"step": step, "picture": data_url(edited), **standing(exhibit, latents)}
    if map_too:
        record["difference"] = data_url(difference(edited, original[0]))
    return record


def standing(exhibit: Exhibit, latents: Tensor) -> dict[str, Any]:
    """`Exhibit.standing` of the first of two latents against the second, for JSON."""
    found = exhibit.standing(latents[0], latents[1])
    return {k: _plain(v) for k, v in vars(found).items()}


def again(exhibit: Exhibit, person: Person, way: Way, step: float) -> dict[str, Any]:
    """The round trip: edit, draw, embed the picture again, score; and how far the person stays the same.

    The pictures are drawn by the study's own generator, tuned or not, for its encoder knows no other.
    """
    latents = person.at(exhibit, way, [step, 0.0])
    with torch.no_grad():
        images = torch.cat([exhibit.generator.synthesis(row[None]) for row in latents]).clamp(-1, 1)
    risks = exhibit.risks(latents)
    encoder = exhibit.inverter.encoder
    found: Floats | None = None
    if encoder is not None:
        passes = exhibit.inverter.settings.passes
        with torch.no_grad():
            found = exhibit.risks(
                torch.cat([encode(encoder, exhibit.generator, i[None], passes) for i in images])
            )
    sd = exhibit.attribute.risk_sd or 1.0
    return {
        "step": step,
        "asked": float(risks[0] - risks[1]) / sd,
        "found": None if found is None else float(found[0] - found[1]) / sd,
        "identity": float(similarity(images[:1], images[1:])[0]),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [round(float(v), 4) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def png(picture: Image.Image) -> bytes:
    """A picture as PNG, which loses nothing."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # it goes to the same machine
    return buffer.getvalue()


def data_url(picture: Image.Image) -> str:
    """A picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
