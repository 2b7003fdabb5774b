"""Generator, encoder and settings in one object: photographs in, rows of the latents dataset out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces.mask import face_mask
from stylegan_surv.gan import LPIPS, Encoder, Generator, load_encoder, load_generator
from stylegan_surv.gan.formats.checkpoint import find
from stylegan_surv.inversion.encode import encode
from stylegan_surv.inversion.identity import similarity
from stylegan_surv.inversion.memory import explained
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.origin import Network, Origin, arrays_sha256
from stylegan_surv.inversion.projector import (
    Perceptual,
    Projection,
    Targets,
    exchangeable,
    latent_scale,
    project,
    shrink,
    squared_error,
)
from stylegan_surv.inversion.settings import Settings
from stylegan_surv.inversion.sources import Photo, Source

Start = Mapping[str, Floats]  # photo_id → w_plus, where a run begins from earlier latents

DISPLAY_ONLY = "display only"  # a card's "use": this generator was bent to one photograph


@dataclass(frozen=True)
class Loaded:
    """Photographs of a run with their pixels.

    Attributes
    ----------
    photos : sequence of Photo, length n
    images : Tensor, shape (n, 3, resolution, resolution)
        In [−1, 1]; grey where a photograph has none.
    errors : list of str or None, length n
        Why a photograph has no pixels.
    """

    photos: Sequence[Photo]
    images: Tensor
    errors: list[str | None]


class Inverter:
    """Turns photographs into rows; one per process.

    Parameters
    ----------
    generator : Generator
    encoder : Encoder, optional
        Without one the projector starts from the mean.
    settings : Settings
    perceptual : callable, optional
        The projector's image distance, where it is none of LPIPS's two networks.
    start : mapping of str to array, optional
        Latents to start from by photo_id, for ``Schedule(start="previous")``.

    Raises
    ------
    InputError
        If the settings and what is given do not belong together; :class:`Refused` if the generator is for display
        only.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder | None,
        settings: Settings,
        perceptual: Perceptual | None = None,
        start: Start | None = None,
    ) -> None:
        if generator.card.get("use") == DISPLAY_ONLY:
            raise Refused(
                "This generator was tuned to draw one photograph, for display only; give the original."
            )
        previous = settings.schedule is not None and settings.schedule.start == "previous"
        if previous != (start is not None):
            raise InputError(
                "Latents to start from and a schedule with start = 'previous' belong together; "
                f"{'the latents are' if previous else 'such a schedule is'} missing."
            )
        self.generator, self.encoder, self.settings, self.start = generator, encoder, settings, start or {}
        self.device = generator.mapping.w_avg.device
        self.lpips = LPIPS().to(self.device)
        self.perceptual = perceptual or self._lpips(settings.perceptual)
        self.resolution = generator.config.resolution
        self.mean, self.scale = latent_scale(generator)
        self.face = torch.from_numpy(face_mask(self.resolution))[None, None].to(self.device)

    def _lpips(self, net: str) -> LPIPS:
        if net == "alex":
            return self.lpips
        if net != "vgg":
            raise InputError(
                f"perceptual is {net!r}; expected 'alex', 'vgg' or a function of two batches of images."
            )
        try:
            return LPIPS("vgg").to(self.device)
        except InputError as missing:
            raise InputError(
                f"{missing}, or say --perceptual alex (the protocol with another distance)"
            ) from missing

    @cached_property
    def exchangeable(self) -> bool:
        """Whether a photograph's place in the batch changes no bit of its latent, on this machine."""
        with explained(self.settings.batch):
            return exchangeable(self.generator, self.perceptual, self.settings.batch, self.encoder)

    def origin(self) -> Origin:
        """What the dataset must know of where its latents come from."""
        cards = {"generator": self.generator.card}
        if self.encoder is not None:
            cards["encoder"] = self.encoder.card
        schedule, grown = self.settings.schedule, self.generator.survival_ws
        return Origin(
            num_ws=self.generator.config.num_ws,
            w_dim=self.generator.config.w_dim,
            survival_ws=None if grown == self.generator.config.num_ws else grown,
            generator=Network.of(self.generator),
            encoder=None if self.encoder is None else Network.of(self.encoder),
            method=self.settings.method,
            settings=self.settings,
            provenance={role: card.get("provenance") for role, card in cards.items()},
            start_sha256=arrays_sha256(self.start) if self.start else None,
            noise=NoiseMaps(self.generator).total if schedule is not None and schedule.noise else 0,
        )

    def load(self, source: Source, photos: Sequence[Photo]) -> Loaded:
        """Read pixels; a photograph that cannot be read keeps its place."""
        images = torch.zeros(len(photos), 3, self.resolution, self.resolution)
        errors = [photo.error for photo in photos]
        for i, photo in enumerate(photos):
            if errors[i] is None:
                try:
                    images[i] = source.load(photo, self.resolution)
                except (OSError, ValueError, SyntaxError) as fault:  # Pillow raises all three on bad files
                    errors[i] = f"chip cannot be read: {fault}"
        return Loaded(photos, images, errors)

    def rows(
        self, loaded: Loaded, advanced: Callable[[int, int], None] | None = None
    ) -> list[dict[str, Any]]:
        """One row per photograph, in order, failed ones included.

        Parameters
        ----------
        loaded : Loaded
        advanced : callable, optional
            As in :func:`stylegan_surv.inversion.projector.project`.

        Raises
        ------
        InputError
            If memory runs out.
        """
        with explained(self.settings.batch):
            images = loaded.images.to(self.device)
            fit = self._invert(images, [photo.photo_id for photo in loaded.photos], advanced)
            quality = self._grade(fit, images)
        w_plus = fit.w_plus.cpu().numpy()
        rows = []
        for i, (photo, error) in enumerate(zip(loaded.photos, loaded.errors)):
            row: dict[str, Any] = {
                "photo_id": photo.photo_id,
                "patient_id": photo.patient_id,
                "source_path": photo.source_path,
                "source_sha256": photo.source_sha256,
                "status": "ok" if error is None else "failed",
                "error": error,
                "seed": self.settings.seed,
            }
            if error is None:
                row |= {"w_plus": w_plus[i], "steps": int(fit.steps[i])}
                row |= {name: float(values[i]) for name, values in quality.items()}
                if fit.noise is not None:
                    row["noise"] = fit.noise[i].half().cpu().numpy()
            rows.append(row)
        return rows

    def _invert(
        self, images: Tensor, names: Sequence[str], advanced: Callable[[int, int], None] | None
    ) -> Projection:
        settings, schedule = self.settings, self.settings.schedule
        start = self._start(images, names)
        if schedule is None:
            if advanced is not None:
                advanced(len(images), 0)
            return Projection(start, torch.zeros(len(images), dtype=torch.long))
        return project(
            self.generator,
            Targets(images, start, names),
            schedule,
            batch=settings.batch,
            seed=settings.seed,
            mask=self.face if schedule.face_mask else None,
            perceptual=self.perceptual,
            refill=self.exchangeable,
            advanced=advanced,
        )

    @torch.no_grad()
    def _start(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Where the projector begins (and where the encoder ends), [n, num_ws, w_dim]."""
        schedule, config = self.settings.schedule, self.generator.config
        mean = self.mean.expand(config.num_ws, -1)
        if schedule is not None and schedule.start == "previous":
            parts = [torch.from_numpy(self.start[name]) if name in self.start else mean for name in names]
            return torch.stack([part.to(mean) for part in parts])
        if self.encoder is None or (schedule is not None and schedule.start == "mean"):
            return mean.expand(len(images), -1, -1).clone()
        batches = padded(images, self.settings.batch)
        done = [encode(self.encoder, self.generator, part, self.settings.passes) for part in batches]
        return torch.cat(done)[: len(images)]

    @torch.no_grad()
    def _grade(self, fit: Projection, images: Tensor) -> dict[str, Tensor]:
        """LPIPS, MSE, identity, and the distance from the mean latent (RMS, in standard deviations of w).

        Graded with the generator's own noise maps: that is what the latent alone says of the photograph.
        """
        quality: dict[str, list[Tensor]] = {"lpips": [], "mse": []}
        if self.settings.identity:
            quality["identity"] = []
        batch = self.settings.batch
        for w, image in zip(padded(fit.w_plus, batch), padded(images, batch)):
            drawn = self.generator.synthesis(w).clamp(-1, 1)
            quality["lpips"].append(self.lpips(shrink(drawn), shrink(image)))
            quality["mse"].append(squared_error(drawn, image))
            if self.settings.identity:
                quality["identity"].append(similarity(drawn, image))
        away = (fit.w_plus - self.mean).square().mean(dim=(1, 2)).sqrt() / self.scale
        return {
            **{name: torch.cat(parts)[: len(images)] for name, parts in quality.items()},
            "distance": away,
        }


def padded(rows: Tensor, batch: int) -> Iterator[Tensor]:
    """Consecutive batches of exactly ``batch`` rows, the last one filled up with zeros."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        if len(part) < batch:
            part = torch.cat([part, part.new_zeros(batch - len(part), *part.shape[1:])])
        yield part


def networks(
    generator: Generator | str | Path,
    encoder: Encoder | str | Path | None,
    settings: Settings,
    device: str = "cpu",
) -> tuple[Generator, Encoder | None]:
    """Load what a run needs; the encoder is by default the one that lies with the generator.

    Parameters
    ----------
    generator : Generator, path or zoo name
    encoder : Encoder, path or zoo name, optional
    settings : Settings
        A projector that starts elsewhere needs no encoder.
    device : str
        Of networks that are given by name or file.

    Raises
    ------
    InputError
        If a network cannot be found or read, or the two do not belong together.
    """
    net = (
        generator
        if isinstance(generator, Generator)
        else load_generator(generator, device, label=settings.label)
    )
    if settings.label is not None and net.label != settings.label:
        raise InputError(
            f"label is {settings.label}, and the generator that is given draws {net.label}; give its file or name, or "
            "load it with this label."
        )
    if settings.method == "projector" and (settings.schedule is None or settings.schedule.start != "encoder"):
        return net, None
    if not isinstance(encoder, Encoder):
        encoder = load_encoder(encoder or _partner(net, generator), device)
    check_pair(net, encoder)
    return net, encoder


def check_pair(generator: Generator, encoder: Encoder) -> None:
    """Whether the encoder's latents are of the generator's shape; an `InputError` where they are not.

    An encoder may look at smaller pictures than the generator draws: what it is shown is made smaller first.
    """
    got = (encoder.shape.resolution, encoder.shape.num_ws, encoder.shape.w_dim)
    wanted = (generator.config.resolution, generator.config.num_ws, generator.config.w_dim)
    if got[0] > wanted[0] or got[1:] != wanted[1:]:
        raise InputError(
            f"The encoder has resolution, num_ws, w_dim = {got}; the generator has {wanted}: they do not belong "
            "together."
        )


def _partner(net: Generator, given: Generator | str | Path) -> Path:
    """The encoder's file: bundled under the generator's name, or beside its file."""
    name = str(net.card.get("name")) if isinstance(given, Generator) else str(given)
    beside = Path(name).with_suffix(".encoder.safetensors")
    try:
        return find(name, ".encoder")
    except InputError as missing:
        raise InputError(
            f"There is no encoder for the generator {name} (looked for {beside}): train one with `stylegan-surv "
            "train-encoder`, name one, or use method 'projector'."
        ) from missing
