"""Optimisers whose rows are photographs: each has its own history, and no row touches another.

Their state is in tensors with one row per slot, so that at a fixed batch shape a row's result does not depend, in any
bit, on the other rows. ``trial`` [batch, values] is where the loss is wanted next, ``best`` is the answer so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
MEMORY = 30  # pairs of L-BFGS
DECREASE = 1e-4  # the share of what the slope promises that is enough (Nocedal & Wright 2006, eq. 3.6a)
SHORTEN = (0.1, 0.5)  # limits of the next step's share after a refused one
CURVATURE = 1e-8  # of |s||y|: pairs below it are not kept


class Adam:
    """Adam (Kingma & Ba 2015); every trial is accepted.

    Parameters
    ----------
    like : Tensor, shape (batch, values), of the parameters' shape, type and device.
    """

    def __init__(self, like: Tensor) -> None:
        self.trial, self.moment1, self.moment2 = (torch.zeros_like(like) for _ in range(3))

    @property
    def best(self) -> Tensor:
        return self.trial

    def reset(self, row: int, start: Tensor) -> None:
        """Begin a row anew at ``start`` [values]."""
        self.trial[row] = start
        self.moment1[row] = self.moment2[row] = 0

    def advance(self, gradient: Tensor, rate: Tensor, step: Tensor, move: Tensor) -> None:
        """Step ``step`` [batch], the first being 1, of the rows that ``move`` [batch], at rates ``rate`` [batch]."""
        t = step.to(gradient)[:, None]
        self.moment1 = BETAS[0] * self.moment1 + (1 - BETAS[0]) * gradient
        self.moment2 = BETAS[1] * self.moment2 + (1 - BETAS[1]) * gradient.square()
        mean, variance = self.moment1 / (1 - BETAS[0] ** t), self.moment2 / (1 - BETAS[1] ** t)
        after = self.trial - rate[:, None] * mean / (variance.sqrt() + ADAM_EPS)
        self.trial = torch.where(move.to(after.device)[:, None], after, self.trial)


class LBFGS:
    """Limited-memory BFGS (Liu & Nocedal 1989) with a backtracking line search in every row.

    A trial whose loss fell enough (Armijo) is accepted and a new direction taken from it; after another the step is
    shortened, to the minimum of the parabola through what is known. The initial Hessian is yᵀy / sᵀy of the last pair;
    before there is one, the first step is loss / |gradient|², which would bring a straight slope to zero (Polyak 1969).

    Parameters
    ----------
    like : Tensor, shape (batch, values), of the parameters' shape, type and device.
    """

    def __init__(self, like: Tensor) -> None:
        rows = len(like)
        self.trial, self.best, self.slope, self.way = (torch.zeros_like(like) for _ in range(4))
        self.loss, self.length = like.new_full((rows,), torch.inf), like.new_ones(rows)
        # s and y of each pair
        self.moved, self.bent = (like.new_zeros(MEMORY, *like.shape) for _ in range(2))
        self.weight = like.new_zeros(MEMORY, rows)  # 1 / sᵀy; 0 where there is no pair
        self.pairs = torch.zeros(rows, dtype=torch.long, device=like.device)

    def reset(self, row: int, start: Tensor) -> None:
        """Begin a row anew at ``start`` [values]."""
        self.trial[row] = self.best[row] = start
        self.way[row], self.loss[row], self.weight[:, row] = 0, torch.inf, 0
        self.pairs[row] = 0

    def advance(self, gradient: Tensor, loss: Tensor) -> Tensor:
        """Take or refuse the trials by their ``loss`` [batch], and make new ones; which were taken [batch]."""
        first = self.loss.isinf()
        promised = self.length * _dot(self.slope, self.way)
        taken = loss.isfinite() & (first | (loss <= self.loss + DECREASE * promised))
        self._remember(self.trial - self.best, gradient - self.slope, taken & ~first)
        # the parabola's minimum, as a share of the step
        shorter = -promised / (2 * (loss - self.loss - promised))
        shorter = shorter.nan_to_num(SHORTEN[0]).clamp(*SHORTEN)
        row = taken[:, None]
        self.best = torch.where(row, self.trial, self.best)
        self.slope = torch.where(row, gradient, self.slope)
        self.loss = torch.where(taken, loss, self.loss)
        self.way = torch.where(row, self._direction(), self.way)
        self.length = torch.where(taken, 1.0, self.length * shorter)
        self.trial = self.best + self.length[:, None] * self.way
        return taken

    def _remember(self, moved: Tensor, bent: Tensor, rows: Tensor) -> None:
        """Keep the pairs of the ``rows`` [batch] along which the loss curves upwards."""
        curve = _dot(moved, bent)
        keep = rows & (curve > CURVATURE * (_dot(moved, moved) * _dot(bent, bent)).sqrt())
        row = torch.nonzero(keep).flatten()
        place = self.pairs[row] % MEMORY
        self.moved[place, row], self.bent[place, row] = moved[row], bent[row]
        self.weight[place, row] = 1 / curve[row]
        self.pairs[row] += 1

    def _direction(self) -> Tensor:
        """−H · slope, by the two loops over the pairs (Nocedal & Wright 2006, algorithm 7.4)."""
        row = torch.arange(len(self.pairs), device=self.pairs.device)
        newest_first = [(self.pairs - 1 - k) % MEMORY for k in range(min(int(self.pairs.max()), MEMORY))]
        way, shares = self.slope, []
        for place in newest_first:
            share = self.weight[place, row] * _dot(self.moved[place, row], way)
            way = way - share[:, None] * self.bent[place, row]
            shares.append(share)
        scale = self.loss / _dot(self.slope, self.slope)
        if newest_first:
            weight, bent = self.weight[newest_first[0], row], self.bent[newest_first[0], row]
            scale = torch.where(weight > 0, 1 / (weight * _dot(bent, bent)), scale)
        way = scale[:, None] * way
        for place, share in reversed(list(zip(newest_first, shares))):
            back = self.weight[place, row] * _dot(self.bent[place, row], way)
            way = way + (share - back)[:, None] * self.moved[place, row]
        return -way.nan_to_num(0.0, 0.0, 0.0)  # where the slope is flat there is no way


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows [batch]."""
    return (a * b).sum(dim=1)
