"""Embed pictures as a dataset's photographs were embedded: same networks, method, settings and cut of the face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylegan_surv._files import sha256
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces import load_image
from stylegan_surv.gan import Encoder, Generator, load_encoder, load_generator
from stylegan_surv.inversion.dataset import iterate, read_latent, read_metadata
from stylegan_surv.inversion.inverter import Inverter, Loaded, networks
from stylegan_surv.inversion.origin import Origin
from stylegan_surv.inversion.projector import squared_error
from stylegan_surv.inversion.settings import GENERATOR, LPIPS_NETWORKS, EmbedSettings, Settings
from stylegan_surv.inversion.sources import Photo, chip_tensor, cut_face

Picture: TypeAlias = str | Path | Image.Image
GRADES = ("lpips", "mse", "identity", "distance")  # of a row
SAME_ERROR = (
    0.01  # relative; a chip whose error under a stored latent is the stored one is the photograph itself
)


@dataclass(frozen=True, eq=False)
class Beginning:
    """The latent that a photograph's edit begins with.

    Attributes
    ----------
    w_plus : Tensor, shape (num_ws, w_dim)
    chip : Tensor, shape (3, resolution, resolution)
        The aligned photograph in [−1, 1].
    said : str
        Where the latent comes from, a sentence.
    photo_id : str, optional
        Name of the photograph in the dataset that its latent was read from; None where it was embedded now.
    quality : dict of float
        ``lpips``, ``mse``, ``distance`` and, where the study graded it, ``identity`` of a latent of now.
    """

    w_plus: Tensor
    chip: Tensor
    said: str
    photo_id: str | None = None
    quality: Mapping[str, float] = field(default_factory=dict)


def settings_of(origin: Origin) -> Settings:
    """The settings with which latents were made, if they can be had again.

    Raises
    ------
    Refused
        If something that decided the latents is not at hand: earlier latents, a distance of the user's own.
    """
    settings = origin.settings
    if settings is None:
        raise Refused("The latents do not say with which settings they were made; `embed` writes them down.")
    if settings.schedule is not None and settings.schedule.start == "previous":
        raise Refused(
            "The latents went on from earlier latents, which are not in them; ask where those were made."
        )
    if settings.perceptual not in LPIPS_NETWORKS:
        raise Refused(
            f"The latents were made with an image distance of their own ({settings.perceptual}), which is not here."
        )
    return settings


def generator_of(origin: Origin | None, generator: Generator | str | Path | None = None) -> Generator:
    """The generator of the latents: the one given, or else the one that they name.

    Raises
    ------
    Refused
        If it is another one than the latents were made with.
    """
    net = generator if isinstance(generator, Generator) else _named_generator(origin, generator)
    if origin is not None:
        remedy = "Give the study's own with --generator, or embed and fit again."
        origin.check_networks(net, None, "The latents were made with", remedy)
    return net


def _named_generator(origin: Origin | None, name: str | Path | None) -> Generator:
    label = None if origin is None or origin.settings is None else origin.settings.label
    return load_generator(name or (origin and origin.generator.name) or GENERATOR, label=label)


def inverter_of(
    origin: Origin | None, generator: Generator, encoder: Encoder | str | Path | None = None
) -> Inverter:
    """What embeds as the latents were embedded; without an origin, as `embed` does by default.

    Parameters
    ----------
    origin : Origin, optional
    generator : Generator
        See :func:`generator_of`.
    encoder : Encoder, path or zoo name, optional
        By default the one that the latents name, or that lies with the generator.

    Raises
    ------
    InputError
        If a network is not at hand; :class:`Refused` if it is another one, or the settings cannot be had again.
    """
    settings = EmbedSettings(batch=1).decide() if origin is None else settings_of(origin)
    if (
        encoder is None
        and origin is not None
        and origin.encoder is not None
        and origin.encoder.name is not None
    ):
        try:
            encoder = load_encoder(origin.encoder.name)
        except InputError:
            encoder = None  # the name is that of the card; the file may lie with the generator
    net, partner = networks(generator, encoder, settings)
    if origin is not None:
        remedy = "Give the study's own, or embed and fit again."
        origin.check_networks(net, partner, "The latents were made with", remedy)
    return Inverter(net, partner, settings)


def chip_of(
    photo: Picture, resolution: int, origin: Origin | None = None, *, aligned: bool = False
) -> Tensor:
    """A photograph as the networks see it, cut and resampled as the latents' photographs were.

    Parameters
    ----------
    photo : path or PIL image
    resolution : int
        Of the generator, in pixels.
    origin : Origin, optional
        Whose cut to use.
    aligned : bool
        The picture is an FFHQ-aligned chip already.

    Returns
    -------
    Tensor, shape (3, resolution, resolution)
        In [−1, 1].

    Raises
    ------
    InputError
        If it cannot be read, shows no usable face, or is aligned and no square.
    """
    picture = photo.convert("RGB") if isinstance(photo, Image.Image) else load_image(Path(photo))
    if not aligned:
        picture = Image.fromarray(cut_face(picture, resolution, None if origin is None else origin.cut))
    try:
        return chip_tensor(picture, resolution)
    except ValueError as wrong:
        raise InputError(
            f"the aligned photograph cannot be used: {wrong}; without --aligned it is cut first"
        ) from wrong


def beginning(
    photo: Picture,
    generator: Generator,
    origin: Origin | None = None,
    *,
    latents: str | Path | None = None,
    encoder: Encoder | str | Path | None = None,
    aligned: bool = False,
) -> Beginning:
    """Where an edit of a photograph begins: at its stored latent, or else at the one that `embed` would give it.

    Parameters
    ----------
    photo : path or PIL image
    generator : Generator
        See :func:`generator_of`.
    origin : Origin, optional
        Of the latents that the model was fitted to.
    latents : path, optional
        Their dataset. A photograph is found in it by its SHA-256, or by its name where its pixels are the stored ones.
    encoder : Encoder, path or zoo name, optional
        As in :func:`inverter_of`.
    aligned : bool, default False
        As in :func:`chip_of`.

    Raises
    ------
    InputError
        If the photograph or a network cannot be used; :class:`Refused` if they are of another origin.
    """
    chip = chip_of(photo, generator.config.resolution, origin, aligned=aligned)
    if latents is not None and not isinstance(photo, Image.Image):
        name = _stored_name(Path(photo), Path(latents), generator, chip)
        if name is not None:
            w_plus = torch.tensor(read_latent(Path(latents), name))
            return Beginning(
                w_plus, chip, "It begins at the latent that the study has of this photograph.", name
            )
    name = "photograph" if isinstance(photo, Image.Image) else Path(photo).stem
    return embedded(chip, inverter_of(origin, generator, encoder), origin, name=name)


def embedded(
    chip: Tensor,
    inverter: Inverter,
    origin: Origin | None = None,
    *,
    name: str = "photograph",
    progress: Progress | None = None,
) -> Beginning:
    """Where an edit of a chip begins that no dataset has: at the latent that `embed` gives it.

    Parameters
    ----------
    chip : Tensor, shape (3, resolution, resolution)
        See :func:`chip_of`.
    inverter : Inverter
        See :func:`inverter_of`.
    origin : Origin, optional
        Of the latents that the model was fitted to.
    name : str
        Of the photograph.
    progress : callable, optional
        Called with (steps done, at most so many).
    """
    settings = inverter.settings
    total, done = 1 if settings.schedule is None else settings.schedule.steps, 0

    def advanced(_ended: int, steps: int) -> None:
        nonlocal done
        done += steps
        if progress is not None:
            progress(min(done, total), total)

    (row,) = inverter.rows(Loaded([Photo(name, name)], chip[None], [None]), advanced)
    how = "as the study's photographs were" if origin else "by default, since the model does not say how"
    said = f"It begins at a latent of now, embedded {how}: {settings.method}, seed {settings.seed}."
    quality = {k: float(row[k]) for k in GRADES if k in row}
    return Beginning(torch.tensor(row["w_plus"]), chip, said, quality=quality)


def _stored_name(photo: Path, folder: Path, generator: Generator, chip: Tensor) -> str | None:
    """``photo_id`` of a photograph in a dataset that has a latent of it."""
    read_metadata(folder)
    digest = sha256(photo)
    columns = ["photo_id", "source_path", "source_sha256", "status", "mse"]
    alike: list[tuple[str, float]] = []
    for table in iterate(folder, columns):
        for row in table.to_pylist():
            if row["status"] != "ok":
                continue
            if row["source_sha256"] == digest:
                return str(row["photo_id"])
            if photo.stem == row["photo_id"] or photo.name == Path(row["source_path"] or "").name:
                alike.append((str(row["photo_id"]), float(row["mse"] or np.nan)))
    for name, error in alike:
        with torch.no_grad():
            w_plus = torch.tensor(read_latent(folder, name))[None].to(generator.mapping.w_avg)
            drawn = generator.synthesis(w_plus).clamp(-1, 1)
            here = float(squared_error(drawn, chip[None].to(drawn))[0])
        if abs(here - error) <= SAME_ERROR * error:
            return name
    return None
