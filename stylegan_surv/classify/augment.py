"""Copies of a chip as another moment might have given it: mirrored, a little shifted, turned, larger, brighter."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT, TURN, GROW, LIGHT = 0.02, 3.0, 0.04, 0.06  # SD: of the side, degrees, log size, log gain


def copies(chip: Tensor, count: int, fill: float, seed: int, index: int) -> Tensor:
    """A chip and its copies.

    Parameters
    ----------
    chip : Tensor, shape (3, side, side)
        RGB in [−1, 1].
    count : int
        How many, ≥ 1: the chip itself, its mirror image, then changed ones.
    fill : float
        Level of what comes in from beyond the edge, in [−1, 1].
    seed, index : int
        The study's seed and the number of the photograph.

    Returns
    -------
    Tensor, shape (count, 3, side, side)
    """
    rng = np.random.default_rng([seed, index, 31])
    made = [chip, chip.flip(2)][:count]
    for _ in range(count - len(made)):
        made.append(_changed(chip.flip(2) if rng.random() < 0.5 else chip, fill, rng))
    return torch.stack(made)


def _changed(chip: Tensor, fill: float, rng: np.random.Generator) -> Tensor:
    angle, size = np.deg2rad(rng.normal(0, TURN)), np.exp(rng.normal(0, GROW))
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    shift = 2 * rng.normal(0, SHIFT, 2)  # the grid runs from −1 to 1
    turn = torch.tensor([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]], dtype=torch.float32)
    grid = F.affine_grid(turn[None], [1, *chip.shape], align_corners=False)
    moved = F.grid_sample((chip - fill)[None], grid, align_corners=False)[0] + fill
    return ((moved + 1) * float(np.exp(rng.normal(0, LIGHT))) - 1).clamp(-1, 1)
