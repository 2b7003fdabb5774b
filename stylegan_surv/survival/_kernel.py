"""Penalty paths and their cross-validation on Gram matrices: what CoxRidge and nested_cv share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stylegan_surv.errors import InputError

from ._gram import GramProblem, Solution, centre
from ._partial import PartialLikelihood

Array = npt.NDArray[Any]
Folds = list[tuple[Array, Array]]

PRIOR_SD = (0.03, 3.0)  # of the linear predictor, at the two ends of a grid that is made from the data
GROUP_STEPS = (0.1, 10.0)  # factors by which a group's penalty is tried against the others'


@dataclass(frozen=True)
class Survival:
    """The outcome arrays of one set of patients, as the partial likelihood takes them."""

    time: Array
    event: Array
    entry: Array | None = None
    strata: Array | None = None
    weight: Array | None = None

    def subset(self, rows: Array) -> Survival:
        return Survival(*(None if v is None else v[rows] for v in self.arrays()))  # type: ignore[arg-type]

    def arrays(self) -> tuple[Array | None, ...]:
        return self.time, self.event, self.entry, self.strata, self.weight

    def likelihood(self, ties: str) -> PartialLikelihood:
        return PartialLikelihood(self.time, self.event, self.entry, self.strata, self.weight, ties)


@dataclass
class KernelCox:
    """Ridge Cox on the Gram matrices of one set of patients.

    Parameters
    ----------
    kernels : list of array, shape (n, n)
        One Gram matrix per penalty group; need not be centred.
    C : array, shape (n, q)
        Columns outside the penalties (`light` is their own ridge).
    start : array, shape (n, k), optional
        Guess of the leading eigenspace of the sum of the kernels.
    """

    kernels: list[Array]
    C: Array
    light: float = 0.0
    ties: str = "efron"
    tol: float = 1e-7
    start: Array | None = None
    _problems: dict[tuple[float, ...], GramProblem] = field(default_factory=dict, repr=False)

    def subset(self, rows: Array) -> KernelCox:
        """The same columns on some of the patients."""
        block = np.ix_(rows, rows)
        start = None if self.start is None else self.start[rows]
        return KernelCox(
            [K[block] for K in self.kernels], self.C[rows], self.light, self.ties, self.tol, start
        )

    def problem(self, ratio: tuple[float, ...]) -> GramProblem:
        """The problem whose group penalties stand in this ratio (the last one made is kept)."""
        if ratio not in self._problems:
            K = sum(K / r for K, r in zip(self.kernels, ratio))
            self._problems.clear()
            C = self.C - self.C.mean(axis=0) if len(self.C) else self.C
            self._problems[ratio] = GramProblem(centre(np.asarray(K)), C, self.light, self.start)
        return self._problems[ratio]

    def path(self, survival: Survival, penalties: Array) -> list[Solution]:
        """Solutions for each row of `penalties` (m, groups), solved from the heaviest to the lightest."""
        likelihood = survival.likelihood(self.ties)
        ratios = np.round(penalties / penalties[:, :1], 12)
        out: list[Solution | None] = [None] * len(penalties)
        for ratio in dict.fromkeys(map(tuple, ratios.tolist())):  # distinct, in order
            rows = np.flatnonzero((ratios == ratio).all(axis=1))
            solution = None
            for i in rows[np.argsort(-penalties[rows, 0], kind="stable")]:
                solution = self.problem(ratio).solve(likelihood, float(penalties[i, 0]), solution, self.tol)
                out[i] = solution
        return out  # type: ignore[return-value]

    def cross_validate(
        self, survival: Survival, penalties: Array, folds: Folds, parts: dict[int, KernelCox] | None = None
    ) -> Array:
        """Cross-validated log partial likelihood, shape (folds, m).

        ``l(b_-k) - l_-k(b_-k)``: what the patients of fold k add, given a fit without them (Verweij & van
        Houwelingen 1993, Stat. Med. 12:2305). `parts` keeps the folds' problems between calls.
        """
        whole = survival.likelihood(self.ties)
        out = np.empty((len(folds), len(penalties)))
        for k, (train, test) in enumerate(folds):
            part = (parts or {}).get(k) or self.subset(train)
            if parts is not None:
                parts[k] = part
            rest = survival.subset(train)
            likelihood = rest.likelihood(self.ties)
            for j, (row, solution) in enumerate(zip(penalties, part.path(rest, penalties))):
                eta = np.empty(len(survival.time))
                eta[train] = solution.eta
                eta[test] = self.held_out(test, train, row, solution)
                out[k, j] = whole.value(eta) - likelihood.value(solution.eta)
        return out

    def held_out(self, test: Array, train: Array, penalty: Array, solution: Solution) -> Array:
        """Linear predictor of the `test` patients from a fit on `train`, 0 at the mean of `train`."""
        eta = (self.C[test] - self.C[train].mean(axis=0)) @ solution.c
        for K, ratio in zip(self.kernels, penalty / penalty[0]):
            own = K[np.ix_(train, train)].mean(axis=0) @ solution.a
            eta = eta + (K[np.ix_(test, train)] @ solution.a - own) / ratio
        return np.asarray(eta)

    def grid(self, count: int) -> Array:
        """Geometric grid of a common penalty, from heavy to light, shape (count, groups).

        A ridge penalty alpha is a normal prior of variance 1/alpha on every coefficient, which gives the linear
        predictor the variance tr(X'X)/(n alpha); the grid covers the standard deviations PRIOR_SD.
        """
        spread = sum(float(np.trace(K)) - len(K) * float(K.mean()) for K in self.kernels) / len(self.C)
        sd = np.geomspace(*PRIOR_SD, count)
        return np.repeat((max(spread, 1e-300) / sd**2)[:, None], len(self.kernels), axis=1)

    def choose(
        self,
        survival: Survival,
        penalties: Array,
        folds: Folds,
        *,
        one_se: bool = False,
        search_groups: bool = False,
        parts: dict[int, KernelCox] | None = None,
    ) -> Choice:
        """The penalties with the largest cross-validated likelihood.

        `search_groups` goes on from the best common penalty with one group's penalty at a time, by the factors
        GROUP_STEPS, and keeps what helps until nothing does.
        """
        tried = penalties
        scores = self.cross_validate(survival, tried, folds, parts)
        best = _best(scores, one_se, tried)
        if search_groups and len(self.kernels) > 1:
            tried, scores, best = self._search(survival, tried, scores, best, folds)
        return Choice(tried, scores, best)

    def _search(
        self, survival: Survival, tried: Array, scores: Array, best: int, folds: Folds
    ) -> tuple[Array, Array, int]:
        seen = {tuple(np.round(np.log(row), 6)) for row in tried}
        improved = True
        while improved:
            here = tried[best]
            moves = [
                here * np.where(np.arange(len(here)) == g, f, 1.0)
                for g in range(len(here))
                for f in GROUP_STEPS
            ]
            moves = [m for m in moves if tuple(np.round(np.log(m), 6)) not in seen]
            seen |= {tuple(np.round(np.log(m), 6)) for m in moves}
            if not moves:
                break
            new = self.cross_validate(survival, np.array(moves), folds)
            tried, scores = np.vstack([tried, moves]), np.hstack([scores, new])
            winner = int(np.argmax(scores.sum(axis=0)))
            improved, best = winner != best, winner
        return tried, scores, best


@dataclass(frozen=True)
class Choice:
    """Penalties tried (m, groups), their cross-validated likelihoods (folds, m) and the index chosen."""

    penalties: Array
    scores: Array
    best: int

    @property
    def penalty(self) -> Array:
        row: Array = self.penalties[self.best]
        return row


def _best(scores: Array, one_se: bool, penalties: Array) -> int:
    """Largest sum over folds; with `one_se` the heaviest penalty within one standard error of it."""
    total = scores.sum(axis=0)
    best = int(np.argmax(total))
    if one_se:
        difference = scores - scores[:, [best]]
        error = np.sqrt(len(scores)) * difference.std(axis=0, ddof=1)
        near = total >= total[best] - error
        best = int(np.flatnonzero(near)[np.argmax(penalties[near].sum(axis=1))])
    return best


def penalty_rows(alphas: Sequence[Any] | Array, groups: Sequence[str]) -> Array:
    """Penalties as an array (m, groups): a number is common to all groups, a tuple or dict names one for each."""
    rows = []
    for alpha in alphas:
        if isinstance(alpha, dict):
            if set(alpha) != set(groups):
                raise InputError(
                    f"alpha: got penalties for {sorted(alpha)}, expected one for each of {list(groups)}."
                )
            alpha = [alpha[g] for g in groups]
        row = (
            np.broadcast_to(np.asarray(alpha, float), (len(groups),))
            if np.ndim(alpha) == 0
            else np.asarray(alpha)
        )
        if row.shape != (len(groups),):
            raise InputError(
                f"alpha: got {alpha!r}; expected a number or {len(groups)} numbers, for {list(groups)}."
            )
        rows.append(row.astype(float))
    out = np.array(rows).reshape(len(rows), len(groups))
    if not (np.isfinite(out) & (out > 0)).all():
        raise InputError(
            f"alpha: penalties must be finite and > 0, got {np.ravel(out).tolist()}. "
            "Columns without a penalty go to `unpenalized`."
        )
    return out
