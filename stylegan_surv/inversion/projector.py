"""Batched optimisation in W or W+: every photograph has its own slot, loss, noise, random numbers and end.

Nothing is shared between slots but the arithmetic: the losses are summed, so a slot's gradient is its own, and the
optimisers work row by row. At a fixed batch shape a result therefore does not depend, in any bit, on what the other
slots hold. Where it does not depend on the slot's place either (`exchangeable`), a slot whose photograph is finished
takes the next one; elsewhere photograph i keeps to slot i modulo the batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.errors import InputError
from stylegan_surv.gan import LPIPS, Encoder, Generator
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.optimizers import LBFGS, Adam

LPIPS_SIZE = 256  # perceptual features are computed at this size at most (Karras et al. 2020, appendix D)
W_SAMPLES = 10_000  # for the mean and the scale of w (the same appendix)
EXPLORATION_ENDS = 0.75  # of the steps (the same appendix)
Space = Literal["w", "w+"]
StartFrom = Literal["encoder", "mean", "previous"]
Optimizer = Literal["adam", "lbfgs"]


class Perceptual(Protocol):
    """Distances [n] of image batches [n, 3, h, w]; ``weight`` [1, 1, h, w] says where pixels count.

    One that has ``features`` and ``between``, as `LPIPS` has, sees each photograph once and not at every step.
    """

    def __call__(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor: ...


class _Whole:
    """A distance without features of its own: the images are their features."""

    def __init__(self, distance: Perceptual) -> None:
        self.distance = distance

    def features(self, images: Tensor) -> list[Tensor]:
        return [images]

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        return self.distance(a[0], b[0], weight)


@dataclass(frozen=True)
class Schedule:
    """How a photograph is optimised.

    Attributes
    ----------
    space : "w" keeps one vector for all layers, "w+" one per layer.
    start : "encoder", "mean" of the latent space, or "previous" (latents that are given).
    steps : at most so many steps, each of one drawing and its gradient.
    target : LPIPS at which a photograph is finished; None runs all steps.
    optimizer : "adam", or "lbfgs", which from a good start reaches the same loss in half the steps; it has no learning
        rate, and no noise to smooth.
    rate : Adam's peak learning rate, in units of the standard deviation of w's elements; see `absolute`.
    absolute : `rate` is in units of w itself.
    warmup, cooldown : fractions of `steps` for the linear rise and the cosine fall of the learning rate.
    lpips, pixel : weights of LPIPS and of the mean squared error.
    penalty : weight of the squared distance to the start, per element, in units of the w variance: the dial from
        faithful (0) to editable and predictive.
    exploration : standard deviation of noise on w at first, as a share of w's own spread E‖w − w̄‖.
    noise : optimise the noise maps as well (they then soak up detail that the latent should carry).
    noise_weight : of the squared autocorrelation of optimised maps.
    face_mask : count pixels by the face mask, so that background and clothing do not steer the latent.
    """

    space: Space = "w+"
    start: StartFrom = "encoder"
    steps: int = 30
    target: float | None = None
    optimizer: Optimizer = "adam"
    rate: float = 0.1
    absolute: bool = False
    warmup: float = 0.05
    cooldown: float = 0.25
    lpips: float = 1.0
    pixel: float = 1.0
    penalty: float = 0.1
    exploration: float = 0.0
    noise: bool = False
    noise_weight: float = 1e5
    face_mask: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("space", Space), ("start", StartFrom), ("optimizer", Optimizer)):
            if getattr(self, name) not in (allowed := get_args(kind)):
                raise InputError(
                    f"The schedule has {name} = {getattr(self, name)!r}; expected one of {', '.join(allowed)}."
                )
        if self.optimizer == "lbfgs" and (self.noise or self.exploration):
            raise InputError(
                "The schedule has optimizer = 'lbfgs' with noise maps or exploration; L-BFGS needs a loss that stays "
                "the same: take optimizer = 'adam'."
            )
        if self.steps < 1 or self.rate <= 0 or min(self.penalty, self.lpips, self.pixel) < 0:
            raise InputError(
                f"The schedule has steps = {self.steps}, rate = {self.rate}, penalty = {self.penalty}, lpips = "
                f"{self.lpips}, pixel = {self.pixel}; expected steps ≥ 1, rate > 0 and weights ≥ 0."
            )

    def rate_at(self, t: Tensor) -> Tensor:
        """Learning rate at fraction ``t`` of the steps (Karras et al. 2020, appendix D)."""
        rate = torch.full_like(t, self.rate)
        if self.cooldown:
            rate = rate * (0.5 - 0.5 * torch.cos(math.pi * ((1 - t) / self.cooldown).clamp(max=1)))
        if self.warmup:
            rate = rate * ((t + 1 / self.steps) / self.warmup).clamp(max=1)
        return rate

    def exploration_at(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise on w, as a share of w's spread."""
        return self.exploration * (1 - t / EXPLORATION_ENDS).clamp(min=0).square()


# The protocol of Karras et al. 2020 (appendix D), with whatever perceptual distance is given.
REFERENCE = Schedule(
    "w", "mean", 1000, rate=0.1, absolute=True, pixel=0.0, penalty=0.0, exploration=0.05, noise=True
)


@dataclass(frozen=True)
class Projection:
    """Latents [n, num_ws, w_dim], the steps [n] that each took, and noise maps [n, total] if they were optimised."""

    w_plus: Tensor
    steps: Tensor
    noise: Tensor | None = None


@torch.no_grad()
def latent_scale(generator: Generator) -> tuple[Tensor, float]:
    """Mean of w [w_dim] and the standard deviation of its elements, from 10,000 fixed draws."""
    rng = torch.Generator().manual_seed(123)
    w = mapped(generator, torch.randn(W_SAMPLES, generator.config.z_dim, generator=rng))[:, 0]
    mean = w.mean(dim=0)
    return mean, float((w - mean).square().mean().sqrt())


def mapped(generator: Generator, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
    """W+ [n, num_ws, w_dim] of normal draws [n, z_dim]; a conditional generator gets the label that was chosen."""
    z = z.to(generator.mapping.w_avg)
    w_plus: Tensor = generator.mapping(z, generator.labels(len(z)), truncation_psi=truncation_psi)
    return w_plus


def rng_of(seed: int, name: str) -> torch.Generator:
    """Random numbers that belong to one photograph, wherever and whenever it is worked on."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class _Slots:
    """The photographs in work, one row each; −1 marks an empty slot, which is computed and changes nothing."""

    def __init__(
        self, batch: int, start: Tensor, images: Tensor, seen: Callable[[Tensor], list[Tensor]]
    ) -> None:
        self.seen = seen
        self.photo = torch.full((batch,), -1)
        self.step = torch.zeros(batch, dtype=torch.long)
        self.image = torch.zeros_like(images[:1]).repeat(batch, 1, 1, 1)
        self.features = [part.repeat(batch, 1, 1, 1) for part in seen(self.image[:1])]
        self.anchor = start[:1].flatten(1).repeat(batch, 1)
        self.rng = [torch.Generator() for _ in range(batch)]

    @property
    def busy(self) -> Tensor:
        return self.photo >= 0

    def put(self, slot: int, photo: int, start: Tensor, image: Tensor) -> None:
        self.photo[slot], self.step[slot] = photo, 0
        self.anchor[slot] = start.flatten()
        self.image[slot] = image
        for kept, part in zip(self.features, self.seen(image[None])):  # alone, so that company changes no bit
            kept[slot] = part[0]


class _Objective:
    """The loss of every slot, and what it takes to compute it."""

    def __init__(
        self, generator: Generator, schedule: Schedule, perceptual: Perceptual, mask: Tensor | None
    ) -> None:
        self.generator, self.schedule = generator, schedule
        self.perceptual: Any = perceptual if hasattr(perceptual, "between") else _Whole(perceptual)
        self.num_ws, self.w_dim = generator.config.num_ws, generator.config.w_dim
        self.mask, self.small_mask = mask, None if mask is None else shrink(mask)
        self.scale = latent_scale(generator)[1]
        self.layers = 1 if schedule.space == "w" else self.num_ws
        self.maps = NoiseMaps(generator)
        self.noises = self.maps.total if schedule.noise else 0
        self.values = self.layers * self.w_dim + self.noises

    @torch.no_grad()
    def seen(self, images: Tensor) -> list[Tensor]:
        """What the perceptual distance compares of photographs [n, 3, h, w]."""
        parts: list[Tensor] = self.perceptual.features(shrink(images))
        return parts

    def styles(self, value: Tensor) -> Tensor:
        """W+ [n, num_ws, w_dim] of parameters [n, values]."""
        w = value[:, : self.layers * self.w_dim].view(-1, self.layers, self.w_dim)
        return w.expand(-1, self.num_ws, -1)

    def __call__(self, slots: _Slots, value: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and LPIPS [batch] at the parameters."""
        plan, w = self.schedule, self.styles(value)
        spread = plan.exploration_at(slots.step.to(value) / plan.steps) * (self.scale * math.sqrt(self.w_dim))
        if plan.exploration:
            draws = [torch.randn(self.layers, self.w_dim, generator=rng) for rng in slots.rng]
            w = w + spread[:, None, None] * torch.stack(draws).to(w)
        noise = value[:, value.shape[1] - self.noises :]
        drawn = self.maps.draw(w, noise) if plan.noise else self.generator.synthesis(w)
        looks = self.perceptual.features(shrink(drawn))
        distance = self.perceptual.between(looks, slots.features, self.small_mask)
        loss = plan.lpips * distance
        if plan.pixel:
            loss = loss + plan.pixel * squared_error(drawn, slots.image, self.mask)
        if plan.penalty:
            away = (value[:, : slots.anchor.shape[1]] - slots.anchor).square().mean(dim=1)
            loss = loss + plan.penalty * away / self.scale**2
        if plan.noise:
            loss = loss + plan.noise_weight * self.maps.correlation(noise)
        return loss, distance.detach()


def project(
    generator: Generator,
    images: Tensor,
    start: Tensor,
    names: Sequence[str],
    schedule: Schedule,
    *,
    batch: int = 16,
    seed: int = 0,
    mask: Tensor | None = None,
    perceptual: Perceptual | None = None,
    refill: bool = True,
    finished: Callable[[int], None] | None = None,
) -> Projection:
    """Fit latents to images.

    Parameters
    ----------
    images : Tensor [n, 3, resolution, resolution] in [−1, 1].
    start : Tensor [n, num_ws, w_dim], also the anchor of the penalty.
    names : n photo ids; with `seed` they key each photograph's random numbers.
    batch : slots; a fixed shape, whatever n.
    mask : Tensor [1, 1, resolution, resolution] ≥ 0, where pixels count.
    perceptual : distance of images; LPIPS-AlexNet by default.
    refill : give a finished photograph's slot to the next one at once; else the batch ends together.
    finished : called with how many more photographs are done.

    Returns
    -------
    Projection
    """
    perceptual = perceptual or LPIPS().to(images.device, images.dtype)
    objective = _Objective(generator, schedule, perceptual, mask)
    if schedule.space == "w":
        start = start.mean(dim=1, keepdim=True)
    slots = _Slots(batch, start, images, objective.seen)
    kind = LBFGS if schedule.optimizer == "lbfgs" else Adam
    optimizer: Adam | LBFGS = kind(start.new_zeros(batch, objective.values))
    result = start.new_zeros(len(images), objective.values)
    steps = torch.zeros(len(images), dtype=torch.long)
    waiting = iter(range(len(images)))

    def fill(slot: int) -> None:
        if (photo := next(waiting, -1)) >= 0:
            slots.rng[slot] = rng_of(seed, names[photo])
            noise = torch.randn(objective.noises, generator=slots.rng[slot]).to(start)
            slots.put(slot, photo, start[photo], images[photo])
            optimizer.reset(slot, torch.cat([start[photo].flatten(), noise]))

    for slot in range(batch):
        fill(slot)
    unit = 1.0 if schedule.absolute else objective.scale
    target = -math.inf if schedule.target is None else schedule.target
    while bool(slots.busy.any()):
        value = optimizer.trial.detach().requires_grad_(True)
        loss, distance = objective(slots, value)
        (gradient,) = torch.autograd.grad(loss.sum(), value)
        if isinstance(optimizer, LBFGS):
            close = (optimizer.advance(gradient, loss.detach()) & (distance <= target)).cpu()
        else:
            close = (distance <= target).cpu()
            rate = schedule.rate_at(slots.step.to(value) / schedule.steps) * unit
            optimizer.advance(gradient, rate, slots.step + 1, slots.busy & ~close)
            if schedule.noise:
                optimizer.trial = _normalised(optimizer.trial, objective)
        slots.step += slots.busy & ~close
        ended = slots.busy & (close | (slots.step >= schedule.steps))
        for slot in torch.nonzero(ended).flatten().tolist():
            photo = int(slots.photo[slot])
            result[photo], steps[photo] = optimizer.best[slot], slots.step[slot]
            slots.photo[slot] = -1
        empty = [] if not refill and bool(slots.busy.any()) else torch.nonzero(~slots.busy).flatten().tolist()
        for slot in empty:
            fill(slot)
        if finished is not None and bool(ended.any()):
            finished(int(ended.sum()))
    noise = result[:, -objective.noises :] if schedule.noise else None
    return Projection(objective.styles(result).contiguous(), steps, noise)


def exchangeable(
    generator: Generator, perceptual: Perceptual, batch: int, encoder: Encoder | None = None
) -> bool:
    """Whether a photograph's numbers are the same, in every bit, in whichever slot of the batch it is.

    Not always: a batch of 5 may be computed as 4 and 1, or divided among threads, and some rows meet another kernel.
    Found out by trying: pictures, codes and gradients of a batch, and of the same batch turned by one place.
    """
    if batch == 1:
        return True
    config, rng = generator.config, torch.Generator().manual_seed(0)
    w = torch.randn(batch, config.num_ws, config.w_dim, generator=rng).to(generator.mapping.w_avg)
    found = []
    for styles in (w, w.roll(1, 0)):
        styles = styles.clone().requires_grad_(True)
        drawn = generator.synthesis(styles)
        small = shrink(drawn)
        loss = perceptual(small, torch.zeros_like(small)) + drawn.square().mean(dim=(1, 2, 3))
        (gradient,) = torch.autograd.grad(loss.sum(), styles)
        with torch.no_grad():
            codes = [] if encoder is None else [encoder(drawn)]
        found.append((drawn.detach(), loss.detach(), gradient, *codes))
    return all(torch.equal(a.roll(1, 0), b) for a, b in zip(*found))


def _normalised(value: Tensor, objective: _Objective) -> Tensor:
    w, noise = value[:, : -objective.noises], value[:, -objective.noises :]
    return torch.cat([w, objective.maps.normalise(noise)], dim=1)


def shrink(images: Tensor) -> Tensor:
    """Images at no more than the size at which LPIPS is computed."""
    factor = images.shape[-1] // LPIPS_SIZE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def squared_error(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error [n] of images, weighted by ``mask`` [1, 1, h, w]."""
    error = (a - b).square().mean(dim=1)
    if mask is None:
        return error.mean(dim=(1, 2))
    return (error * mask[:, 0]).sum(dim=(1, 2)) / mask.sum(dim=(1, 2, 3))
