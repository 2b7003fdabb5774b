"""What a micro-batch costs: the terms that generator and encoder minimise, and those of the critics.

Four parts, each optional (see `recipe.Recipe`):

- *reconstruction*: encoder and generator as an autoencoder. The codes and the mapping's output are drawn together by
  sliced Wasserstein distances, so that samples and reconstructions share one latent space.
- *adversarial*: StyleGAN2's discriminator, with adaptive augmentation, lazy R1 and path-length regularisation.
- *features*: small critics on fixed AlexNet features.
- *textures*: sliced Wasserstein distances of local features, samples against photographs; no critic.

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

from stylegan_surv.gan.networks import (
    LPIPS,
    Discriminator,
    Encoder,
    FeatureCritic,
    Generator,
)
from stylegan_surv.gan.training import losses
from stylegan_surv.gan.training.augment import augment
from stylegan_surv.gan.training.gaussian import Gaussian
from stylegan_surv.gan.training.precision import HALF
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.textures import texture_distance

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


@dataclass(frozen=True)
class Memory:
    """What earlier steps left: ``bank`` [n, w_dim] of codes, mean path length, ADA's p, step number.

    ``p`` is a number, or a scalar tensor where its value may change under a recorded computation.
    """

    bank: Tensor
    path_mean: Tensor
    p: float | Tensor
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
    recipe : Recipe
        Settings.
    players : Players
        The networks.
    dtype : torch.dtype
        ``torch.float32``, or float64 for exact comparisons.
    """

    def __init__(self, recipe: Recipe, players: Players, dtype: torch.dtype) -> None:
        self.recipe, self.players, self.dtype = recipe, players, dtype
        self.device = next(players.G.parameters()).device

    def backward(self, real: Tensor, memory: Memory, share: float) -> tuple[Terms, Tensor]:
        """Add ``share`` times the gradients of all networks for a micro-batch of real images, as read.

        Returns
        -------
        terms : dict of str to Term
            Every term of G, E and the critics, detached.
        codes : Tensor, shape (n, w_dim)
            Detached; empty where there is no encoder.
        """
        if self.recipe.light_augment is not None:
            real = augment(real, self.recipe.light_augment)
        real = real.contiguous(memory_format=torch.channels_last)
        critics = self._turns(memory.step)
        wanted = self.recipe.samples if critics or self.recipe.textures else 0
        terms, fakes, codes = self._generator_terms(real, memory, wanted)
        if textures := self.recipe.textures:
            terms["textures"] = Term(
                textures.weight, self._textures(fakes[-wanted:], real, textures.projections)
            )
        if critics:
            with _fixed(self.players.critic_parameters()):
                terms |= self._fool(fakes, memory, critics)
        terms |= self._path_terms(memory)
        (weighted_sum(terms) * share).backward()
        if critics:
            answers = self._critic_terms(real, fakes.detach(), memory, critics)
            (weighted_sum(answers) * share).backward()
            terms |= answers
        return {k: Term(weight, value.detach()) for k, (weight, value) in terms.items()}, codes

    def _gaussian(self, bank: Tensor) -> Gaussian | None:
        """The bank's Gaussian, where the recipe needs it and there are codes enough for a covariance."""
        c, shape = self.recipe.reconstruction, self.players.G.config
        wanted = c is not None and (c.mapping_to_gaussian or c.code_noise) and shape.z_dim == shape.w_dim
        return Gaussian.of(bank) if wanted and len(bank) > 2 * shape.w_dim else None

    def kind(self, step: int) -> tuple[bool, ...]:
        """What a step computes, as far as its number decides: discriminator, feature critic, R1, path lengths."""
        turns = self._turns(step)
        return "D" in turns, "C" in turns, "D" in turns and self._r1_due(step), self._path_due(step)

    def _turns(self, step: int) -> set[str]:
        """The critics whose turn this step is."""
        a, f = self.recipe.adversarial, self.recipe.features
        found = {"D"} if a and self.players.D is not None and step % a.every == 0 else set()
        return found | ({"C"} if f and self.players.C is not None and step % f.every == 0 else set())

    def _r1_due(self, step: int) -> bool:
        a = self.recipe.adversarial
        return a is not None and a.r1_gamma > 0 and step // a.every % a.r1_every == 0

    def _path_due(self, step: int) -> bool:
        a = self.recipe.adversarial
        return a is not None and a.path_weight > 0 and step % a.path_every == 0

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
        gaussian = self._gaussian(memory.bank)
        with self._precision():
            w, offsets = (t.to(self.dtype) for t in E.split(real))
            keep = torch.rand(len(w), 1, 1, device=self.device) >= c.drop_offsets
            code = self._blurred(w, gaussian, c.code_noise).unsqueeze(1)
            images = G.synthesis(torch.cat([code + offsets * keep.to(w), styles]), self.recipe.noise_mode)
        drawn = images[: len(real)]
        terms = {
            "pixel": Term(c.pixel, F.smooth_l1_loss(drawn, real, beta=0.1)),
            "lpips": Term(c.lpips, self._perceptual(drawn, real)),
            "offsets": Term(c.offsets, offsets.square().mean()),
        }
        terms |= self._matching(w, z, mapped[:, 0], memory.bank, gaussian)
        return terms, torch.cat([drawn[:samples], images[len(real) :]]), w.detach()

    def _blurred(self, w: Tensor, gaussian: Gaussian | None, noise: float) -> Tensor:
        """Codes moved a random way towards draws from their Gaussian, so that the space between them is drawn too.

        Mean and covariance stay what they are, whatever the scale of the codes: an encoder cannot escape the noise
        by growing them, as it could from noise of a fixed size.
        """
        if gaussian is None or not noise:
            return w
        share = noise * torch.rand(len(w), 1, device=self.device, dtype=self.dtype)
        draws = gaussian.transport(torch.randn_like(w))
        return (
            gaussian.mean + (1 - share).sqrt() * (w - gaussian.mean) + share.sqrt() * (draws - gaussian.mean)
        )

    def _perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        shift = torch.randint(0, MAX_SHIFT + 1, (2,), device=self.device)
        with self._precision():
            distance: Tensor = self.players.lpips(shifted(a, shift), shifted(b, shift))
        return distance.to(self.dtype).mean()

    def _textures(self, samples: Tensor, real: Tensor, projections: int) -> Tensor:
        shift = torch.randint(0, MAX_SHIFT + 1, (2,), device=self.device)
        with self._precision():
            found = texture_distance(
                shifted(samples, shift), shifted(real, shift), self.players.lpips, projections
            )
        return found.to(self.dtype)

    def _matching(
        self, w: Tensor, z: Tensor, mapped: Tensor, bank: Tensor, gaussian: Gaussian | None
    ) -> Terms:
        """Codes ~ N(0, 1) and mapping(z) ~ codes: sliced Wasserstein distances, and the codes' own Gaussian."""
        c = self.recipe.reconstruction
        assert c is not None  # called where there is a reconstruction part
        codes, terms = torch.cat([w, bank]), Terms()
        if c.codes_to_normal:
            # the gradient reaches the new codes only: undo their small share, and the weight means the same at any bank
            weight = c.codes_to_normal * len(codes) / len(w)
            normal = losses.sliced_wasserstein(codes, torch.randn_like(codes), c.projections)
            terms["codes_to_normal"] = Term(weight, normal)
        if c.mapping_to_codes and len(bank) >= len(mapped):
            match = losses.sliced_wasserstein(mapped, bank, c.projections)
            terms["mapping_to_codes"] = Term(c.mapping_to_codes, match)
        if gaussian is not None:
            gap = (mapped - gaussian.transport(z)).square().mean()
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
        if a is None or not self._path_due(memory.step):
            return {}
        w = G.mapping(self._normal(max(self.recipe.samples // 2, 1), G.config.z_dim))
        w = w if w.requires_grad else w.detach().requires_grad_()  # a frozen mapping
        lengths = losses.path_lengths(G.synthesis(w, self.recipe.noise_mode), w)
        mean = memory.path_mean.lerp(lengths.detach().mean(), a.path_decay)
        return {
            "path": Term(a.path_weight * a.path_every, (lengths - mean).square().mean()),
            "path_length": Term(0.0, lengths.mean()),
        }

    # --------------------------------------------------------------------------------------------- critics

    def _shown(self, images: Tensor, p: float | Tensor) -> Tensor:
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
            if self._r1_due(memory.step):
                weight = 0.5 * r.adversarial.r1_gamma * r.adversarial.r1_every
                terms["r1"] = Term(weight, losses.r1_penalty(D, seen).mean())  # in full precision
        if "C" in critics and C is not None:
            with self._precision():
                pairs = zip(C(shown, self.players.lpips), C(seen, self.players.lpips))
                costs = [losses.hinge_fake(f).mean() + losses.hinge_real(t).mean() for f, t in pairs]
            terms["critic_features"] = Term(1.0, torch.stack(costs).mean())
        return terms


def shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Images [n, 3, h, w] moved right and down by ``shift`` [2], 0 … MAX_SHIFT pixels; the edge is mirrored.

    The shift stays on its device, so that it can differ each time that a recorded computation is run.
    """
    for axis, pixels in zip((3, 2), shift):
        at = torch.arange(images.shape[axis], device=images.device) - pixels
        images = images.index_select(axis, at.abs())
    return images


@contextmanager
def _fixed(parameters: list[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters meanwhile."""
    for p in parameters:
        p.requires_grad_(False)
    yield
    for p in parameters:
        p.requires_grad_(True)
