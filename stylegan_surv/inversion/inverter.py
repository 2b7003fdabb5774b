"""Generator, encoder and settings in one object: photographs in, rows of the latents dataset out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces.mask import face_mask
from stylegan_surv.gan import LPIPS, Encoder, Generator, load_encoder, load_generator
from stylegan_surv.gan.formats.checkpoint import find
from stylegan_surv.inversion.encode import encode
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.projector import (
    REFERENCE,
    Perceptual,
    Projection,
    Schedule,
    exchangeable,
    latent_scale,
    project,
    shrink,
    squared_error,
)
from stylegan_surv.inversion.sources import Photo, Source

Method = Literal["encoder", "hybrid", "projector"]
Start = Mapping[str, NDArray[np.float32]]  # photo_id → w_plus, where a run begins from earlier latents

DISPLAY_ONLY = "display only"  # a card's "use": this generator was bent to one photograph

METHODS: dict[Method, Schedule | None] = {
    "encoder": None,
    "hybrid": Schedule(steps=40, target=0.0005, optimizer="lbfgs", pixel=10.0),
    "projector": Schedule(start="mean", steps=300, penalty=0.02, face_mask=True),
}
PRESETS: dict[str, tuple[Method, Schedule | None]] = {
    "reference": ("projector", REFERENCE),
    "reference-w+": ("projector", Schedule(**{**asdict(REFERENCE), "space": "w+"})),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a latent is, apart from the networks; stored with the dataset."""

    method: Method = "hybrid"
    batch: int = 16
    seed: int = 0
    passes: int = 0
    schedule: Schedule | None = None
    perceptual: str = "alex"
    identity: bool = False


@dataclass(frozen=True)
class Loaded:
    """Photographs with their pixels [n, 3, R, R]; ``errors`` says which have none (they are grey)."""

    photos: Sequence[Photo]
    images: Tensor
    errors: list[str | None]


class Inverter:
    """Turns photographs into rows; one per process.

    Parameters
    ----------
    generator, encoder : the networks; without encoder the projector starts from the mean.
    settings : what to do.
    perceptual : the projector's image distance, where it is none of LPIPS's two networks.
    start : latents to start from, for ``Schedule(start="previous")``.
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
        return exchangeable(self.generator, self.perceptual, self.settings.batch, self.encoder)

    def metadata(self) -> dict[str, Any]:
        """What the dataset must know of its origin."""
        networks = {"generator": self.generator, "encoder": self.encoder}
        known = {name: net for name, net in networks.items() if net is not None}
        plan = self.settings.schedule
        return {
            "generator": self.generator.card.get("name"),
            **{f"{name}_sha256": fingerprint(net) for name, net in known.items()},
            "num_ws": self.generator.config.num_ws,
            "w_dim": self.generator.config.w_dim,
            **({"start_sha256": _digest(self.start)} if self.start else {}),
            **({"noise": NoiseMaps(self.generator).total} if plan is not None and plan.noise else {}),
            "method": self.settings.method,
            "settings": asdict(self.settings),
            "provenance": {name: net.card.get("provenance") for name, net in known.items()},
        }

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

    def rows(self, loaded: Loaded, finished: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
        """One row per photograph, in order, failed ones included."""
        images = loaded.images.to(self.device)
        names = [photo.photo_id for photo in loaded.photos]
        fit = self._invert(images, names, finished)
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
        self, images: Tensor, names: Sequence[str], finished: Callable[[int], None] | None
    ) -> Projection:
        settings, plan = self.settings, self.settings.schedule
        start = self._start(images, names)
        if plan is None:
            return Projection(start, torch.zeros(len(images), dtype=torch.long))
        return project(
            self.generator,
            images,
            start,
            names,
            plan,
            batch=settings.batch,
            seed=settings.seed,
            mask=self.face if plan.face_mask else None,
            perceptual=self.perceptual,
            refill=self.exchangeable,
            finished=finished,
        )

    @torch.no_grad()
    def _start(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Where the projector begins (and where the encoder ends), [n, num_ws, w_dim]."""
        plan, config = self.settings.schedule, self.generator.config
        mean = self.mean.expand(config.num_ws, -1)
        if plan is not None and plan.start == "previous":
            parts = [torch.from_numpy(self.start[name]) if name in self.start else mean for name in names]
            return torch.stack([part.to(mean) for part in parts])
        if self.encoder is None or (plan is not None and plan.start == "mean"):
            return mean.expand(len(images), -1, -1).clone()
        batches = padded(images, self.settings.batch)
        done = [encode(self.encoder, self.generator, part, self.settings.passes) for part in batches]
        return torch.cat(done)[: len(images)]

    @torch.no_grad()
    def _grade(self, fit: Projection, images: Tensor) -> dict[str, Tensor]:
        """LPIPS, MSE, identity, and the distance from the mean latent (RMS, in standard deviations of w).

        Graded with the generator's own noise maps: that is what the latent alone says of the photograph.
        """
        from stylegan_surv.inversion.identity import similarity

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


def fingerprint(net: Generator | Encoder) -> str:
    """SHA-256 of the file a network came from, or of its weights where it has none."""
    known = net.card.get("sha256")
    if known:
        return str(known)
    return _digest({name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()})


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def plan(
    method: Method | None,
    preset: str | None,
    schedule: Schedule | Mapping[str, Any] | None,
    perceptual: str | None = None,
    **others: Any,
) -> Settings:
    """Settings of a run; a preset implies its method and VGG16; a schedule, or parts of one, replace the method's."""
    others["perceptual"] = perceptual or ("alex" if preset is None else "vgg")
    if others.get("batch", 1) < 1:
        raise InputError(f"batch is {others['batch']}; expected 1 or more.")
    if preset is not None:
        if preset not in PRESETS or schedule is not None or method not in (None, PRESETS[preset][0]):
            raise InputError(
                f"preset is {preset!r}; expected one of {', '.join(PRESETS)}, without a schedule or another method."
            )
        return Settings(PRESETS[preset][0], schedule=PRESETS[preset][1], **others)
    method = method or "hybrid"
    if method not in METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    if method == "encoder" and schedule is not None:
        raise InputError("A schedule belongs to the projector; with method 'encoder' it does nothing.")
    own = METHODS[method]
    if own is None or schedule is None:
        return Settings(method, schedule=own, **others)
    if not isinstance(schedule, Schedule):
        if unknown := sorted(schedule.keys() - asdict(own).keys()):
            raise InputError(f"A schedule has no {unknown[0]!r}; expected one of {', '.join(asdict(own))}.")
        schedule = Schedule(**{**asdict(own), **schedule})
    return Settings(method, schedule=schedule, **others)


def networks(
    generator: Generator | str | Path,
    encoder: Encoder | str | Path | None,
    settings: Settings,
    device: str = "cpu",
) -> tuple[Generator, Encoder | None]:
    """Load what a run needs; the encoder is by default the one that lies with the generator."""
    net = generator if isinstance(generator, Generator) else load_generator(generator, device)
    if settings.method == "projector" and (settings.schedule is None or settings.schedule.start != "encoder"):
        return net, None
    if not isinstance(encoder, Encoder):
        encoder = load_encoder(encoder or _partner(net, generator), device)
    check_pair(net, encoder)
    return net, encoder


def check_pair(generator: Generator, encoder: Encoder) -> None:
    """Whether the encoder's latents are of the generator's shape; an `InputError` where they are not."""
    got = (encoder.shape.resolution, encoder.shape.num_ws, encoder.shape.w_dim)
    wanted = (generator.config.resolution, generator.config.num_ws, generator.config.w_dim)
    if got != wanted:
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
