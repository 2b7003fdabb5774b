"""Before the first step of a run with a given encoder: generator, mapping and encoder are brought together."""

from __future__ import annotations

import torch
from torch import Tensor

from stylegan_surv.gan.data import ImageSet, batch_of
from stylegan_surv.gan.training.fold import LinearOffsets
from stylegan_surv.gan.training.gaussian import fit_mapping
from stylegan_surv.gan.training.streams import Streams
from stylegan_surv.gan.training.trainer import Trainer

CHUNK = 64  # images at a time, at 64 px


@torch.no_grad()
def encode(trainer: Trainer, images: ImageSet) -> tuple[Tensor, Tensor]:
    """The averaged encoder's w [n, w_dim] and offsets of images as they are and mirrored."""
    assert trainer.E_ema is not None
    codes = []
    many = batch_of(CHUNK, trainer.recipe.resolution)
    for at in range(0, len(images), many):
        real = images.images(slice(at, at + many)).to(device=trainer.device, dtype=trainer.dtype)
        codes += [trainer.E_ema.split(both) for both in (real, real.flip(3))]
    w, offsets = (torch.cat(part) for part in zip(*codes))
    return w, offsets


def fold_offsets(trainer: Trainer) -> float | None:
    """Put what is linear in w of the encoder's offsets into the generator (:mod:`stylegan_surv.gan.training.fold`).

    Returns
    -------
    float or None
        The share of the offsets' mean square that was folded; None where the recipe asks for nothing.
    """
    c, E = trainer.recipe.reconstruction, trainer.players.E
    if c is None or not c.fold_offsets or E is None or trainer.E_ema is None:
        return None
    linear = LinearOffsets.of(*encode(trainer, trainer.data), c.fold_offsets)
    for generator in (trainer.players.G, trainer.G_ema):
        linear.fold(generator)
    for encoder in (E, trainer.E_ema):
        linear.unfold(encoder)
    return linear.explained


def match_mapping(trainer: Trainer) -> float | None:
    """Bring the mapping to where the encoder's codes are, and fill the bank with them.

    Returns
    -------
    float or None
        The mean squared error that is left; None where there is nothing to match, or the mapping is frozen.
    """
    c, G = trainer.recipe.reconstruction, trainer.players.G
    if c is None or not c.fit_mapping or trainer.recipe.freeze_mapping:
        return None
    if trainer.E_ema is None or G.config.z_dim != G.config.w_dim:
        return None
    torch.manual_seed(Streams(trainer.recipe.seed).mapping_fit)
    codes, _ = encode(trainer, trainer.data)
    error = fit_mapping(G.mapping, codes, c.fit_mapping)
    trainer.G_ema.mapping.load_state_dict(G.mapping.state_dict())
    trainer.bank[: len(codes)] = codes[: len(trainer.bank)]
    trainer.banked = min(len(codes), len(trainer.bank))
    return error
