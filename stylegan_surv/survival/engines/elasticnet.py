"""Elastic-net Cox regression: scikit-survival's Coxnet behind the objective and penalty scale of CoxRidge."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.base import LinearRisk, check_survival, refuse
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import as_folds

N_ALPHAS = 50
SMALLEST = 0.05  # last penalty of a data-driven grid, as a fraction of the first
LEAST_L1 = 0.01  # below, Coxnet returns a handful of penalties and coefficients of about 0


class CoxElasticNet(LinearRisk):
    r"""Cox regression with an elastic-net penalty (Simon et al. 2011, J. Stat. Softw. 39:5).

    Minimises, with Breslow's ties,

    .. math:: -\log PL(X b) + \alpha \bigl(\rho \lVert b \rVert_1 + \tfrac{1 - \rho}{2} \lVert b \rVert^2\bigr)

    on X as given: not scaled, the log partial likelihood not divided by n. Coxnet's and glmnet's penalty is
    alpha / n.

    Parameters
    ----------
    alphas : sequence or int
        Penalties of the path, or how many in a geometric grid that begins where the first column enters.
    alpha : float, optional
        The penalty of ``coef_``; the last that was reached by default. Ignored with `cv`.
    l1_ratio : float
        rho in [0.01, 1]; 1 is the lasso. For a pure ridge use CoxRidge.
    unpenalized : indices or boolean mask, optional
        Columns outside the penalty.
    cv : int, splitter or list of (train, test), optional
        Choose alpha by cross-validated partial likelihood.
    tol : float
        Coxnet's tolerance.
    max_iter : int
        Coxnet's.

    Attributes
    ----------
    alphas_ : array, shape (m,)
        Penalties reached, from the heaviest. The path ends, with a warning, before the first for which Coxnet
        fails.
    coef_path_ : array, shape (m, p)
    alpha_ : float
    coef_, mean_ : array, shape (p,)
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry
    refuses = ("entry", "strata", "sample_weight")

    def __init__(
        self,
        alphas: Sequence[float] | int = N_ALPHAS,
        alpha: float | None = None,
        l1_ratio: float = 0.5,
        unpenalized: Any = None,
        cv: Any = None,
        tol: float = 1e-7,
        max_iter: int = 100_000,
    ) -> None:
        self.alphas = alphas
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.unpenalized = unpenalized
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self,
        X: Any,
        y: Array,
        *,
        entry: Array | None = None,
        strata: Array | None = None,
        sample_weight: Array | None = None,
        groups: Array | None = None,
    ) -> CoxElasticNet:
        """Fit the path on X (n, p) and scikit-survival's y (n,). Entry, strata and weights are refused."""
        refuse("CoxElasticNet", entry=entry, strata=strata, sample_weight=sample_weight)
        if not LEAST_L1 <= self.l1_ratio <= 1:
            raise InputError(
                f"l1_ratio: got {self.l1_ratio}; expected {LEAST_L1} to 1. For a pure ridge penalty use cox-ridge."
            )
        X = self._matrix(X, reset=True).astype(np.float64)
        outcome = check_survival(y, len(X))
        self.mean_ = X.mean(axis=0)
        X -= self.mean_
        self.free_ = np.zeros(X.shape[1], bool)
        if self.unpenalized is not None:
            self.free_[np.asarray(self.unpenalized)] = True
        alphas = self._grid(self._null(X, outcome)[1])
        if self.alpha is not None and self.cv is None:
            alphas = np.unique(np.r_[alphas, self.alpha])[::-1]
        self.alphas_, self.coef_path_ = self._path(X, outcome, alphas)
        at = self._choose(X, outcome, groups)
        self.alpha_, self.coef_ = float(self.alphas_[at]), self.coef_path_[at]
        self._keep_baseline(outcome, X @ self.coef_, "breslow")
        return self

    def _null(self, X: Array, outcome: Outcome) -> tuple[Array, float]:
        """Coefficients (p,) of the unpenalised columns alone, and the penalty below which others join them."""
        coef = np.zeros(X.shape[1])
        if self.free_.any():
            free = CoxRidge(alphas=(1.0,), unpenalized=np.arange(self.free_.sum()), ties="breslow")
            coef[self.free_] = free.fit(X[:, self.free_], outcome.y).coef_
        gradient = PartialLikelihood.of(outcome, "breslow").local(X @ coef)[1]
        pull = np.abs(X.T @ gradient)[~self.free_]
        return coef, float(pull.max(initial=0.0)) / self.l1_ratio

    def _grid(self, top: float) -> Array:
        if isinstance(self.alphas, (int, np.integer)):
            return np.geomspace(top, SMALLEST * top, int(self.alphas)) if top > 0 else np.ones(1)
        alphas = np.asarray(self.alphas, float)
        if alphas.ndim != 1 or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise InputError(f"alphas: expected numbers > 0, got {self.alphas!r}.")
        return np.unique(alphas)[::-1]

    def _path(self, X: Array, outcome: Outcome, alphas: Array) -> tuple[Array, Array]:
        """Penalties reached and their coefficients, from the heaviest to the lightest."""
        null, top = self._null(X, outcome)
        light = alphas[alphas < top]
        found = self._longest(X, outcome, np.r_[top, light]) if len(light) else np.zeros((1, X.shape[1]))
        reached = len(alphas) - len(light) + len(found) - 1
        if reached == 0:
            raise InputError(
                f"CoxElasticNet: Coxnet fails at the heaviest penalty already (alpha = {alphas[0]:g}). "
                "Give larger alphas, or scale columns with very different ranges."
            )
        if reached < len(alphas):
            warnings.warn(
                f"CoxElasticNet: Coxnet goes no further than alpha = {alphas[reached - 1]:g}; the path ends "
                f"there, after {reached} of {len(alphas)} penalties.",
                RuntimeWarning,
                stacklevel=3,
            )
        heavy = np.repeat(null[None], len(alphas) - len(light), axis=0)
        return alphas[:reached], np.vstack([heavy, found[1:]])

    def _longest(self, X: Array, outcome: Outcome, alphas: Array) -> Array:
        """Coefficients of the longest beginning of the path; Coxnet fails for all of it or not at all."""
        reached, failed, coefficients = 0, len(alphas) + 1, np.zeros((1, X.shape[1]))
        attempt = len(alphas)
        while failed - reached > 1:
            found = self._coxnet(X, outcome, alphas[:attempt])
            if found is None:
                failed = attempt
            else:
                reached, coefficients = attempt, found
                if len(found) < attempt:  # the fit is as good as perfect: Coxnet stops by itself
                    break
            attempt = (reached + failed) // 2
        return coefficients

    def _coxnet(self, X: Array, outcome: Outcome, alphas: Array) -> Array | None:
        """Coefficients (m, p) at `alphas` as far as Coxnet goes, or None where it fails."""
        from sksurv.linear_model import CoxnetSurvivalAnalysis

        factor = np.where(self.free_, 0.0, 1.0)
        rescaled = factor.sum() / len(factor)  # Coxnet makes the factors sum to p
        model = CoxnetSurvivalAnalysis(
            alphas=alphas / len(X) * rescaled,
            l1_ratio=self.l1_ratio,
            penalty_factor=factor,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # all coefficients 0 at heavy penalties is no fault
                warnings.simplefilter("error", ConvergenceWarning)
                model.fit(X, outcome.y)
        except (ArithmeticError, ConvergenceWarning):
            return None
        coefficients: Array = model.coef_.T
        return coefficients if np.isfinite(coefficients).all() else None

    def _choose(self, X: Array, outcome: Outcome, groups: Array | None) -> int:
        if self.cv is None:
            return -1 if self.alpha is None else int(np.flatnonzero(self.alphas_ <= self.alpha)[0])
        whole = PartialLikelihood.of(outcome, "breslow")
        scores = []
        for train, _ in as_folds(self.cv, outcome.event, groups=groups):
            part = outcome.subset(train)
            reached, coefficients = self._path(X[train] - X[train].mean(axis=0), part, self.alphas_)
            eta = X @ coefficients.T
            likelihood = PartialLikelihood.of(part, "breslow")
            score = np.full(len(self.alphas_), -np.inf)
            score[: len(reached)] = [whole.value(e) - likelihood.value(e[train]) for e in eta.T]
            scores.append(score)
        self.cv_scores_ = np.array(scores)
        return int(np.argmax(self.cv_scores_.sum(axis=0)))
