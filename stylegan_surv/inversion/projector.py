"""Batched optimisation in W or W+: every photograph has its own slot, loss, noise, random numbers and end.

Nothing is shared between slots but the arithmetic: the losses are summed, so a slot's gradient is its own, and Adam
works element by element. A slot whose photograph is finished takes the next one. At a fixed batch shape a result
therefore does not depend, in any bit, on which other photographs are in the run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.gan import LPIPS, Generator

LPIPS_SIZE = 256  # perceptual features are computed at this size at most (Karras et al. 2020, appendix D)
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Schedule:
    """How a photograph is optimised.

    Attributes
    ----------
    space : "w" keeps one vector for all layers, "w+" one per layer.
    steps : at most so many Adam steps.
    lr : peak learning rate, in units of the generator's scalar w standard deviation.
    warmup, cooldown : fractions of `steps` for the linear rise and the cosine fall of the learning rate.
    lpips, pixel : weights of LPIPS and of the mean squared error.
    penalty : weight of the squared distance to the start, per element, in units of the w variance: the dial from
        faithful (0) to editable.
    target : LPIPS at which a photograph is finished; None runs all steps.
    exploration : standard deviation of noise on w at the start, as a fraction of w's, gone after 3/4 of the steps.
    """

    space: Literal["w", "w+"] = "w+"
    steps: int = 30
    lr: float = 0.1
    warmup: float = 0.05
    cooldown: float = 0.25
    lpips: float = 1.0
    pixel: float = 1.0
    penalty: float = 0.1
    target: float | None = None
    exploration: float = 0.0

    def rate(self, t: Tensor) -> Tensor:
        """Learning rate at fraction ``t`` of the steps (Karras et al. 2020, appendix D)."""
        fall = (
            (0.5 - 0.5 * torch.cos(math.pi * ((1 - t) / self.cooldown).clamp(max=1))) if self.cooldown else 1
        )
        rise = ((t + 1 / self.steps) / self.warmup).clamp(max=1) if self.warmup else 1
        return self.lr * fall * rise


@dataclass(frozen=True)
class Projection:
    """Latents [n, num_ws, w_dim] of the photographs and the steps that each took."""

    w_plus: Tensor
    steps: Tensor


def latent_scale(generator: Generator, n: int = 2048) -> tuple[Tensor, float]:
    """Mean of w [w_dim] and its scalar standard deviation, from ``n`` fixed draws."""
    rng = torch.Generator().manual_seed(123)
    z = torch.randn(n, generator.config.z_dim, generator=rng)
    with torch.no_grad():
        w = generator.mapping(z.to(generator.mapping.w_avg.device))[:, 0]
    mean = w.mean(dim=0)
    return mean, float((w - mean).square().sum(dim=1).mean().div(w.shape[1]).sqrt())


def rng_of(seed: int, name: str) -> torch.Generator:
    """Random numbers that belong to one photograph, wherever and whenever it is worked on."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class _Slots:
    """The photographs in work, one row each; −1 marks an empty slot, which is computed and changes nothing."""

    def __init__(self, batch: int, start: Tensor, images: Tensor) -> None:
        self.photo = torch.full((batch,), -1)
        self.w = start[:1].repeat(batch, 1, 1)
        self.anchor = self.w.clone()
        self.image = images[:1].repeat(batch, 1, 1, 1)
        self.moment1, self.moment2 = torch.zeros_like(self.w), torch.zeros_like(self.w)
        self.step = torch.zeros(batch, dtype=torch.long)

    @property
    def busy(self) -> Tensor:
        return self.photo >= 0

    def put(self, slot: int, photo: int, start: Tensor, image: Tensor) -> None:
        self.photo[slot], self.step[slot] = photo, 0
        self.w[slot] = self.anchor[slot] = start
        self.image[slot] = image
        self.moment1[slot] = self.moment2[slot] = 0

    def adam(self, gradient: Tensor, rate: Tensor, move: Tensor) -> None:
        """One step (Kingma & Ba 2015) of the slots that ``move``."""
        self.step += move
        t = self.step.clamp(min=1).to(gradient)[:, None, None]
        self.moment1 = BETAS[0] * self.moment1 + (1 - BETAS[0]) * gradient
        self.moment2 = BETAS[1] * self.moment2 + (1 - BETAS[1]) * gradient.square()
        mean, variance = self.moment1 / (1 - BETAS[0] ** t), self.moment2 / (1 - BETAS[1] ** t)
        after = self.w - rate[:, None, None] * mean / (variance.sqrt() + ADAM_EPS)
        self.w = torch.where(move[:, None, None], after, self.w)


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
    perceptual: LPIPS | None = None,
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
    finished : called with the number of photographs that are done.
    """
    num_ws, scale = generator.config.num_ws, latent_scale(generator)[1]
    perceptual = perceptual or LPIPS().to(images.device)
    if schedule.space == "w":
        start = start.mean(dim=1, keepdim=True)
    slots = _Slots(batch, start, images)
    noise = [torch.Generator() for _ in range(batch)]
    result, taken = start.clone(), torch.zeros(len(images), dtype=torch.long)
    waiting = iter(range(len(images)))

    def refill(slot: int) -> None:
        slots.photo[slot] = -1
        if (photo := next(waiting, -1)) >= 0:
            slots.put(slot, photo, start[photo], images[photo])
            noise[slot] = rng_of(seed, names[photo])

    for slot in range(batch):
        refill(slot)
    while bool(slots.busy.any()):
        fraction = slots.step / schedule.steps
        w = slots.w.detach().requires_grad_(True)
        spread = schedule.exploration * scale * (1 - fraction / 0.75).clamp(min=0).square()
        styles = (w + spread[:, None, None] * _draws(noise, w, schedule)).expand(-1, num_ws, -1)
        drawn = generator.synthesis(styles)
        distance = perceptual(_shrink(drawn), _shrink(slots.image), mask)
        loss = schedule.lpips * distance + schedule.pixel * squared_error(drawn, slots.image, mask)
        loss = loss + schedule.penalty * (w - slots.anchor).square().mean(dim=(1, 2)) / scale**2
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        close = distance.detach() <= (-math.inf if schedule.target is None else schedule.target)
        slots.adam(gradient, schedule.rate(fraction) * scale, slots.busy & ~close)
        ended = slots.busy & (close | (slots.step >= schedule.steps))
        for slot in torch.nonzero(ended).flatten().tolist():
            photo = int(slots.photo[slot])
            result[photo], taken[photo] = slots.w[slot], slots.step[slot]
            refill(slot)
        if finished is not None and bool(ended.any()):
            finished(int(ended.sum()))
    return Projection(result.expand(-1, num_ws, -1).clone(), taken)


def _draws(noise: Sequence[torch.Generator], w: Tensor, schedule: Schedule) -> Tensor:
    if not schedule.exploration:
        return torch.zeros((), device=w.device)
    return torch.stack([torch.randn(w.shape[1:], generator=rng) for rng in noise]).to(w)


def _shrink(images: Tensor) -> Tensor:
    factor = images.shape[-1] // LPIPS_SIZE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def squared_error(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error [n] of images, weighted by ``mask`` [1, 1, h, w]."""
    error = (a - b).square().mean(dim=1)
    if mask is None:
        return error.mean(dim=(1, 2))
    return (error * mask[:, 0]).sum(dim=(1, 2)) / mask.sum(dim=(1, 2, 3))
