"""Training an encoder for any generator: samples whose latents are known, and real chips.

On samples the target is the latent itself, so that the encoder learns E[w | photograph]: of all guesses the one with
the least squared error, and the one whose projection on any direction predicts best. A reconstruction loss alone
does not give that: many latents draw nearly the same picture. Before the encoder sees a sample it is photographed
(another background, clothing, light, compression, framing), because these must not move the latent. On real chips,
whose latents nobody knows, the loss is the picture's: LPIPS and squared error of the reconstruction.

Errors of w are counted in units of w's own spread in each direction (`whitening`). E[w | photograph] minimises either
error, but plain squares spend nearly all of a short training on the few directions along which w varies most, and a
survival signal may lie along any.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from cuda_ops import tune_allocator
from stylegan_surv import __version__
from stylegan_surv._images import to_images, to_pixels
from stylegan_surv._types import Floats, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.faces.camera import photograph
from stylegan_surv.faces.chips import Chips
from stylegan_surv.gan import LPIPS, Encoder, EncoderConfig, Generator, save_network
from stylegan_surv.gan.data import ImageSet, hold_out, read_chips
from stylegan_surv.gan.formats.provenance import record
from stylegan_surv.gan.networks import ema_decay, update_ema
from stylegan_surv.gan.training.precision import choose
from stylegan_surv.gan.training.settings import Setting, SettingsGroup, check_settings, override
from stylegan_surv.gan.training.state import Stateful, load_state, read_numbers, save_state
from stylegan_surv.gan.training.streams import Streams, drawn_from
from stylegan_surv.gan.training.trainer import Diverged
from stylegan_surv.inversion.inverter import check_pair
from stylegan_surv.inversion.origin import network_sha256
from stylegan_surv.inversion.projector import latent_scale, mapped, shrink, squared_error

BETAS = (0.9, 0.99)
SAVE_EVERY = 100  # steps
POOL = 16  # batches of faces that are drawn together, then photographed ``shots`` times, in a new order each time
MOMENTS = 10_000  # draws of w for its covariance
COLOURS = 3  # channels of a photograph
WARM_UP = 0.02  # share of the run in which the rate rises
MAX_RECOVERED = 32  # samples at a time


class EncoderSettings(SettingsGroup):
    """Settings of a run; all weights are per image."""

    images: PositiveInt = Field(
        default=200_000, description="length of the run in images, samples and chips together"
    )
    batch: int = Field(default=32, ge=1, description="images of one step")
    real: float = Field(
        default=0.25, ge=0, lt=1, description="share of a batch that is real chips, where there are any"
    )
    hold_out: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the patients of real chips that is left out, by the rule of `gan.data.hold_out`",
    )
    hold_out_seed: int = Field(
        default=0,
        description="its seed; a fine-tuning run of the same seed and share leaves out the same patients",
    )
    drop_captions: bool = Field(default=False, description="leave out real chips with a caption at an edge")
    rate: float = Field(
        default=1e-3,
        gt=0,
        description="Adam's learning rate; rises over the first 2 % and falls to 0 along a cosine",
    )
    truncation: tuple[float, float] = Field(
        default=(0.7, 1.0), description="samples are drawn at truncations between these two"
    )
    camera: tuple[float, float] = Field(
        default=(0.0, 1.2),
        description="strength of the simulated photography of samples, each between these two; 0 is none, 1 a busy "
        "clinic",
    )
    shots: PositiveInt = Field(
        default=4,
        description="photographs of every drawn face; drawing it costs more than photographing it again",
    )
    latent: float = Field(
        default=1.0,
        ge=0,
        description="weight of the squared latent error of samples; 1 in expectation for guessing the mean",
    )
    pixel: float = Field(default=2.0, ge=0, description="weight of the squared error of real chips")
    lpips: float = Field(default=1.0, ge=0, description="weight of the LPIPS of real chips")
    offsets: float = Field(
        default=0.2,
        ge=0,
        description="weight of the squared distance of the layers from their common w, in units of the w variance",
    )
    ema_images: float = Field(
        default=5000, gt=0, description="half-life of the averaged weights, which are what is saved"
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto", description="of the networks' passes; auto times both once and keeps to the faster"
    )
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the run; the last one passes its length."""
        return -(-self.images // self.batch)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        t = step / self.steps
        return float(self.rate * min(1.0, (t + 1 / self.steps) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * t)))


def encoder_settings(overrides: Sequence[str] = (), **given: Setting) -> EncoderSettings:
    """Settings by name, with overrides as the command line gives them.

    Raises
    ------
    InputError
        Listing every setting that is unknown, out of range, or given twice.
    """
    changed = [text.partition("=")[0] for text in overrides]
    standard = EncoderSettings().model_dump()
    if twice := [name for name in changed if name in given and given[name] != standard[name]]:
        raise InputError(f"{twice[0]} is given twice, once as an override: give it once")
    return check_settings(EncoderSettings, override(EncoderSettings, given, overrides), "the settings")


def train_encoder(
    generator: Generator,
    out: str | Path,
    recipe: EncoderSettings | None = None,
    *,
    photos: Chips | str | Path | ImageSet | None = None,
    start: Encoder | None = None,
    progress: Progress | None = None,
) -> Encoder:
    """Train an encoder for a generator; saves it to ``out`` with its card.

    Parameters
    ----------
    generator : Generator
        The network to invert; the encoder is trained on its device.
    out : str or Path
        The encoder's file. The state of an unfinished run lies beside it (``<out>.state``); the same call goes on.
    recipe : EncoderSettings, optional
        Settings of the run.
    photos : Chips, str, Path or ImageSet, optional
        Aligned real chips; as an :class:`~stylegan_surv.gan.data.ImageSet` they have owners, and the card's
        provenance names these patients. Without owners it knows the photographs alone.
    start : Encoder, optional
        Encoder to start from, of the same shape.
    progress : callable, optional
        Called with (images, total).

    Returns
    -------
    Encoder
        The averaged weights, in evaluation mode.

    Raises
    ------
    InputError
        If the generator draws other than three colour channels, the file ``<out>.state`` is of another run, or the
        loss is no longer finite.
    """
    tune_allocator()
    if generator.config.img_channels != COLOURS:
        raise InputError(
            f"the generator draws {generator.config.img_channels} colour channels; encoders read photographs of "
            f"{COLOURS}: expected a generator of {COLOURS}"
        )
    out, recipe = Path(out), recipe or EncoderSettings()
    run = _Run(generator, recipe, photos, start)
    state = out.with_name(out.name + ".state")
    if state.exists():
        run.resume(state)
    for step in range(run.step, recipe.steps):
        run.advance(step)
        if run.step % SAVE_EVERY == 0:
            run.save(state)
        if progress is not None:
            progress(min(run.step * recipe.batch, recipe.images), recipe.images)
    save_network(run.average, out, run.card())
    state.unlink(missing_ok=True)
    run.average.card = run.card()
    return run.average


class _Run:
    def __init__(
        self,
        generator: Generator,
        recipe: EncoderSettings,
        photos: Chips | str | Path | ImageSet | None,
        start: Encoder | None,
    ) -> None:
        self.generator, self.step = generator, 0
        self.device = generator.mapping.w_avg.device
        self.auto = recipe.precision == "auto"
        self.recipe = _with_precision(recipe, _bf16_or_single(self.device)) if self.auto else recipe
        self.chips = None if photos is None else _read(photos, generator.config.resolution, recipe)
        self.base = None if start is None else start.card
        self.inputs = _inputs(generator, start, self.chips)
        if start is not None:
            check_pair(generator, start)
        shape = _shape(generator) if start is None else start.shape
        with drawn_from(Streams(recipe.seed).networks):
            self.net, self.average = Encoder(shape).to(self.device), Encoder(shape).to(self.device)
        if start is not None:
            self.net.load_state_dict(start.state_dict())
        self.average.load_state_dict(self.net.state_dict())
        self.average.eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=recipe.rate, betas=BETAS)
        self.perceptual = LPIPS().to(self.device)
        self.scale = latent_scale(generator)[1]
        self.whitening = whitening(generator)
        self.pool = -1  # number of the faces in memory
        self.faces = self.truth = torch.empty(0)

    def resume(self, path: Path) -> None:
        numbers = read_numbers(path)
        if self.auto:
            self.recipe = _with_precision(self.recipe, numbers["recipe"]["precision"])
        others = [name for name, value in self.inputs.items() if numbers.get("inputs", {}).get(name) != value]
        others += ["settings"] if numbers["recipe"] != self.recipe.model_dump(mode="json") else []
        if others:
            raise InputError(
                f"{path.name} is a run with other {' and '.join(others)}; delete it, or give the same ones."
            )
        load_state(path, self._objects())
        self.step = int(numbers["step"])

    def save(self, path: Path) -> None:
        numbers = {"step": self.step, "recipe": self.recipe.model_dump(mode="json"), "inputs": self.inputs}
        save_state(path, self._objects(), numbers)

    def _objects(self) -> dict[str, Stateful]:
        return {"net": self.net, "average": self.average, "optimiser": self.optimiser}

    def advance(self, step: int) -> None:
        """One step; everything random in it follows from the seed and its number."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        real = 0
        if self.chips is not None and recipe.real:  # then at least one of either kind
            real = min(max(round(recipe.batch * recipe.real), 1), recipe.batch - 1)
        loss = self._sample_loss(rng, step, recipe.batch - real)
        if self.chips is not None and real:
            loss = loss + self._chip_loss(self.chips, rng, real)
        if not loss.isfinite():
            raise Diverged(
                f"the encoder's loss became {loss.item()} at image {step * recipe.batch}: start again with a lower "
                "rate, in another file (the saved state here keeps to this run's settings)."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        self.optimiser.zero_grad(set_to_none=True)
        (loss / recipe.batch).backward()
        self.optimiser.step()
        update_ema(
            self.average, self.net, ema_decay(recipe.batch, recipe.ema_images, (step + 1) * recipe.batch)
        )
        self.step = step + 1

    def _sample_loss(self, rng: np.random.Generator, step: int, n: int) -> Tensor:
        recipe = self.recipe
        images, truth = self._drawn(step, n)
        if recipe.camera[1]:
            strengths = rng.uniform(*recipe.camera, n)
            images = photographs(images, strengths, recipe.seed, step * recipe.batch)
        with self._precision():
            w, offsets = (part.float() for part in self.net.split(images))
        loss: Tensor = recipe.latent * ((w - truth) @ self.whitening).square().sum()
        return loss + recipe.offsets * offsets.square().mean(dim=(1, 2)).sum() / self.scale**2

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def _drawn(self, step: int, n: int) -> tuple[Tensor, Tensor]:
        """The faces [n, 3, R, R] of a step and their w [n, w_dim]; a function of the seed and the step."""
        number, within = divmod(step, POOL * self.recipe.shots)
        if self.pool != number:
            self.pool, (self.faces, self.truth) = number, self._draw(number, POOL * n)
        shot, part = divmod(within, POOL)
        order = np.random.default_rng([self.recipe.seed, number, shot]).permutation(POOL * n)
        at = torch.from_numpy(order[part * n : (part + 1) * n]).to(self.device)
        return self.faces[at], self.truth[at]

    @torch.no_grad()
    def _draw(self, number: int, n: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.recipe.seed, number])
        z = torch.from_numpy(rng.standard_normal((n, self.generator.config.z_dim), np.float32))
        psi = torch.from_numpy(rng.uniform(*self.recipe.truncation, (n, 1, 1)).astype(np.float32))
        w_avg = self.generator.mapping.w_avg
        w_plus = w_avg.lerp(mapped(self.generator, z), psi.to(self.device))
        faces = [self.generator.synthesis(part).clamp(-1, 1) for part in w_plus.split(self.recipe.batch)]
        return torch.cat(faces), w_plus[:, 0]

    def _chip_loss(self, chips: ImageSet, rng: np.random.Generator, n: int) -> Tensor:
        recipe = self.recipe
        images = chips.images(rng.integers(len(chips), size=n), self.device)
        turned = torch.from_numpy(rng.random((n, 1, 1, 1)) < 0.5).to(self.device)
        images = torch.where(turned, images, images.flip(3))
        with self._precision():
            w, offsets = (part.float() for part in self.net.split(images))
            drawn = self.generator.synthesis(w[:, None] + offsets).float()
            loss = recipe.lpips * self.perceptual(shrink(drawn), shrink(images))
        loss = loss + recipe.pixel * squared_error(drawn, images)
        loss = loss + recipe.offsets * offsets.square().mean(dim=(1, 2)) / self.scale**2
        total: Tensor = loss.sum()
        return total

    def card(self) -> dict[str, Any]:
        """Licence, data and whom the encoder has seen."""
        source, chips = self.generator.card, self.chips
        before = [source] if self.base is None else [source, self.base]
        provenance: Any = source.get("provenance") or {"kind": "unknown"}
        if chips is not None:
            provenance = record(chips.pixels, chips.owners or None, base=before)
        elif self.base is not None:
            provenance = record([], [], base=before)
        return {
            "name": source.get("name"),
            "licence": source.get("licence"),
            "generator_sha256": source.get("sha256"),
            **({"label": source["label"]} if "label" in source else {}),
            "recipe": self.recipe.model_dump(mode="json"),
            "real_chips": 0 if self.chips is None else len(self.chips),
            "started_from": (self.base or {}).get("sha256"),
            "provenance": provenance,
            "version": __version__,
        }


@torch.no_grad()
def recovery(
    generator: Generator,
    encoder: Encoder,
    *,
    n: int = 256,
    truncation_psi: float = 0.7,
    camera: float = 1.0,
    seed: int = 1,
) -> float:
    """Relative error of w on fresh photographed samples: ‖ŵ − w‖ / ‖w − w̄‖; 1 is no better than the mean."""
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for first in range(0, n, MAX_RECOVERED):
        z = torch.randn(MAX_RECOVERED, generator.config.z_dim, generator=rng)
        truth = mapped(generator, z, truncation_psi=truncation_psi)
        shots = photographs(generator.synthesis(truth).clamp(-1, 1), camera, seed, first)
        parts.append((truth[:, 0], encoder.split(shots)[0]))
    w, guess = (torch.cat(side) for side in zip(*parts))
    return float((guess - w).square().sum().div((w - w.mean(dim=0)).square().sum()).sqrt())


@torch.no_grad()
def whitening(generator: Generator) -> Tensor:
    """M [w_dim, w_dim]: ‖(ŵ − w)·M‖² is the error of a guess ŵ, 1 in expectation for the mean of w.

    Each principal direction of w is divided by its own standard deviation; those that vary less than the average
    direction keep part of their smallness (the average variance is added), so that nothing is blown up.
    """
    z = torch.randn(MOMENTS, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    values, vectors = torch.linalg.eigh(mapped(generator, z)[:, 0].T.cov())
    values = values.clamp_min(0)
    inverse = 1 / (values + values.mean())
    root: Tensor = vectors * (inverse / (values * inverse).sum()).sqrt()
    return root


def photographs(images: Tensor, strength: float | Floats, seed: int, first: int) -> Tensor:
    """Generated faces [n, 3, R, R] in [−1, 1], each through its own simulated camera; on the device of ``images``."""
    faces = to_pixels(images)
    strengths = np.broadcast_to(strength, len(faces)).tolist()
    shots = [
        photograph(face, seed=seed, index=first + i, strength=s)
        for i, (face, s) in enumerate(zip(faces, strengths))
    ]
    return to_images(np.stack(shots)).to(images.device)


def _shape(generator: Generator) -> EncoderConfig:
    """Half the generator's channels: an encoder is read once per photograph and need not be large."""
    config = generator.config
    return EncoderConfig(
        config.resolution, config.num_ws, config.w_dim, config.channel_base * 2 // 3, config.channel_max
    )


def _read(photos: Chips | str | Path | ImageSet, resolution: int, recipe: EncoderSettings) -> ImageSet:
    folder = photos.folder if isinstance(photos, Chips) else photos
    chips = (
        folder
        if isinstance(folder, ImageSet)
        else read_chips(folder, resolution, drop_captions=recipe.drop_captions)
    )
    into = hold_out(chips.patients, recipe.hold_out, recipe.hold_out_seed)[0]
    if not into:
        raise InputError(
            f"All {len(chips)} chips are held out (hold_out is {recipe.hold_out:g}); expected some to train on."
        )
    return chips.subset(into)


def _inputs(generator: Generator, start: Encoder | None, chips: ImageSet | None) -> dict[str, str | None]:
    """What a run is made of, besides its settings."""
    pixels = None if chips is None else chips.digest
    encoder = None if start is None else network_sha256(start)
    return {"generator": network_sha256(generator), "start": encoder, "photos": pixels}


def _bf16_or_single(device: torch.device) -> str:
    """bf16 where it is faster; never fp16, which would need a loss scale."""
    chosen = choose(device)
    return chosen if chosen == "bf16" else "float32"


def _with_precision(settings: EncoderSettings, precision: str) -> EncoderSettings:
    return settings.model_copy(update={"precision": precision})
