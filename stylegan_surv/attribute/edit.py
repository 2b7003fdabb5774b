"""Draw a photograph along the health attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stylegan_surv.attribute.direction import NOTE, HealthAttribute, Kind, linear_coefficients
from stylegan_surv.errors import InputError
from stylegan_surv.gan import LPIPS, Encoder, Generator

if TYPE_CHECKING:
    from stylegan_surv.attribute.direction import Array

CELL = 160  # pixels of one picture of a strip


def to_image(x: Tensor) -> Image.Image:
    """[3, h, w] in [−1, 1] to an RGB picture."""
    values = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def to_tensor(image: Image.Image, size: int) -> Tensor:
    """An aligned picture as [1, 3, size, size] in [−1, 1]."""
    picture = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def chip_of(photo: Any, size: int, *, aligned: bool = False) -> Tensor:
    """A photograph (path or picture) as [1, 3, size, size] in [−1, 1]; raw photographs are aligned first."""
    from stylegan_surv.faces import load_image

    picture = photo if isinstance(photo, Image.Image) else load_image(Path(photo))
    return to_tensor(picture if aligned else _face(picture, max(256, size)), size)


def latent_of(photo: Any, encoder: Encoder, *, aligned: bool = False) -> Tensor:
    """w_plus [num_ws, w_dim] of a photograph (path or picture); raw photographs are aligned first."""
    with torch.no_grad():
        w_plus: Tensor = encoder(chip_of(photo, encoder.shape.resolution, aligned=aligned))[0]
    return w_plus


def faithful(
    photo: Any,
    generator: Generator,
    encoder: Encoder,
    *,
    aligned: bool = False,
    delta: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Generator:
    """A copy of the generator that draws this photograph exactly at its own latent; for `edit`, never for a model.

    Parameters
    ----------
    photo : path or PIL picture.
    delta : a file that keeps what tuning has changed; one that is there already is used instead of tuning, and
        refused where it belongs to another photograph or generator.
    progress : called with (steps done, at most so many).
    """
    from stylegan_surv.inversion.faithful import load_delta, save_delta, tune

    image = chip_of(photo, generator.config.resolution, aligned=aligned)
    if delta is not None and Path(delta).exists():
        return load_delta(generator, delta, image)
    with torch.no_grad():
        pivot = encoder(image)
    tuned = tune(generator, image, pivot, progress=progress)
    if delta is not None:
        save_delta(tuned, generator, delta, image)
    return tuned


def _face(picture: Image.Image, size: int) -> Image.Image:
    """The FFHQ crop of the best-scored face."""
    from stylegan_surv.faces.detect import FaceFinder, NoFace
    from stylegan_surv.faces.ffhq import crop, ffhq_square

    try:
        face = FaceFinder().find(picture)
    except NoFace as reason:
        raise InputError(
            f"the photograph cannot be used: {reason}; give an upright portrait, or a chip with --aligned"
        ) from reason
    return Image.fromarray(crop(picture, ffhq_square(face.landmarks), size)[0])


def moved(attribute: HealthAttribute, w_plus: Tensor, steps: Sequence[float], kind: Kind) -> Tensor:
    """``w_plus + step·direction`` for every step, [len(steps), num_ws, w_dim]."""
    direction = torch.as_tensor(attribute.direction(kind), dtype=w_plus.dtype)
    if direction.shape != w_plus.shape:
        raise InputError(
            f"the attribute is {list(direction.shape)} and the photograph's latent {list(w_plus.shape)}; "
            "use the generator and encoder that the model was fitted with"
        )
    return w_plus[None] + torch.tensor(list(steps), dtype=w_plus.dtype)[:, None, None] * direction[None]


def edit(
    attribute: HealthAttribute,
    photo: Any,
    steps: Sequence[float] = (-3, -1.5, 0, 1.5, 3),
    *,
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    kind: Kind = "pattern",
    aligned: bool = False,
) -> list[Image.Image]:
    """Pictures of ``photo`` moved along the attribute.

    Parameters
    ----------
    photo : path, PIL picture, or w_plus Tensor [num_ws, w_dim].
    steps : in SD of the cohort's risk score; negative is towards lower risk.
    generator, encoder : the networks of the study; the bundled default if not given.
    kind : 'pattern' (default), 'coefficient' or 'adjusted'.
    aligned : the picture is an FFHQ-aligned chip already.

    Returns
    -------
    list of PIL.Image, one per step, at the generator's resolution.
    """
    from stylegan_surv.gan import load_encoder, load_generator

    generator = generator or load_generator("synthetic-64")
    if isinstance(photo, Tensor):
        w_plus = photo
    else:
        w_plus = latent_of(photo, encoder or load_encoder("synthetic-64"), aligned=aligned)
    with torch.no_grad():
        return [to_image(x) for x in generator.synthesis(moved(attribute, w_plus, steps, kind))]


def strip(images: Sequence[Image.Image], steps: Sequence[float], note: str = NOTE) -> Image.Image:
    """One picture with the edits side by side, their steps above and the caution below."""
    top, bottom = 26, 24
    sheet = Image.new("RGB", (CELL * len(images), CELL + top + bottom), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (image, step) in enumerate(zip(images, steps)):
        sheet.paste(image.resize((CELL, CELL), Image.Resampling.BICUBIC), (i * CELL, top))
        words = "as embedded" if step == 0 else f"{step:+g} SD of risk"
        draw.text((i * CELL + CELL // 2, top // 2), words, fill="black", font=font, anchor="mm")
    small = ImageFont.load_default(11)
    draw.text((sheet.width // 2, CELL + top + bottom // 2), note, fill="#444444", font=small, anchor="mm")
    return sheet


@dataclass(frozen=True)
class DoseResponse:
    """What an edit does when it is looked at again: edited pictures are re-embedded and scored.

    ``risk`` [n, k] in SD of the cohort's risk relative to step 0, ``lpips`` [n, k] to step 0; ``slope`` is the
    average rise of the re-embedded risk per step (1 would be: the edit does all it says).
    """

    steps: NDArray[np.floating[Any]]
    risk: NDArray[np.floating[Any]]
    lpips: NDArray[np.floating[Any]]

    @property
    def slope(self) -> float:
        """Least-squares slope of mean risk on steps."""
        return float(np.polyfit(self.steps, self.risk.mean(axis=0), 1)[0])


def dose_response(
    attribute: HealthAttribute,
    model: Any,
    w_plus: Array,
    generator: Generator,
    encoder: Encoder,
    *,
    steps: Sequence[float] = (-2, -1, 0, 1, 2),
    kind: Kind = "pattern",
) -> DoseResponse:
    """Edit latents ``w_plus`` [n, num_ws, w_dim], draw, re-embed, score.

    The model's risk along the latent edit is a straight line by construction; this asks whether the *picture* carries
    it, and how much of the face changes on the way.
    """
    lpips = LPIPS()
    at_zero = list(steps).index(0)
    risks, distances = [], []
    with torch.no_grad():
        for row in torch.as_tensor(np.asarray(w_plus), dtype=torch.float32):
            images = generator.synthesis(moved(attribute, row, steps, kind)).clamp(-1, 1)
            again = encoder(images).flatten(1).double().numpy()
            risk = np.asarray(model.predict(again))
            risks.append((risk - risk[at_zero]) / attribute.risk_sd)
            distances.append(lpips(images, images[at_zero : at_zero + 1].expand_as(images)).numpy())
    return DoseResponse(np.asarray(steps, dtype=float), np.array(risks), np.array(distances))


def focus(model: Any, images: Tensor, encoder: Encoder, mask: Array) -> dict[str, float]:
    """Does a linear model look at the face? Share of |∂risk/∂pixel| that falls inside the face mask.

    Parameters
    ----------
    model : linear risk model on raw latents.
    images : Tensor [n, 3, R, R] in [−1, 1].
    mask : [R, R] in 0…1, 1 on the face.

    Returns
    -------
    dict with ``inside`` (share of the gradient's magnitude inside the mask), ``area`` (share of the picture that the
    mask covers) and ``ratio`` = inside / area; 1 would be no preference for the face.
    """
    beta = linear_coefficients(model, encoder.shape.num_ws * encoder.shape.w_dim)
    if beta is None:
        raise InputError("focus needs a linear model, such as cox-ridge")
    x = images.clone().requires_grad_(True)
    risk = encoder(x).flatten(1) @ torch.as_tensor(beta, dtype=torch.float32)
    (gradient,) = torch.autograd.grad(risk.sum(), x)
    magnitude = gradient.abs().sum(dim=1).mean(dim=0).numpy()
    inside, area = float((magnitude * mask).sum() / magnitude.sum()), float(mask.mean())
    return {"inside": inside, "area": area, "ratio": inside / area}
