"""A cohort's photographs into W+: reading, inverting, grading and storing, in batches of one fixed shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from stylegan_surv import __version__
from stylegan_surv.errors import InputError
from stylegan_surv.gan import LPIPS, Encoder, Generator, load_encoder, load_generator
from stylegan_surv.gan.checkpoint import find
from stylegan_surv.inversion.encode import encode
from stylegan_surv.inversion.latents import Latents, LatentsWriter
from stylegan_surv.inversion.projector import Schedule, latent_scale, project, squared_error
from stylegan_surv.inversion.sources import Photo, Source, open_source

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort

Method = Literal["encoder", "hybrid", "projector"]
BATCHES_PER_CHUNK = 8  # photographs in memory at a time, and the rows of a shard


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a latent is, apart from the networks; stored with the dataset."""

    method: Method = "encoder"
    batch: int = 16
    seed: int = 0
    passes: int = 0
    schedule: Schedule | None = None


PRESETS: dict[str, Schedule | None] = {
    "encoder": None,
    "hybrid": Schedule(),
    "projector": Schedule(steps=200, penalty=0.02),
}


class Inverter:
    """Generator, encoder and settings: photographs in, rows out. One per process."""

    def __init__(self, generator: Generator, encoder: Encoder | None, settings: Settings) -> None:
        self.generator, self.encoder, self.settings = generator, encoder, settings
        self.device = generator.mapping.w_avg.device
        self.perceptual = LPIPS().to(self.device)
        self.resolution = generator.config.resolution
        self.mean, self.scale = latent_scale(generator)

    def metadata(self) -> dict[str, Any]:
        """What the dataset must know of its origin."""
        config = self.generator.config
        return {
            "generator": self.generator.card.get("name"),
            "generator_sha256": fingerprint(self.generator),
            "encoder_sha256": fingerprint(self.encoder) if self.encoder is not None else None,
            "num_ws": config.num_ws,
            "w_dim": config.w_dim,
            "method": self.settings.method,
            "settings": asdict(self.settings),
            "provenance": {
                "generator": self.generator.card.get("provenance"),
                "encoder": self.encoder.card.get("provenance") if self.encoder is not None else None,
            },
        }

    def rows(self, source: Source, photos: Sequence[Photo]) -> list[dict[str, Any]]:
        """One row per photograph, in order; those that fail keep their slot, filled with grey."""
        errors = [photo.error for photo in photos]
        side = self.resolution
        images = torch.zeros(len(photos), 3, side, side)
        for i, photo in enumerate(photos):
            if errors[i] is None:
                try:
                    images[i] = source.load(photo, side)
                except (OSError, ValueError) as fault:
                    errors[i] = f"chip cannot be read: {fault}"
        w_plus, steps = self._invert(images.to(self.device), [photo.photo_id for photo in photos])
        quality = self._grade(w_plus, images.to(self.device))
        latents = w_plus.cpu().numpy()
        rows = []
        for i, photo in enumerate(photos):
            row: dict[str, Any] = {
                "photo_id": photo.photo_id,
                "patient_id": photo.patient_id,
                "source_path": photo.source_path,
                "source_sha256": photo.source_sha256,
                "status": "ok" if errors[i] is None else "failed",
                "error": errors[i],
                "seed": self.settings.seed,
            }
            if errors[i] is None:
                row |= {"w_plus": latents[i], "steps": int(steps[i])}
                row |= {name: float(values[i]) for name, values in quality.items()}
            rows.append(row)
        return rows

    def _invert(self, images: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        settings = self.settings
        if self.encoder is None:
            start = self.mean.expand(len(images), self.generator.config.num_ws, -1).clone()
        else:
            encoder = self.encoder
            with torch.no_grad():
                parts = [
                    encode(encoder, self.generator, part, settings.passes)
                    for part in padded(images, settings.batch)
                ]
            start = torch.cat(parts)[: len(images)]
        if settings.schedule is None:
            return start, torch.zeros(len(images), dtype=torch.long)
        fit = project(
            self.generator,
            images,
            start,
            names,
            settings.schedule,
            batch=settings.batch,
            seed=settings.seed,
            perceptual=self.perceptual,
        )
        return fit.w_plus, fit.steps

    @torch.no_grad()
    def _grade(self, w_plus: Tensor, images: Tensor) -> dict[str, Tensor]:
        """LPIPS, MSE and the distance from the mean latent (root mean square, in standard deviations of w)."""
        batch, distance, error = self.settings.batch, [], []
        for w, image in zip(padded(w_plus, batch), padded(images, batch)):
            drawn = self.generator.synthesis(w).clamp(-1, 1)
            distance.append(self.perceptual(drawn, image))
            error.append(squared_error(drawn, image))
        away = (w_plus - self.mean).square().mean(dim=(1, 2)).sqrt() / self.scale
        n = len(images)
        return {"lpips": torch.cat(distance)[:n], "mse": torch.cat(error)[:n], "distance": away}


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
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def embed(
    photos: Any,
    *,
    cohort: Cohort | None = None,
    generator: Generator | str | Path = "synthetic-64",
    encoder: Encoder | str | Path | None = None,
    out: str | Path | None = None,
    method: Method = "hybrid",
    batch: int = 16,
    seed: int = 0,
    passes: int = 0,
    schedule: Schedule | None = None,
    photo_ids: Sequence[str] | None = None,
    patient_ids: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Latents:
    """Invert photographs into the generator's W+ space.

    Parameters
    ----------
    photos : Chips, folder of chips, folder of raw photographs, Cohort, or array [n, 3, h, w] in [−1, 1]
        Raw photographs are aligned first, into ``out/_chips``.
    cohort : Cohort, optional
        Gives every photograph its patient and says which photographs are wanted. Without it each photograph
        is its own patient.
    generator : Generator, path or zoo name
    encoder : Encoder, path or zoo name, optional
        By default the one that is bundled with the generator.
    out : path, optional
        Folder of the latents dataset. A run that was interrupted goes on there; photographs that have
        changed since are redone; another generator or other settings are refused. Without it nothing is
        written.
    method : {"hybrid", "encoder", "projector"}
        Encoder alone; encoder and as many projector steps as each photograph needs; projector from the mean.
    batch : int
        The one batch shape of the run. Results are the same to the last bit whatever else is in the batch.
    seed : int
    passes : int
        Encoder refinement passes, see :func:`stylegan_surv.inversion.encode.encode`.
    schedule : Schedule, optional
        Replaces the method's own.
    photo_ids, patient_ids : sequences of str, optional
        Names of an array's rows.
    progress : callable, optional
        Called with (photographs done, total).

    Returns
    -------
    Latents
        In the order of the photographs. Those that could not be inverted are in ``.failed``, with the reason.
    """
    if method not in PRESETS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(PRESETS)}.")
    generator, encoder = _networks(generator, encoder, method)
    settings = Settings(method, batch, seed, passes, schedule or PRESETS[method])
    folder = None if out is None else Path(out)
    source = open_source(
        photos,
        cohort,
        photo_ids=photo_ids,
        patient_ids=patient_ids,
        aligned_to=None if folder is None else folder / "_chips",
        size=max(256, generator.config.resolution),
    )
    inverter = Inverter(generator, encoder, settings)
    if folder is None:
        return _in_memory(inverter, source, progress)
    with LatentsWriter(folder, inverter.metadata()) as writer:
        _to_disk(inverter, source, writer, progress)
    return Latents.open(folder).select(photo.photo_id for photo in source.photos)


def _networks(
    generator: Generator | str | Path, encoder: Encoder | str | Path | None, method: Method
) -> tuple[Generator, Encoder | None]:
    named = generator
    net = generator if isinstance(generator, Generator) else load_generator(generator)
    if method == "projector":
        encoder = None
    elif encoder is None:
        name = str(net.card.get("name") if isinstance(named, Generator) else named)
        try:
            encoder = (
                find(name, ".encoder")
                if not Path(name).suffix
                else Path(name).with_suffix(".encoder.safetensors")
            )
            encoder = load_encoder(encoder)
        except InputError as missing:
            raise InputError(
                f"There is no encoder for the generator {name}: train one with `stylegan-surv train-encoder`, give one "
                "with `encoder`, or use method 'projector'."
            ) from missing
    elif not isinstance(encoder, Encoder):
        encoder = load_encoder(encoder)
    if isinstance(encoder, Encoder):
        got = (encoder.shape.resolution, encoder.shape.num_ws, encoder.shape.w_dim)
        wanted = (net.config.resolution, net.config.num_ws, net.config.w_dim)
        if got != wanted:
            raise InputError(
                f"The encoder has resolution, num_ws, w_dim = {got}; the generator has {wanted}: they do not belong "
                "together."
            )
    return net, encoder


def _chunks(photos: Sequence[Photo], size: int) -> Iterator[Sequence[Photo]]:
    for start in range(0, len(photos), size):
        yield photos[start : start + size]


def _in_memory(inverter: Inverter, source: Source, progress: Callable[[int, int], None] | None) -> Latents:
    rows: list[dict[str, Any]] = []
    for chunk in _chunks(source.photos, inverter.settings.batch * BATCHES_PER_CHUNK):
        rows += inverter.rows(source, chunk)
        if progress is not None:
            progress(len(rows), len(source.photos))
    config = inverter.generator.config
    vectors = [row.pop("w_plus") for row in rows if "w_plus" in row]
    w_plus = np.stack(vectors) if vectors else np.empty((0, config.num_ws, config.w_dim), np.float32)
    return Latents.from_rows(rows, w_plus, {"version": __version__, **inverter.metadata()})


def _to_disk(
    inverter: Inverter, source: Source, writer: LatentsWriter, progress: Callable[[int, int], None] | None
) -> None:
    photos = source.photos
    writer.discard([p.photo_id for p in photos if p.source_sha256 != writer.present.get(p.photo_id)])
    pending = [photo for photo in photos if photo.photo_id not in writer.present]
    done = len(photos) - len(pending)
    if progress is not None:
        progress(done, len(photos))
    for chunk in _chunks(pending, inverter.settings.batch * BATCHES_PER_CHUNK):
        writer.write(inverter.rows(source, chunk))
        done += len(chunk)
        if progress is not None:
            progress(done, len(photos))
