"""Draw a photograph along the health attribute, from where the study embedded it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stylegan_surv._images import to_pixels
from stylegan_surv._types import Progress
from stylegan_surv.attribute.pattern import Attribute, Kind
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.again import Beginning, Picture, beginning, generator_of
from stylegan_surv.inversion.dataset import METADATA_FILE, read_metadata
from stylegan_surv.inversion.faithful import load_delta, save_delta, tune
from stylegan_surv.inversion.identity import similarity
from stylegan_surv.inversion.inverter import DISPLAY_ONLY
from stylegan_surv.inversion.origin import Origin
from stylegan_surv.inversion.quality import REVIEW

SAME_PERSON = REVIEW["identity"]  # dlib's limit, as a cosine
STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # SD of risk


def begin(
    attribute: Attribute,
    photo: Picture,
    *,
    aligned: bool = False,
    latents: str | Path | None = None,
    generator: Generator | str | Path | None = None,
    encoder: Encoder | str | Path | None = None,
) -> Beginning:
    """Where an edit of a photograph begins: where the study did.

    That is the stored latent if the photograph is in the study's dataset. Otherwise it is embedded with the study's
    networks, method and settings, cut and resampled as the study's photographs were.

    Parameters
    ----------
    attribute : HealthAttribute
    photo : path or PIL image
    aligned : bool
        The picture is an FFHQ-aligned chip already.
    latents : path, optional
        The study's dataset; by default the one that the attribute names, if it is still there and of the same origin.
    generator, encoder : network, path or zoo name, optional
        The networks of the study; by default those that the attribute names.

    Raises
    ------
    InputError
        If the photograph or a network cannot be used; :class:`Refused` if dataset or networks are not the study's.
    """
    net = generator_of(attribute.origin, generator)
    if encoder is None and generator is not None and not isinstance(generator, Generator):
        encoder = generator  # its partner lies beside it
    folder = _dataset(attribute, latents)
    return beginning(photo, net, attribute.origin, latents=folder, encoder=encoder, aligned=aligned)


def _dataset(attribute: Attribute, given: str | Path | None) -> Path | None:
    """The study's dataset, if it is at hand."""
    folder = attribute.latents if given is None else Path(given)
    if folder is None or (given is None and not (folder / METADATA_FILE).is_file()):
        return None
    stored = Origin.from_metadata(read_metadata(folder), str(folder))
    if attribute.origin is None:
        return folder
    if given is None and attribute.origin.differences(stored):
        return None  # it was made anew since
    remedy = "Give the study's own dataset, or none."
    attribute.origin.check_same(stored, f"{folder} does not hold the study's latents:", remedy)
    return folder


def edit(
    attribute: Attribute,
    photo: Picture | Tensor,
    steps: Sequence[float] = STEPS,
    *,
    kind: Kind = "pattern",
    aligned: bool = False,
    latents: str | Path | None = None,
    generator: Generator | str | Path | None = None,
    encoder: Encoder | str | Path | None = None,
) -> list[Image.Image]:
    """Pictures of a photograph moved along the attribute.

    Parameters
    ----------
    attribute : HealthAttribute
    photo : path, PIL image, or Tensor of shape (num_ws, w_dim)
        A tensor is the latent to begin with.
    steps : sequence of float
        In SD of the cohort's risk score; negative is towards lower risk.
    kind : {"pattern", "coefficient", "adjusted"}
    aligned : bool, default False
        As in :func:`begin`.
    latents : path, optional
        As in :func:`begin`.
    generator, encoder : network, path or zoo name, optional
        As in :func:`begin`.

    Returns
    -------
    list of PIL.Image
        One per step, at the generator's resolution.

    Raises
    ------
    InputError
        As in :func:`begin`, or if the attribute is of another latent space.
    """
    if isinstance(photo, Tensor):
        w_plus = photo
        tuned = isinstance(generator, Generator) and generator.card.get("use") == DISPLAY_ONLY
        net = generator_of(None if tuned else attribute.origin, generator)
    else:
        net = generator_of(attribute.origin, generator)
        encoder = generator if encoder is None and isinstance(generator, str | Path) else encoder
        w_plus = begin(
            attribute, photo, aligned=aligned, latents=latents, generator=net, encoder=encoder
        ).w_plus
    return draw(net, moved(attribute, w_plus, steps, kind))


def draw(generator: Generator, w_plus: Tensor) -> list[Image.Image]:
    """Pictures of latents [n, num_ws, w_dim], each drawn by itself: a step looks the same whatever is drawn with it."""
    with torch.no_grad():
        return [Image.fromarray(to_pixels(generator.synthesis(row[None]))[0]) for row in w_plus]


def moved(attribute: Attribute, w_plus: Tensor, steps: Sequence[float], kind: Kind) -> Tensor:
    """``w_plus + step·direction`` for every step, [len(steps), num_ws, w_dim]."""
    direction = torch.as_tensor(attribute.direction(kind), dtype=w_plus.dtype)
    if direction.shape[1:] == w_plus.shape[1:] and len(direction) < len(
        w_plus
    ):  # layers that the model does not read
        direction = torch.cat(
            [direction, direction.new_zeros(len(w_plus) - len(direction), direction.shape[1])]
        )
    if direction.shape != w_plus.shape:
        raise InputError(
            f"the attribute is {list(direction.shape)} and the photograph's latent {list(w_plus.shape)}; "
            "use the generator and encoder that the model was fitted with"
        )
    return w_plus[None] + torch.tensor(list(steps), dtype=w_plus.dtype)[:, None, None] * direction[None]


def faithful(
    start: Beginning,
    generator: Generator,
    *,
    delta: str | Path | None = None,
    progress: Progress | None = None,
) -> Generator:
    """A copy of the generator that draws a photograph exactly at its own latent; for `edit`, never for a model.

    Parameters
    ----------
    start : Beginning
        The photograph and its latent, see :func:`begin`.
    generator : Generator
        The study's.
    delta : path, optional
        A file that keeps what tuning has changed; one that is there already is used instead of tuning, and
        refused where it belongs to another photograph or generator.
    progress : callable, optional
        Called with (steps done, at most so many).

    Returns
    -------
    Generator
        Edit ``start.w_plus`` with it.
    """
    image = start.chip[None]
    if delta is not None and Path(delta).exists():
        return load_delta(generator, delta, image)
    tuned = tune(generator, image, start.w_plus[None], progress=progress)
    if delta is not None:
        save_delta(tuned, generator, delta, image)
    return tuned


def likeness(start: Beginning, generator: Generator) -> float:
    """Cosine of the identities of a photograph and its drawing; from `SAME_PERSON` on they are taken for one person.

    Parameters
    ----------
    start : Beginning
        See :func:`begin`.
    generator : Generator
    """
    with torch.no_grad():
        drawn = generator.synthesis(start.w_plus[None]).clamp(-1, 1)
    return float(similarity(drawn, start.chip[None])[0])
