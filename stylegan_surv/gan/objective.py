"""What a micro-batch costs: the terms that generator and encoder minimise, and those of the critics.

Three parts, each optional (see `recipe.Recipe`):

- *reconstruction*: encoder and generator as an autoencoder. The codes and the mapping's output are drawn together by
  sliced Wasserstein distances, so that samples and reconstructions share one latent space.
- *adversarial*: StyleGAN2's discriminator, with adaptive augmentation, lazy R1 and path-length regularisation.
- *features*: small critics on fixed AlexNet features.

Nothing here has a state that outlives a step; random numbers come from torch's global stream, which the trainer seeds
for every micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_surv.gan import losses
from stylegan_surv.gan.augment import augment
from stylegan_surv.gan.feature_critic import FeatureCritic
from stylegan_surv.gan.networks import Discriminator, Encoder, Generator, Mapping, unit_rms
from stylegan_surv.gan.perceptual import LPIPS
from stylegan_surv.gan.precision import HALF
from stylegan_surv.gan.recipe import Recipe

MAPPED = 256  # z's mapped per micro-batch for matching them to the codes
MAX_SHIFT = 3  # pixels; LPIPS is read on a grid of stride 4, and blind to patterns of that period


class Term(NamedTuple):
    """A scalar and its weight in the sum; weight 0 is for watching only."""

    weight: float
    value: Tensor


Terms = dict[str, Term]


def weighted_sum(terms: Terms) -> Tensor:
    """Σ weight · value over the terms that have a weight."""
    return torch.stack([term.weight * term.value for term in terms.values() if term.weight]).sum()


def mean_terms(terms: list[Terms]) -> dict[str, Tensor]:
    """The detached mean of every term over micro-batches."""
    return {k: torch.stack([t[k].value.detach() for t in terms]).mean() for k in terms[0]}


class Gaussian(NamedTuple):
    """N(mean, root²) fitted to codes; z → mean + root·z is the optimal transport from N(0, 1) (Peyré & Cuturi 2.31)."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> Gaussian:
        """Moments of codes [n, w_dim]; ``root`` is the symmetric square root of their covariance."""
        values, vectors = torch.linalg.eigh(codes.T.cov())
        return cls(codes.mean(dim=0), (vectors * values.clamp_min(0).sqrt()) @ vectors.T)

    def transport(self, z: Tensor) -> Tensor:
        """The code [n, w_dim] that belongs to z [n, w_dim], scaled as the mapping scales it."""
        return self.mean + unit_rms(z) @ self.root


def fit_mapping(mapping: Mapping, codes: Tensor, steps: int, rate: float = 2.0, batch: int = 512) -> float:
    """Regress a mapping on the optimal transport to the codes' Gaussian; the mean squared error that is left.

    A few seconds of this replace hours in which a mapping follows codes by its own gradients; needs z_dim = w_dim.
    """
    gaussian, adam = Gaussian.of(codes), torch.optim.Adam(mapping.parameters(), betas=(0.9, 0.99))
    error = torch.zeros(())
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        z = torch.randn(batch, mapping.z_dim, device=codes.device, dtype=codes.dtype)
        error = (mapping(z)[:, 0] - gaussian.transport(z)).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
    mapping.zero_grad()
    with torch.no_grad():
        mapping.w_avg.copy_(gaussian.mean)
    return float(error.detach())


@dataclass(frozen=True)
class Memory:
    """What earlier steps left: ``bank`` [n, w_dim] of codes with their Gaussian, path length, ADA's p, step number."""

    bank: Tensor
    gaussian: Gaussian | None
    path_mean: Tensor
    p: float
    step: int


@dataclass(frozen=True)
class Players:
    """The networks of a run; those that its recipe does not use are None."""

    G: Generator
    E: Encoder | None
    D: Discriminator | None
    C: FeatureCritic | None
    lpips: LPIPS

    def critic_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of both critics."""
        return [p for net in (self.D, self.C) if net is not None for p in net.parameters() if p.requires_grad]


class Objective:
    """Computes the terms of one micro-batch after another.

    Parameters
    ----------
    recipe, players : settings and networks.
    dtype : torch.float32, or float64 for exact comparisons.
    """

    def __init__(self, recipe: Recipe, players: Players, dtype: torch.dtype) -> None:
        self.recipe, self.players, self.dtype = recipe, players, dtype
        self.device = next(players.G.parameters()).device

    def backward(self, real: Tensor, memory: Memory, share: float) -> tuple[Terms, Tensor]:
        """Add ``share`` times the gradients of all networks for a micro-batch of real images.

        Returns
        -------
        terms : every term of G, E and the critics.
        codes : Tensor [n, w_dim], detached; empty where there is no encoder.
        """
        critics = self._turns(memory.step)
        terms, fakes, codes = self._generator_terms(real, memory, self.recipe.samples if critics else 0)
        if critics:
            with _fixed(self.players.critic_parameters()):
                terms |= self._fool(fakes, memory, critics)
        terms |= self._path_terms(memory)
        (weighted_sum(terms) * share).backward()
        if critics:
            answers = self._critic_terms(real, fakes.detach(), memory, critics)
            (weighted_sum(answers) * share).backward()
            terms |= answers
        return terms, codes

    def _turns(self, step: int) -> set[str]:
        """The critics whose turn this step is."""
        a, f = self.recipe.adversarial, self.recipe.features
        found = {"D"} if a and self.players.D is not None and step % a.every == 0 else set()
        return found | ({"C"} if f and self.players.C is not None and step % f.every == 0 else set())

    @contextmanager
    def _precision(self) -> Iterator[None]:
        half = HALF.get(self.recipe.precision)
        with torch.autocast(self.device.type, half, enabled=half is not None):
            yield

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    # ------------------------------------------------------------------------------- generator and encoder

    def _generator_terms(self, real: Tensor, memory: Memory, samples: int) -> tuple[Terms, Tensor, Tensor]:
        """Terms that need no critic; the images for the critics (half reconstructions, half samples); the codes."""
        G, E, c = self.players.G, self.players.E, self.recipe.reconstruction
        z = self._normal(MAPPED, G.config.z_dim)
        mapped = G.mapping(z)
        styles = self._mix_styles(mapped)[:samples]
        if E is None or c is None:
            with self._precision():
                return {}, G.synthesis(styles, self.recipe.noise_mode), mapped.new_zeros(0, G.config.w_dim)
        with self._precision():
            w, offsets = (t.to(self.dtype) for t in E.split(real))
            keep = torch.rand(len(w), 1, 1, device=self.device) >= c.drop_offsets
            images = G.synthesis(
                torch.cat([w.unsqueeze(1) + offsets * keep.to(w), styles]), self.recipe.noise_mode
            )
        drawn = images[: len(real)]
        terms = {
            "pixel": Term(c.pixel, F.smooth_l1_loss(drawn, real, beta=0.1)),
            "lpips": Term(c.lpips, self._perceptual(drawn, real)),
            "offsets": Term(c.offsets, offsets.square().mean()),
        }
        terms |= self._matching(w, z, mapped[:, 0], memory)
        return terms, torch.cat([drawn[:samples], images[len(real) :]]), w.detach()

    def _perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        dx, dy = (int(v) for v in torch.randint(0, MAX_SHIFT + 1, (2,)))
        with self._precision():
            distance: Tensor = self.players.lpips(*(F.pad(x, (dx, 0, dy, 0), mode="reflect") for x in (a, b)))
        return distance.to(self.dtype).mean()

    def _matching(self, w: Tensor, z: Tensor, mapped: Tensor, memory: Memory) -> Terms:
        """Codes ~ N(0, 1) and mapping(z) ~ codes: sliced Wasserstein distances, and the codes' own Gaussian."""
        c = self.recipe.reconstruction
        assert c is not None  # called where there is a reconstruction part
        codes = torch.cat([w, memory.bank])
        # the gradient reaches the new codes only: undo their small share, and the weight means the same at any bank
        weight = c.codes_to_normal * len(codes) / len(w)
        normal = losses.sliced_wasserstein(codes, torch.randn_like(codes), c.projections)
        terms = {"codes_to_normal": Term(weight, normal)}
        if len(memory.bank) >= len(mapped):
            match = losses.sliced_wasserstein(mapped, memory.bank, c.projections)
            terms["mapping_to_codes"] = Term(c.mapping_to_codes, match)
        if memory.gaussian is not None:
            gap = (mapped - memory.gaussian.transport(z)).square().mean()
            terms["mapping_to_gaussian"] = Term(c.mapping_to_gaussian, gap)
        return terms

    def _mix_styles(self, mapped: Tensor) -> Tensor:
        """With probability ``style_mixing``, styles from a random layer on come from another z."""
        a = self.recipe.adversarial
        if not a or not a.style_mixing:
            return mapped
        n, num_ws, _ = mapped.shape
        cut = torch.randint(1, num_ws, (n, 1, 1), device=self.device)
        cut = torch.where(torch.rand(n, 1, 1, device=self.device) < a.style_mixing, cut, num_ws)
        layer = torch.arange(num_ws, device=self.device)[None, :, None]
        return torch.where(layer < cut, mapped, mapped.roll(1, dims=0))

    def _path_terms(self, memory: Memory) -> Terms:
        a, G = self.recipe.adversarial, self.players.G
        if not a or not a.path_weight or memory.step % a.path_every:
            return {}
        w = G.mapping(self._normal(max(self.recipe.samples // 2, 1), G.config.z_dim))
        lengths = losses.path_lengths(G.synthesis(w, self.recipe.noise_mode), w)
        mean = memory.path_mean.lerp(lengths.detach().mean(), a.path_decay)
        return {
            "path": Term(a.path_weight * a.path_every, (lengths - mean).square().mean()),
            "path_length": Term(0.0, lengths.mean()),
        }

    # --------------------------------------------------------------------------------------------- critics

    def _shown(self, images: Tensor, p: float) -> Tensor:
        a = self.recipe.adversarial
        return augment(images, a.augment, p) if a else images

    def _fool(self, fakes: Tensor, memory: Memory, critics: set[str]) -> Terms:
        """What G (and E) pay for being found out."""
        r, D, C, terms = self.recipe, self.players.D, self.players.C, Terms()
        shown = self._shown(fakes, memory.p)
        with self._precision():
            if "D" in critics and D is not None and r.adversarial:
                terms["fool"] = Term(r.adversarial.weight, losses.real_loss(D(shown)).mean())
            if "C" in critics and C is not None and r.features:
                levels = [-logits.to(self.dtype).mean() for logits in C(shown, self.players.lpips)]
                terms["fool_features"] = Term(r.features.weight, torch.stack(levels).mean())
        return terms

    def _critic_terms(self, real: Tensor, fakes: Tensor, memory: Memory, critics: set[str]) -> Terms:
        r, D, C, terms = self.recipe, self.players.D, self.players.C, Terms()
        shown, seen = self._shown(fakes, memory.p), self._shown(real, memory.p)
        if "D" in critics and D is not None and r.adversarial:
            with self._precision():
                of_fakes, of_real = D(shown), D(seen)
            terms["critic_fake"] = Term(1.0, losses.fake_loss(of_fakes).mean())
            terms["critic_real"] = Term(1.0, losses.real_loss(of_real).mean())
            terms["real_sign"] = Term(0.0, of_real.detach().to(self.dtype).sign().mean())
            if r.adversarial.r1_gamma and memory.step // r.adversarial.every % r.adversarial.r1_every == 0:
                weight = 0.5 * r.adversarial.r1_gamma * r.adversarial.r1_every
                terms["r1"] = Term(weight, losses.r1_penalty(D, seen).mean())  # in full precision
        if "C" in critics and C is not None:
            with self._precision():
                pairs = zip(C(shown, self.players.lpips), C(seen, self.players.lpips))
                costs = [losses.hinge_fake(f).mean() + losses.hinge_real(t).mean() for f, t in pairs]
            terms["critic_features"] = Term(1.0, torch.stack(costs).mean())
        return terms


@contextmanager
def _fixed(parameters: list[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters meanwhile."""
    for p in parameters:
        p.requires_grad_(False)
    yield
    for p in parameters:
        p.requires_grad_(True)
