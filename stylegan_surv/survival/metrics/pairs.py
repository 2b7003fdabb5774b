"""Comparable pairs of survival data, counted in dense blocks of the triangular comparison matrix.

One block product counts the pairs of a thousand bootstrap samples at once: resampling patients changes
only the multiplicities, never the comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.survival.metrics.censoring import Observation

_BLOCK = 512  # rows of one block: 512 × 20,000 float32 is 40 MB


@dataclass(frozen=True)
class Block:
    """Pairs (row i, column j): i died while j was at risk and outlived i.

    Attributes
    ----------
    rows, cols : array of int, shape (r,), (c,)
        Positions in the arrays given to `Pairs`.
    at_risk : array of float, shape (r, c)
        1 (or the later member's weight) where the pair is comparable.
    score : array of float, shape (r, c)
        The same, where the one who died first has the higher risk; half of it where the risks tie; else 0.
    """

    rows: Ints
    cols: Ints
    at_risk: Floats
    score: Floats


@dataclass(frozen=True)
class Pairs:
    """The comparable pairs within each group.

    A pair is comparable when one has an event at t and the other is under observation at t and either
    outlives t or is censored at t (Harrell et al. 1996; R's ``survival::concordance``). Two events at the
    same time are not comparable. With delayed entry the other must have entered before t.

    Parameters
    ----------
    time, event, risk : array, shape (n,)
    entry : array, shape (n,), optional
    group : array of int, shape (n,), optional
        Pairs are counted within a group only (stratum, fold); −1 leaves the row out.
    event_weight : array, shape (n,) or (n, B)
        Weight of a pair by its earlier member, e.g. 1/G(t)² (Uno et al. 2011); B of them when every resample
        has its own. Zero drops the row.
    other : Observation or None
        Divides a pair's weight by G_j(t_i) of its later member, where G differs between patients.
    """

    time: Floats
    event: Bools
    risk: Floats
    entry: Floats | None
    group: Ints | None
    event_weight: Floats
    other: Observation | None = None

    def blocks(self, dtype: type = np.float64) -> Iterator[Block]:
        for members in self._groups():
            yield from self._blocks(members, dtype)

    def counts(self, multiplicity: Floats) -> tuple[Floats, Floats]:
        """Weighted concordant and comparable pairs for every column of `multiplicity` [n, B].

        Whole-number multiplicities are counted without rounding error in float32 (n < 16 million).
        """
        m = np.ascontiguousarray(multiplicity, np.float32)
        concordant, comparable = np.zeros((2, m.shape[1]))
        for members in self._groups():
            rows, later = self._deaths(members)
            weighted = m[rows] * self._weight_of(rows)
            if self.other is None:
                comparable += np.einsum("rb,rb->b", weighted, self._comparable_with(rows, later, members, m))
            for b in self._blocks(members, np.float32):
                mine = m[b.rows] * self._weight_of(b.rows)
                concordant += np.einsum("rb,rb->b", mine, b.score @ m[b.cols])
                if self.other is not None:
                    comparable += np.einsum("rb,rb->b", mine, b.at_risk @ m[b.cols])
        return concordant, comparable

    def _weight_of(self, rows: Ints) -> Floats:
        w = self.event_weight[rows]
        return w if w.ndim == 2 else w[:, None]

    def _groups(self) -> Iterator[Ints]:
        """Each group's members, by time, events first."""
        group = np.zeros(len(self.time), int) if self.group is None else self.group
        order = np.lexsort((~self.event, self.time, group))
        order = order[group[order] >= 0]
        yield from np.split(order, np.flatnonzero(np.diff(group[order])) + 1)

    def _deaths(self, members: Ints) -> tuple[Ints, Ints]:
        """Rows of the matrix, and for each the first of `members` that comes later."""
        time, event = self.time[members], self.event[members]
        died = np.flatnonzero(event & (self._weight_of(members) > 0).any(axis=1))
        events_before = np.concatenate([[0], np.cumsum(event)])
        first, last = (np.searchsorted(time, time[died], side=side) for side in ("left", "right"))
        return members[died], first + events_before[last] - events_before[first]

    def _blocks(self, members: Ints, dtype: type) -> Iterator[Block]:
        deaths, later = self._deaths(members)
        for k in range(0, len(deaths), _BLOCK):
            rows, start = deaths[k : k + _BLOCK], later[k : k + _BLOCK, None]
            cols = members[start[0, 0] :]
            comparable = np.arange(start[0, 0], len(members)) >= start
            if self.entry is not None:
                comparable &= self.entry[cols] < self.time[rows][:, None]
            mine, theirs = self.risk[rows][:, None], self.risk[cols]
            score: Floats = (theirs < mine).astype(dtype)
            score += (theirs == mine) * dtype(0.5)
            weight: Floats = comparable.astype(dtype)
            if self.other is not None:
                g = self.other.cross(self.time[rows], cols)
                weight *= np.divide(1.0, g, out=np.zeros_like(g), where=g > 0)
            yield Block(rows, cols, weight, score * weight)

    def _comparable_with(self, rows: Ints, later: Ints, members: Ints, m: Floats) -> Floats:
        """Multiplicity of those comparable with each row, [r, B]: outliving it less entering after it."""
        total = _sums_from(m[members])[later]
        if self.entry is not None:
            members = members[np.argsort(self.entry[members])]
            not_yet = np.searchsorted(self.entry[members], self.time[rows], side="left")
            total -= _sums_from(m[members])[not_yet]
        return total

    def shares(self, weight: Floats) -> tuple[Floats, Floats]:
        """Each subject's weighted concordant and comparable pairs, in either role: arrays [n], [n].

        Their sums count every pair twice.
        """
        concordant, comparable = np.zeros((2, len(self.time)))
        for b in self.blocks():
            w_rows, w_cols = weight[b.rows] * self._weight_of(b.rows)[:, 0], weight[b.cols]
            for total, matrix in ((concordant, b.score), (comparable, b.at_risk)):
                total[b.rows] += w_rows * (matrix @ w_cols)
                total[b.cols] += w_cols * (w_rows @ matrix)
        return concordant, comparable


def _sums_from(x: Floats) -> Floats:
    """``out[k] = x[k:].sum(axis=0)``, [n + 1, B]."""
    out = np.zeros((len(x) + 1, *x.shape[1:]))
    np.cumsum(x[::-1], axis=0, out=out[-2::-1])
    return out
