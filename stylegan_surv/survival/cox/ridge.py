"""Ridge-penalised Cox regression for thousands of latent dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.gram import gram
from stylegan_surv.survival.cox.newton import Solution, Stop
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.cox.path import (
    Choice,
    GramDesign,
    PrimalDesign,
    RidgeDesign,
    penalty_rows,
)
from stylegan_surv.survival.cox.primal import Products
from stylegan_surv.survival.engines.base import LinearRisk, check_survival
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import as_folds

N_ALPHAS = 12
GRAM_LIMIT = 3000  # patients up to which the Gram matrix is the faster way (with more columns than patients)

_REMEDY = {
    Stop.SEPARATION: "Leave that column out, or give unpenalized_alpha=0.1.",
    Stop.SPREAD: "Take heavier penalties.",
    Stop.ROUNDING: "Give X as float64, or take heavier penalties.",
    Stop.STEPS: "Take heavier penalties.",
}


class CoxRidge(LinearRisk):
    r"""Cox regression with a ridge penalty, exact for any number of columns.

    Minimises, over the coefficients b of the penalty groups g and the unpenalised ones,

    .. math:: -\log PL(X b) + \sum_g \tfrac{\alpha_g}{2} \lVert b_g \rVert^2

    on X as given: columns are centred (which changes nothing but the conditioning) and not scaled, the log
    partial likelihood is not divided by n. scikit-survival's ``alpha`` is the same number; lifelines'
    ``penalizer`` and glmnet's ``lambda`` are alpha / n (docs: "Cox on latents").

    Parameters
    ----------
    alphas : sequence or int, default 12
        Penalties of the path. An entry is a number, common to all groups, or one number per group (tuple or
        dict). An integer asks for a geometric grid of that many, made from the data: under the normal prior
        that a ridge penalty is, the linear predictor has standard deviations from 0.03 to 3.
    alpha : float, tuple or dict, optional
        The penalty of ``coef_``; the last of `alphas` by default. Ignored with `cv`.
    ties : {"efron", "breslow"}
    penalty_groups : dict of str to indices, or list of indices, optional
        Columns of every group with a penalty of its own, e.g. ``layer_groups(num_ws, w_dim)``; the groups of a list
        are called "0", "1", and so on. Penalised columns that no group holds form the group ``"rest"``.
    unpenalized : indices or boolean mask, optional
        Columns outside the penalty (clinical covariates).
    cv : int, splitter or list of (train, test), optional
        Choose the penalty by cross-validated partial likelihood (Verweij & van Houwelingen 1993); an integer
        deals the patients by event and stratum. With `penalty_groups` the groups' penalties are searched
        from the best common one.
    one_se : bool
        Take the heaviest penalty within one standard error of the best.
    unpenalized_alpha : float
        A light ridge on the `unpenalized` columns; 0.1 keeps the coefficient of a level without events finite.
    tol : float
        Newton stops when its decrement is `tol` times that at b = 0.
    solver : str, default "auto"
        "gram" works with the n x n Gram matrix, "primal" with X itself (large n), "primal:DEVICE" with X on a
        torch device, for example "primal:cuda". "auto" takes the Gram matrix for at most GRAM_LIMIT patients with
        more columns than patients.

    Attributes
    ----------
    alphas_ : array, shape (m,) or (m, groups)
        The penalties in the order given.
    coef_path_ : array, shape (m, p)
    alpha_ : float or dict
        The penalty of `coef_`; a dict by group if there are groups.
    coef_ : array, shape (p,)
    mean_ : array, shape (p,)
        Column means; `predict` gives the log hazard ratio against them.
    cv_scores_ : array, shape (folds, tried)
        Cross-validated log partial likelihoods of `cv_alphas_` (with `cv`).
    baseline_time_, baseline_cumulative_hazard_, baseline_stratum_ : array
        Cumulative baseline hazard at the mean, by death time and stratum.
    log_likelihood_ : float
        Log partial likelihood of the training rows at `coef_`.
    n_iter_ : int
        Newton steps over the whole path.
    converged_ : bool
        Whether every penalty's minimiser was reached; if not, a warning names those that failed and why.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 500)).astype("float32")
    >>> y = np.array([(True, t) for t in rng.exponential(size=100)], dtype=[("event", "?"), ("time", "f8")])
    >>> CoxRidge(alphas=(1e4, 1e3, 1e2)).fit(X, y).coef_path_.shape
    (3, 500)
    """

    def __init__(
        self,
        alphas: Sequence[Any] | int = N_ALPHAS,
        alpha: float | Sequence[float] | Mapping[str, float] | None = None,
        ties: str = "efron",
        penalty_groups: Mapping[str, Any] | Sequence[Any] | None = None,
        unpenalized: Any = None,
        cv: Any = None,
        one_se: bool = False,
        unpenalized_alpha: float = 0.0,
        tol: float = 1e-7,
        solver: str = "auto",
    ) -> None:
        self.alphas = alphas
        self.alpha = alpha
        self.ties = ties
        self.penalty_groups = penalty_groups
        self.unpenalized = unpenalized
        self.cv = cv
        self.one_se = one_se
        self.unpenalized_alpha = unpenalized_alpha
        self.tol = tol
        self.solver = solver

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry
    least_columns = 0  # a fold may leave no clinical column that tells anything: then the risk is 0

    # fitting -----------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Array,
        *,
        entry: Array | None = None,
        strata: Array | None = None,
        sample_weight: Array | None = None,
        groups: Array | None = None,
    ) -> CoxRidge:
        """Fit the path; choose the penalty if `cv` is set.

        Parameters
        ----------
        X : array, shape (n, p)
            float32 stays float32.
        y : structured array, shape (n,)
            scikit-survival's two fields, event (bool) and time.
        entry : array, shape (n,), optional
            Left truncation: at risk in (entry, time].
        strata : array, shape (n,), optional
            Each level has its own baseline hazard.
        sample_weight : array, shape (n,), optional
            Case weights >= 0.
        groups : array, shape (n,), optional
            Rows that `cv` keeps together.
        """
        X = self._matrix(X, reset=True)
        outcome = check_survival(y, len(X), entry, strata, sample_weight)
        self._check_settings()
        self.divide_columns(X.shape[1])
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        design = self._design(X)
        fit = self.fit_design(design, outcome, groups)
        if fit.choice is not None:
            self.cv_alphas_, self.cv_scores_ = fit.choice.penalties, fit.choice.scores
        self._keep(fit, self._coefficients(X, design, fit))
        self.log_likelihood_ = PartialLikelihood.of(outcome, self.ties).value(fit.solution.eta)
        self.converged_ = all(s.converged for s in fit.solutions)
        self._warn(fit)
        return self

    @staticmethod
    def _warn(fit: PathFit) -> None:
        """Name the penalties without a minimiser, and the reason; the others stand."""
        failed = [(row, s.stop) for row, s in zip(fit.penalties, fit.solutions) if not s.converged]
        if not failed:
            return
        said = "; ".join(f"alpha {', '.join(f'{a:g}' for a in row)}: {stop.value}" for row, stop in failed)
        warnings.warn(
            f"CoxRidge: no minimum was reached at {len(failed)} of {len(fit.solutions)} penalties ({said}). The "
            f"other penalties are not concerned. {_REMEDY[failed[0][1]]}",
            ConvergenceWarning,
            stacklevel=3,
        )

    def _design(self, X: Array) -> RidgeDesign:
        n, p = X.shape
        C, columns = self._free_columns(X), list(self.groups_.values())
        kind, _, device = self.solver.partition(":")
        if kind == "gram" or (kind == "auto" and n <= GRAM_LIMIT and n < p):
            return self.gram_design([gram(X, c) for c in columns], C)
        settings = (C, self.unpenalized_alpha, self.ties, self.tol)
        return PrimalDesign(Products(X, device or None), self.mean_, columns, *settings)

    def gram_design(self, kernels: list[Array], C: Array) -> GramDesign:
        """The minimisation by Gram matrices, one (n, n) for each penalty group, with free columns C (n, q)."""
        return GramDesign(kernels, C, self.unpenalized_alpha, self.ties, self.tol)

    def fit_design(self, design: RidgeDesign, outcome: Outcome, groups: Array | None = None) -> PathFit:
        """Path, chosen penalty and baseline hazard without the coefficients, after `divide_columns`.

        For folds that share the Gram matrices of one design; `fit` is this and the coefficients.
        """
        names = list(self.groups_)
        if isinstance(self.alphas, (int, np.integer)):
            penalties = design.grid(int(self.alphas))
        else:
            penalties = penalty_rows(self.alphas, names)
        choice = self._choose(design, outcome, penalties, groups)
        if choice is not None:
            chosen = choice.penalty
        else:
            chosen = penalties[-1] if self.alpha is None else penalty_rows([self.alpha], names)[0]
        known = np.flatnonzero((penalties == chosen).all(axis=1))
        path = penalties if len(known) else np.vstack([penalties, chosen])
        at = int(known[-1]) if len(known) else len(penalties)
        fit = PathFit(path, design.path(outcome, path), at, len(penalties), choice)
        self._keep_baseline(outcome, fit.solution.eta, self.ties)
        return fit

    def _choose(
        self, design: RidgeDesign, outcome: Outcome, penalties: Array, groups: Array | None
    ) -> Choice | None:
        if self.cv is None:
            return None
        folds = as_folds(self.cv, outcome.event, strata=outcome.strata, groups=groups)
        common = isinstance(self.alphas, (int, np.integer)) or all(np.ndim(a) == 0 for a in self.alphas)
        return design.choose(outcome, penalties, folds, one_se=self.one_se, search_groups=common)

    def _coefficients(self, X: Array, design: RidgeDesign, fit: PathFit) -> Array:
        """Coefficients (m, p) of the path from the solutions' coordinates."""
        T = np.stack([solution.t for solution in fit.solutions])
        if isinstance(design, PrimalDesign):
            coef = T * np.stack([design.scale(row / row[0]) for row in fit.penalties])
        else:
            coef = np.zeros((len(T), X.shape[1]))
            for rows in (slice(i, i + 256) for i in range(0, len(X), 256)):  # X'a in float64
                coef += T[:, rows] @ (X[rows] - self.mean_)
            for g, columns in enumerate(self.groups_.values()):
                coef[:, columns] /= (fit.penalties[:, g] / fit.penalties[:, 0])[:, None]
        coef[:, self.free_] = np.stack([solution.c for solution in fit.solutions]) @ self.free_basis_.T
        return np.asarray(coef)

    def _free_columns(self, X: Array) -> Array:
        """Unpenalised columns, centred; constant and dependent ones take no part (their coefficient is 0)."""
        C: Array = X[:, self.free_].astype(np.float64) - self.mean_[self.free_]
        scale = C.std(axis=0)
        use = scale > 1e-10 * np.maximum(np.abs(self.mean_[self.free_]), 1e-10)
        self.free_basis_ = np.zeros((len(self.free_), int(use.sum())))
        self.free_basis_[use, np.arange(use.sum())] = 1.0
        C = C[:, use]
        return C

    def _keep(self, fit: PathFit, coefficients: Array) -> None:
        single = len(self.groups_) == 1
        penalties = fit.penalties[: fit.asked]
        self.alphas_ = penalties[:, 0] if single else penalties
        self.coef_path_ = coefficients[: fit.asked]
        self.coef_ = coefficients[fit.at]
        self.alpha_ = float(fit.penalty[0]) if single else dict(zip(self.groups_, map(float, fit.penalty)))
        self.n_iter_ = sum(s.newton for s in fit.solutions)

    def _check_settings(self) -> None:
        if self.ties not in ("efron", "breslow"):
            raise InputError(f'ties: got {self.ties!r}; expected "efron" or "breslow".')
        kind, _, device = self.solver.partition(":")
        if kind not in ("auto", "gram", "primal") or (device and kind != "primal"):
            raise InputError(
                f'solver: got {self.solver!r}; expected "auto", "gram", "primal" or, with a torch device, such as '
                '"primal:cuda".'
            )

    def divide_columns(self, p: int) -> dict[str, Array]:
        """Columns of each penalty group, by name, where X has p of them; kept as `groups_`, the others as `free_`.

        Raises
        ------
        InputError
            A column does not exist or is in two groups.
        """
        self.free_ = _columns("unpenalized", self.unpenalized, p)
        taken = np.zeros(p, bool)
        taken[self.free_] = True
        self.groups_: dict[str, Array] = {}
        named = self.penalty_groups or {}
        if not isinstance(named, Mapping):
            named = {str(i): members for i, members in enumerate(named)}
        for name, members in named.items():
            columns = _columns(f"penalty_groups[{name!r}]", members, p)
            if taken[columns].any():
                raise InputError(
                    f"penalty_groups: column {columns[taken[columns]][0]} of {name!r} is in use twice."
                )
            taken[columns] = True
            self.groups_[str(name)] = columns
        rest = np.flatnonzero(~taken)
        if len(rest) or not self.groups_:
            self.groups_["rest" if self.groups_ else "all"] = rest
        return self.groups_


@dataclass(frozen=True)
class PathFit:
    """A path: penalties (m, groups), their solutions and which of them was chosen.

    The first `asked` penalties are those asked for; a chosen one that is not among them comes last.
    """

    penalties: Array
    solutions: list[Solution]
    at: int
    asked: int
    choice: Choice | None

    @property
    def penalty(self) -> Array:
        row: Array = self.penalties[self.at]
        return row

    @property
    def solution(self) -> Solution:
        return self.solutions[self.at]


def _columns(name: str, members: Any, p: int) -> Array:
    if members is None:
        return np.zeros(0, int)
    columns = np.asarray(members)
    if columns.dtype == bool:
        columns = np.flatnonzero(columns) if columns.shape == (p,) else np.array([-1])
    columns = np.unique(columns.astype(int))
    if len(columns) and (columns[0] < 0 or columns[-1] >= p):
        raise InputError(f"{name}: expected column indices in [0, {p}) or a mask of length {p}.")
    return columns
