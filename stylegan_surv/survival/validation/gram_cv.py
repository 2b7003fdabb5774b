"""Nested cross-validation of ridge Cox for many outcomes on one matrix: what permutations share is made once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.gram import gram
from stylegan_surv.survival.cox.path import Folds, GramDesign
from stylegan_surv.survival.engines.base import check_matrix
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import NEVER

N_ALPHAS = 6  # of the grid: half of CoxRidge's, for a hundred times its fits
TOL = 1e-3  # of Newton's method: the risks' ranks are settled by then


class GramCV:
    """Nested cross-validation of ridge Cox on one matrix, for many outcomes.

    The Gram matrices of the folds and their leading eigenspaces depend on X alone; permuted outcomes share them.

    Parameters
    ----------
    X : array, shape (n, p)
    folds : array of int, shape (n,)
        Outer folds of the rows of X, for example ``make_folds(outcome)[0]``.
    inner : int
        Folds of the inner cross-validation; dealt at random, since the outcome varies.

    ties : {"efron", "breslow"}
    tol : float
        As in CoxRidge.
    seed : int
        Of the inner folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, time, event = rng.normal(size=(40, 90)), rng.exponential(size=40), rng.random(40) < 0.7
    >>> outcome = Outcome(np.arange(40), time, event)
    >>> cv = GramCV(X, np.arange(40) % 5)
    >>> [cv.out_of_fold_risk(outcome.subset(rng.permutation(40))).shape for _ in range(2)]
    [(40,), (40,)]
    """

    def __init__(
        self, X: Array, folds: Array, *, inner: int = 5, ties: str = "efron", tol: float = TOL, seed: int = 0
    ) -> None:
        kernel = GramDesign([gram(check_matrix(X))], np.zeros((len(X), 0)), ties=ties, tol=tol)
        self.folds, self._no_columns = np.asarray(folds), kernel.C
        rng = np.random.default_rng(seed)
        self._outer: list[tuple[Array, Array, GramDesign, list[Array], Folds]] = []
        for fold in np.unique(self.folds[self.folds != NEVER]):
            train, test = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            dealt = rng.permutation(np.arange(len(train)) % inner)
            division = [(np.flatnonzero(dealt != k), np.flatnonzero(dealt == k)) for k in range(inner)]
            self._outer.append((train, test, kernel.subset(train), kernel.cross(test, train), division))

    def out_of_fold_risk(self, outcome: Outcome, alphas: Array | Sequence[float] | int = N_ALPHAS) -> Array:
        """Risk of every row of X from the folds without it, shape (n,); NaN where never tested.

        `outcome` belongs to the rows of X in their order, permuted or not. `alphas` as in CoxRidge.
        """
        risk = np.full(len(outcome), np.nan)
        with threadpool_limits(1):
            for train, test, part, cross, division in self._outer:
                known = outcome.subset(train)
                penalties = part.grid(alphas) if isinstance(alphas, int) else np.reshape(alphas, (-1, 1))
                chosen = part.choose(known, penalties, division, keep=True).penalty
                path = penalties[penalties[:, 0] >= chosen[0]]
                solutions = part.path(known, path)
                at = int(np.argmin(path[:, 0]))
                risk[test] = part.predict(cross, self._no_columns[test], path[[at]], [solutions[at]])[0]
        return risk
