"""Penalty paths and their cross-validation: what CoxRidge and nested_cv share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.gram import GramProblem, centre
from stylegan_surv.survival.cox.newton import Problem, Solution, solve_path
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.cox.primal import PrimalProblem, Products
from stylegan_surv.survival.outcome import Outcome

Folds = list[tuple[Array, Array]]

PRIOR_SD = (0.03, 3.0)  # of the linear predictor, at the two ends of a grid that is made from the data
GROUP_STEPS = (0.1, 10.0)  # factors by which a group's penalty is tried against the others'
FURTHEST = 1e4  # largest ratio between two groups' penalties: the group is out by then
WORTH = 0.1  # gain in log likelihood for which the search goes on


class RidgeDesign(ABC):
    """Penalised columns in groups, and free columns C (n, q) with a light ridge, on one set of patients."""

    groups: int
    C: Array
    light: float
    ties: str
    tol: float

    @abstractmethod
    def problem(self, ratio: tuple[float, ...]) -> Problem:
        """The minimisation whose group penalties stand in this ratio."""

    @abstractmethod
    def spread(self) -> float:
        """Total variance of the penalised columns."""

    @abstractmethod
    def without(
        self, k: int, train: Array, test: Array, outcome: Outcome, penalties: Array, keep: bool
    ) -> Iterator[Array]:
        """Linear predictor (n,) of all patients from fits on `train`, for each row of `penalties` (m, groups).

        `k` names the fold; with `keep`, what does not depend on the outcome is kept for the next call.
        """

    def path(self, outcome: Outcome, penalties: Array) -> list[Solution]:
        """Solutions for each row of `penalties` (m, groups), solved from the heaviest to the lightest."""
        likelihood = PartialLikelihood.of(outcome, self.ties)
        ratios = np.array([[float(f"{r:.12g}") for r in row] for row in penalties / penalties[:, :1]])
        found: dict[int, Solution] = {}
        for ratio in dict.fromkeys(map(tuple, ratios.tolist())):  # distinct, in order
            rows = np.flatnonzero((ratios == ratio).all(axis=1))
            rows = rows[np.argsort(-penalties[rows, 0], kind="stable")]
            for i, solution in zip(
                rows, solve_path(self.problem(ratio), likelihood, penalties[rows, 0], self.tol)
            ):
                found[int(i)] = solution
        return [found[i] for i in range(len(penalties))]

    def cross_validate(self, outcome: Outcome, penalties: Array, folds: Folds, keep: bool = False) -> Array:
        """Cross-validated log partial likelihood, shape (folds, m).

        ``l(b_-k) - l_-k(b_-k)``: what the patients of fold k add, given a fit without them (Verweij & van
        Houwelingen 1993, Stat. Med. 12:2305).
        """
        whole = PartialLikelihood.of(outcome, self.ties)
        out = np.empty((len(folds), len(penalties)))
        for k, (train, test) in enumerate(folds):
            rest = PartialLikelihood.of(outcome.subset(train), self.ties)
            for j, eta in enumerate(self.without(k, train, test, outcome, penalties, keep)):
                out[k, j] = whole.value(eta) - rest.value(eta[train])
        return out

    def grid(self, count: int) -> Array:
        """Geometric grid of a common penalty, from heavy to light, shape (count, groups).

        A ridge penalty alpha is a normal prior of variance 1/alpha on every coefficient, which gives the linear
        predictor the variance `spread` / alpha; the grid covers the standard deviations PRIOR_SD.
        """
        alphas = (self.spread() or 1.0) / np.geomspace(*PRIOR_SD, count) ** 2
        return np.repeat(alphas[:, None], self.groups, axis=1)

    def choose(
        self,
        outcome: Outcome,
        penalties: Array,
        folds: Folds,
        *,
        one_se: bool = False,
        search_groups: bool = False,
        keep: bool = False,
    ) -> Choice:
        """The penalties with the largest cross-validated likelihood.

        `search_groups` goes on from the best common penalty with one group's penalty at a time, by the factors
        GROUP_STEPS, and keeps what helps until nothing does by more than WORTH.
        """
        tried = penalties
        scores = self.cross_validate(outcome, tried, folds, keep)
        best = _best(scores, one_se, tried)
        if search_groups and self.groups > 1:
            tried, scores, best = self._search(outcome, tried, scores, best, folds)
        return Choice(tried, scores, best)

    def _search(
        self, outcome: Outcome, tried: Array, scores: Array, best: int, folds: Folds
    ) -> tuple[Array, Array, int]:
        while True:
            here = tried[best]
            steps = [
                np.where(np.arange(self.groups) == g, f, 1.0) for g in range(self.groups) for f in GROUP_STEPS
            ]
            moves = [here * step for step in steps if _new(here * step, tried)]
            if not moves:
                return tried, scores, best
            tried = np.vstack([tried, moves])
            scores = np.hstack([scores, self.cross_validate(outcome, np.array(moves), folds)])
            winner = int(np.argmax(scores.sum(axis=0)))
            if scores[:, winner].sum() <= scores[:, best].sum() + WORTH:
                return tried, scores, best
            best = winner


class GramDesign(RidgeDesign):
    """By Gram matrices: one (n, n) for each penalty group, not necessarily centred.

    `start` (n, k) is a guess of the leading eigenspace.
    """

    def __init__(
        self,
        kernels: list[Array],
        C: Array,
        light: float = 0.0,
        ties: str = "efron",
        tol: float = 1e-7,
        start: Array | None = None,
    ) -> None:
        self.kernels, self.C, self.start = kernels, C, start
        self.light, self.ties, self.tol = light, ties, tol
        self.groups = len(kernels)
        self._last: tuple[tuple[float, ...], GramProblem] | None = None
        self._folds: dict[int, tuple[GramDesign, list[Array]]] = {}

    def problem(self, ratio: tuple[float, ...]) -> GramProblem:
        if self._last is None or self._last[0] != ratio:
            K = np.sum([K / r for K, r in zip(self.kernels, ratio)], axis=0)
            made = GramProblem(centre(K), self.C - self.C.mean(axis=0), self.light, self.start)
            self._last = (ratio, made)
        return self._last[1]

    def spread(self) -> float:
        return sum(float(np.trace(K)) - len(K) * float(K.mean()) for K in self.kernels) / len(self.C)

    def subset(self, rows: Array) -> GramDesign:
        """The same columns on some of the patients."""
        leading = self._last[1] if self._last else self.problem((1.0,) * self.groups)
        blocks = [K[np.ix_(rows, rows)] for K in self.kernels]
        return GramDesign(blocks, self.C[rows], self.light, self.ties, self.tol, leading.image[rows])

    def without(
        self, k: int, train: Array, test: Array, outcome: Outcome, penalties: Array, keep: bool
    ) -> Iterator[Array]:
        part, cross = self._folds.get(k) or (self.subset(train), self.cross(test, train))
        if keep:
            self._folds[k] = part, cross
        solutions = part.path(outcome.subset(train), penalties)
        held_out = part.predict(cross, self.C[test], penalties, solutions)
        for solution, risk in zip(solutions, held_out):
            eta = np.empty(len(self.C))
            eta[train], eta[test] = solution.eta, risk
            yield eta

    def cross(self, test: Array, train: Array) -> list[Array]:
        """Gram matrices of `test` by `train` patients."""
        return [K[np.ix_(test, train)] for K in self.kernels]

    def predict(self, cross: list[Array], C: Array, penalties: Array, solutions: Sequence[Solution]) -> Array:
        """Linear predictors (m, new) of new patients, 0 at the mean of this design's.

        `cross` holds the new patients' Gram matrices with this design's, `C` their free columns.
        """
        T = np.stack([solution.t for solution in solutions])
        eta = np.stack([solution.c for solution in solutions]) @ (C - self.C.mean(axis=0)).T
        for g, (K, own) in enumerate(zip(cross, self.kernels)):
            share = T @ K.T - (T @ own.mean(axis=0))[:, None]
            eta += share * (penalties[:, :1] / penalties[:, g : g + 1])
        return np.asarray(eta)


class PrimalDesign(RidgeDesign):
    """By X (n, p) itself; `columns` are the penalty groups'."""

    def __init__(
        self,
        X: Products,
        mean: Array,
        columns: list[Array],
        C: Array,
        light: float = 0.0,
        ties: str = "efron",
        tol: float = 1e-7,
    ) -> None:
        self.X, self.mean, self.columns, self.C = X, mean, columns, C
        self.light, self.ties, self.tol = light, ties, tol
        self.groups = len(columns)
        self._last: tuple[tuple[float, ...], PrimalProblem] | None = None

    def scale(self, ratio: Any) -> Array:
        """Factor of every column that turns the group penalties into one."""
        scale = np.zeros(len(self.mean))
        for columns, r in zip(self.columns, ratio):
            scale[columns] = r**-0.5
        return scale

    def problem(self, ratio: tuple[float, ...]) -> PrimalProblem:
        if self._last is None or self._last[0] != ratio:
            C = self.C - self.C.mean(axis=0)
            self._last = (ratio, PrimalProblem(self.X, self.mean, self.scale(ratio), C, self.light))
        return self._last[1]

    def spread(self) -> float:
        return self.problem((1.0,) * self.groups).total / len(self.C)

    def without(
        self, k: int, train: Array, test: Array, outcome: Outcome, penalties: Array, keep: bool
    ) -> Iterator[Array]:
        weight = np.zeros(len(self.C))  # weight 0 takes a patient out, and X need not be copied
        weight[train] = outcome.case_weight[train]
        for solution in self.path(replace(outcome, weight=weight), penalties):
            yield solution.eta


def _new(penalty: Array, tried: Array) -> bool:
    """Whether a penalty is within FURTHEST and has not been tried."""
    distance = np.abs(np.log(tried / penalty)).max(axis=1)
    return bool(penalty.max() / penalty.min() < 1.01 * FURTHEST and distance.min() > 1e-6)


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
