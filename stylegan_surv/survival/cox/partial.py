"""Cox's partial likelihood as a function of the linear predictor eta, in O(n) once the times are sorted.

With ``r = w exp(eta)`` and one row per death (Efron) or per distinct death time (Breslow),

    l(eta) = sum_i w_i d_i eta_i - sum_k u_k log R_k,        R = A r,

where ``A`` sums over the patients at risk in the stratum, less the fraction of the tied deaths that Efron's
approximation takes off. ``A`` and its transpose are running sums, so value, gradient and the product of the
information ``I = -l''`` with a vector never form a matrix:

    l'   = w d - r * A'(u / R)
    I v  = r * A'(u / R) * v - r * A'((u / R^2) * A(r v)).

References
----------
Cox (1972), J. R. Stat. Soc. B 34:187; Efron (1977), JASA 72:557 (ties); Andersen & Gill (1982), Ann. Statist.
10:1100 (at risk in (entry, time]).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stylegan_surv._types import Array
from stylegan_surv.survival.outcome import Outcome

WIDEST = 300.0  # spread of eta within a stratum: with e^-300, 1 / R^2 is still a double


class PartialLikelihood:
    """Log partial likelihood of `time`, `event` as a function of eta (all arrays of shape (n,)).

    Parameters
    ----------
    time, event : array, shape (n,)
    entry : array, shape (n,), optional
        Left truncation: at risk in (entry, time].
    strata : array, shape (n,), optional
    weight : array, shape (n,), optional
        Case weights >= 0; weight 2 equals writing the row twice under Breslow's ties.
    ties : {"efron", "breslow"}
    """

    def __init__(
        self,
        time: Array,
        event: Array,
        entry: Array | None = None,
        strata: Array | None = None,
        weight: Array | None = None,
        ties: str = "efron",
    ) -> None:
        n = len(time)
        code = np.zeros(n, int) if strata is None else np.unique(strata, return_inverse=True)[1]
        self.order = np.lexsort((-time, code))  # within a stratum from the last time to the first
        self.back = np.argsort(self.order)
        self.n = n
        time, code = time[self.order], code[self.order]
        self.weight = np.ones(n) if weight is None else np.asarray(weight, float)[self.order]
        dead = np.asarray(event, bool)[self.order] & (self.weight > 0)
        self.bounds = np.r_[np.flatnonzero(np.r_[True, code[1:] != code[:-1]]), n]
        self.stratum = code
        self._index_ties(time, dead, ties)
        self.entry_order: Array | None = None
        if entry is not None and np.isfinite(entry).any():
            self._index_entries(np.asarray(entry, float)[self.order], time)

    @classmethod
    def of(cls, outcome: Outcome, ties: str = "efron") -> PartialLikelihood:
        """That of an outcome, within its strata and with its entries and case weights."""
        return cls(outcome.time, outcome.event, outcome.entry, outcome.strata, outcome.weight, ties)

    def _index_ties(self, time: Array, dead: Array, ties: str) -> None:
        """Rows of A: the prefix of the sorted patients at risk, and the share of tied deaths taken off."""
        position = np.flatnonzero(dead)
        new = np.r_[True, (np.diff(time[position]) != 0) | (np.diff(self.stratum[position]) != 0)]
        first = np.flatnonzero(new) if len(position) else np.zeros(0, int)
        self.dead, self.first_dead = position, first
        deaths = np.diff(np.r_[first, len(position)])
        self.group = np.repeat(np.arange(len(first)), deaths)  # tie group of each death
        self.group_time = time[position[first]]
        self.group_stratum = self.stratum[position[first]]
        # last patient of the stratum whose time is not before the tied time (times descend)
        same = np.r_[(time[1:] != time[:-1]) | (self.stratum[1:] != self.stratum[:-1]), True]
        last_of_tie = np.flatnonzero(same)
        self.last = last_of_tie[np.searchsorted(last_of_tie, position[first])]
        total = np.add.reduceat(self.weight[position], first) if len(first) else np.zeros(0)
        if ties == "efron":
            self.row_group = self.group
            rank = np.arange(len(position)) - np.repeat(first, deaths)
            self.fraction: Array | None = rank / np.repeat(deaths, deaths)
            if not self.fraction.any():
                self.fraction = None  # no ties: Efron is Breslow
            self.row_weight = np.repeat(total / deaths, deaths)
        else:
            self.row_group, self.fraction, self.row_weight = np.arange(len(first)), None, total

    def _index_entries(self, entry: Array, time: Array) -> None:
        """For each death time, how many of the stratum have not entered yet (entry >= t)."""
        self.entry_order = np.lexsort((-entry, self.stratum))
        late = np.empty(len(self.last), int)
        for begin, end in zip(self.bounds[:-1], self.bounds[1:]):
            here = (self.last >= begin) & (self.last < end)
            descending = entry[self.entry_order[begin:end]]
            late[here] = begin + np.searchsorted(-descending, -self.group_time[here], side="right")
        self.late = late - 1  # last patient of the prefix, or begin - 1 where all have entered
        self.late_any = self.late >= self.bounds[np.searchsorted(self.bounds, self.last, side="right") - 1]

    # running sums ------------------------------------------------------------------------------------------

    def _cumsum(self, x: Array) -> Array:
        """Running sum that starts anew in every stratum (a difference of totals would cancel digits)."""
        if len(self.bounds) == 2:
            return np.cumsum(x, axis=0)
        out = np.empty_like(x)
        for begin, end in zip(self.bounds[:-1], self.bounds[1:]):
            np.cumsum(x[begin:end], axis=0, out=out[begin:end])
        return out

    def _reverse_cumsum(self, x: Array) -> Array:
        out = np.empty_like(x)
        for begin, end in zip(self.bounds[:-1], self.bounds[1:]):
            np.cumsum(x[begin:end][::-1], axis=0, out=out[begin:end][::-1])
        return out

    def _at_risk(self, x: Array) -> Array:
        """A x: sums over the risk sets, one row per death (Efron) or death time (Breslow)."""
        risk: Array = self._cumsum(x)[self.last]
        if self.entry_order is not None:
            not_yet = self._cumsum(x[self.entry_order])[self.late]
            risk = risk - np.where(self.late_any, not_yet, 0.0)
        if self.fraction is None:
            return risk
        tied = np.add.reduceat(x[self.dead], self.first_dead)
        risk = risk[self.row_group] - self.fraction * tied[self.row_group]
        return risk

    def _at_risk_t(self, z: Array) -> Array:
        """A' z: for each patient, the sum of z over the risk sets that he is in."""
        groups = len(self.last)
        per_group = z if len(z) == groups else np.bincount(self.row_group, z, groups)
        out = np.zeros(self.n)
        out[self.last] = per_group
        out = self._reverse_cumsum(out)
        if self.entry_order is not None:
            late = np.bincount(self.late[self.late_any], per_group[self.late_any], self.n)
            out[self.entry_order] -= self._reverse_cumsum(late)
        if self.fraction is not None:
            out[self.dead] -= np.bincount(self.row_group, self.fraction * z, groups)[self.group]
        return out

    # likelihood --------------------------------------------------------------------------------------------

    def _risk(self, eta: Array) -> tuple[Array, Array]:
        """Sorted eta and r = w exp(eta), each stratum shifted by its largest eta (changes nothing)."""
        eta = eta[self.order]
        eta = eta - np.maximum.reduceat(eta, self.bounds[:-1])[self.stratum]
        return eta, self.weight * np.exp(eta)

    def value(self, eta: Array) -> float:
        """l(eta); -inf where eta is so far spread that the information is beyond double precision."""
        eta, r = self._risk(eta)
        R = self._at_risk(r)
        if R.min(initial=np.inf) <= np.exp(-WIDEST) or np.isnan(R).any():
            return -np.inf
        return float(self.weight[self.dead] @ eta[self.dead] - self.row_weight @ np.log(R))

    def local(self, eta: Array) -> tuple[float, Array, Array, Callable[[Array], Array]]:
        """Value, gradient (n,), diagonal of the information (n,) and the product v -> I v at `eta`."""
        eta, r = self._risk(eta)
        R = self._at_risk(r)
        value = float(self.weight[self.dead] @ eta[self.dead] - self.row_weight @ np.log(R))
        u1 = self.row_weight / R
        u2 = u1 / R
        expected = r * self._at_risk_t(u1)
        gradient = -expected
        gradient[self.dead] += self.weight[self.dead]
        diagonal = self._diagonal(expected, r, u2)

        def information(v: Array) -> Array:
            v = v[self.order]
            product: Array = expected * v - r * self._at_risk_t(u2 * self._at_risk(r * v))
            return product[self.back]

        return value, gradient[self.back], diagonal[self.back], information

    def baseline(self, eta: Array) -> tuple[Array, Array, Array]:
        """Stratum code, time and cumulative baseline hazard at every death time (Breslow 1974, with these ties).

        Times ascend within a stratum; codes number the sorted levels of `strata`.
        """
        sorted_eta = eta[self.order]
        top = np.maximum.reduceat(sorted_eta, self.bounds[:-1])
        _, r = self._risk(eta)
        jump = np.bincount(self.row_group, self.row_weight / self._at_risk(r), len(self.last))
        jump = jump * np.exp(-top[self.group_stratum])
        order = np.lexsort((self.group_time, self.group_stratum))
        code, hazard = self.group_stratum[order], jump[order]
        for stratum in np.unique(code):
            hazard[code == stratum] = np.cumsum(hazard[code == stratum])
        return code, self.group_time[order], hazard

    def _diagonal(self, expected: Array, r: Array, u2: Array) -> Array:
        """Diagonal of I: ``sum_k u_k p_ik (1 - p_ik)`` with p_ik the share of patient i in row k of A r.

        A has entries 1, or 1 - fraction for the tied deaths, which is squared here.
        """
        square = self._at_risk_t(u2)
        if self.fraction is not None:
            f = self.fraction
            correction = np.bincount(self.row_group, (f * f - f) * u2, len(self.last))
            square[self.dead] += correction[self.group]
        diagonal: Array = expected - r * r * square
        return diagonal
