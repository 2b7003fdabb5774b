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
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.gan import LPIPS, Encoder, Generator
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.optimizers import LBFGS, Adam
from stylegan_surv.inversion.settings import BATCH, Schedule

LPIPS_SIZE = 256  # perceptual features are computed at this size at most (Karras et al. 2020, appendix D)
W_SAMPLES = 10_000  # for the mean and the scale of w (the same appendix)


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


@dataclass(frozen=True, eq=False)
class Targets:
    """Photographs to be fitted.

    Attributes
    ----------
    images : Tensor, shape (n, 3, resolution, resolution)
        In [−1, 1].
    start : Tensor, shape (n, num_ws, w_dim)
        Where each begins, also the anchor of the penalty.
    names : sequence of str, length n
        Photo ids; with the seed they key each photograph's random numbers.
    """

    images: Tensor
    start: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Projection:
    """What was fitted.

    Attributes
    ----------
    w_plus : Tensor, shape (n, num_ws, w_dim)
    steps : Tensor of int, shape (n,)
        Steps that each photograph took.
    noise : Tensor, shape (n, total), optional
        Noise maps, where they were optimised.
    """

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
        self.free = min(generator.survival_ws, self.layers)
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
        if self.free < self.layers:  # layers that repeat w stay where they start
            w = torch.cat([w[:, : self.free], w[:, self.free :].detach()], dim=1)
        return w.expand(-1, self.num_ws, -1)

    def normalised(self, value: Tensor) -> Tensor:
        """Parameters whose noise maps have mean 0 and variance 1."""
        w, noise = value[:, : -self.noises], value[:, -self.noises :]
        return torch.cat([w, self.maps.normalise(noise)], dim=1)

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
    targets: Targets,
    schedule: Schedule,
    *,
    batch: int = BATCH,
    seed: int = 0,
    mask: Tensor | None = None,
    perceptual: Perceptual | None = None,
    refill: bool = True,
    advanced: Callable[[int, int], None] | None = None,
) -> Projection:
    """Fit latents to images.

    Parameters
    ----------
    generator : Generator
    targets : Targets
    schedule : Schedule
    batch : int
        Slots; a fixed shape, whatever the number of photographs.
    seed : int
        Keys each photograph's random numbers, together with its name.
    mask : Tensor, shape (1, 1, resolution, resolution), optional
        ≥ 0, where pixels count.
    perceptual : callable, optional
        Distance of images; LPIPS on AlexNet by default.
    refill : bool
        Give a finished photograph's slot to the next one at once; else the batch ends together.
    advanced : callable, optional
        Called after every step with (photographs that ended, steps of the schedule that are done or spared).

    Returns
    -------
    Projection
    """
    device, dtype = targets.images.device, targets.images.dtype
    objective = _Objective(generator, schedule, perceptual or LPIPS().to(device, dtype), mask)
    work = _Work(objective, targets, batch, seed)
    while bool(work.slots.busy.any()):
        before = int(work.slots.step[work.slots.busy].sum())
        ended = work.advance()
        if advanced is not None:
            spared = schedule.steps - work.slots.step[ended]
            advanced(
                int(ended.sum()), int(work.slots.step[work.slots.busy | ended].sum() + spared.sum()) - before
            )
        if refill or not bool(work.slots.busy.any()):
            for slot in torch.nonzero(~work.slots.busy).flatten().tolist():
                work.fill(slot)
    noise = work.result[:, -objective.noises :] if schedule.noise else None
    return Projection(objective.styles(work.result).contiguous(), work.steps, noise)


class _Work:
    """Slots, their optimiser, and what has come out of them."""

    def __init__(self, objective: _Objective, targets: Targets, batch: int, seed: int) -> None:
        start = targets.start
        if objective.schedule.space == "w":
            start = start.mean(dim=1, keepdim=True)
        self.objective, self.targets, self.start, self.seed = objective, targets, start, seed
        self.slots = _Slots(batch, start, targets.images, objective.seen)
        kind = LBFGS if objective.schedule.optimizer == "lbfgs" else Adam
        self.optimizer: Adam | LBFGS = kind(start.new_zeros(batch, objective.values))
        self.result = start.new_zeros(len(targets), objective.values)
        self.steps = torch.zeros(len(targets), dtype=torch.long)
        self.waiting = iter(range(len(targets)))
        for slot in range(batch):
            self.fill(slot)

    def fill(self, slot: int) -> None:
        """Give a slot the next photograph, if there is one."""
        if (photo := next(self.waiting, -1)) >= 0:
            self.slots.rng[slot] = rng_of(self.seed, self.targets.names[photo])
            noise = torch.randn(self.objective.noises, generator=self.slots.rng[slot]).to(self.start)
            self.slots.put(slot, photo, self.start[photo], self.targets.images[photo])
            self.optimizer.reset(slot, torch.cat([self.start[photo].flatten(), noise]))

    def advance(self) -> Tensor:
        """One step of every busy slot; which have ended [batch]: their results are kept and their slots empty."""
        slots, schedule, optimizer = self.slots, self.objective.schedule, self.optimizer
        target = -math.inf if schedule.target is None else schedule.target
        value = optimizer.trial.detach().requires_grad_(True)
        loss, distance = self.objective(slots, value)
        (gradient,) = torch.autograd.grad(loss.sum(), value)
        if isinstance(optimizer, LBFGS):
            close = (optimizer.advance(gradient, loss.detach()) & (distance <= target)).cpu()
        else:
            close = (distance <= target).cpu()
            unit = 1.0 if schedule.absolute else self.objective.scale
            rate = schedule.rate_at(slots.step.to(value) / schedule.steps) * unit
            optimizer.advance(gradient, rate, slots.step + 1, slots.busy & ~close)
            if schedule.noise:
                optimizer.trial = self.objective.normalised(optimizer.trial)
        slots.step += slots.busy & ~close
        ended = slots.busy & (close | (slots.step >= schedule.steps))
        for slot in torch.nonzero(ended).flatten().tolist():
            photo = int(slots.photo[slot])
            self.result[photo], self.steps[photo] = optimizer.best[slot], slots.step[slot]
            slots.photo[slot] = -1
        return ended


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
