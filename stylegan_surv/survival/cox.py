"""Ridge-penalised Cox regression for thousands of latent dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from stylegan_surv.errors import InputError

from ._folds import as_folds
from ._gram import gram
from ._newton import Solution
from ._path import Choice, GramDesign, PrimalDesign, RidgeDesign, Survival, penalty_rows
from ._primal import Products
from .outcome import split_y

Array = npt.NDArray[Any]
N_ALPHAS = 12
GRAM_LIMIT = 3000  # patients up to which the Gram matrix is the faster way (with more columns than patients)
POOLED = -1  # code of the baseline of all strata together


class CoxRidge(BaseEstimator):
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
    penalty_groups : dict of str to indices, optional
        Columns of every group with a penalty of its own, e.g. ``layer_groups(num_ws, w_dim)``. Penalised columns
        that no group names form the group ``"rest"``.
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
    solver : {"auto", "gram", "primal"}
        "gram" works with the n x n Gram matrix, "primal" with X itself (large n).
    device : str, optional
        torch device for the primal solver's products, for example "cuda"; numpy on the CPU by default.

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
    n_iter_ : int
        Newton steps over the whole path.

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
        penalty_groups: Mapping[str, Any] | None = None,
        unpenalized: Any = None,
        cv: Any = None,
        one_se: bool = False,
        unpenalized_alpha: float = 0.0,
        tol: float = 1e-7,
        solver: str = "auto",
        device: str | None = None,
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
        self.device = device

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
        X = check_matrix(X)
        survival = check_survival(y, len(X), entry, strata, sample_weight)
        self._check_settings()
        self._divide_columns(X.shape[1])
        self.n_features_in_ = X.shape[1]
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        design = self._design(X)
        fit = self.fit_design(design, survival, groups)
        if fit.choice is not None:
            self.cv_alphas_, self.cv_scores_ = fit.choice.penalties, fit.choice.scores
        self._keep(fit, self._coefficients(X, design, fit))
        self._keep_baseline(survival, fit.solution.eta)
        return self

    def _design(self, X: Array) -> RidgeDesign:
        n, p = X.shape
        C, columns = self._free_columns(X), list(self.groups_.values())
        settings = (C, self.unpenalized_alpha, self.ties, self.tol)
        on_gram = (
            n <= GRAM_LIMIT and n < p and self.device is None
            if self.solver == "auto"
            else self.solver == "gram"
        )
        if on_gram:
            return GramDesign([gram(X, c) for c in columns], *settings)
        return PrimalDesign(Products(X, self.device), self.mean_, columns, *settings)

    def fit_design(self, design: RidgeDesign, survival: Survival, groups: Array | None = None) -> PathFit:
        """Path and chosen penalty without the coefficients (`nested_cv` has one design for all folds)."""
        names = list(self.groups_)
        if isinstance(self.alphas, (int, np.integer)):
            penalties = design.grid(int(self.alphas))
        else:
            penalties = penalty_rows(self.alphas, names)
        choice = self._choose(design, survival, penalties, groups)
        if choice is not None:
            chosen = choice.penalty
        else:
            chosen = penalties[-1] if self.alpha is None else penalty_rows([self.alpha], names)[0]
        known = np.flatnonzero((penalties == chosen).all(axis=1))
        path = penalties if len(known) else np.vstack([penalties, chosen])
        at = int(known[-1]) if len(known) else len(penalties)
        return PathFit(path, design.path(survival, path), at, len(penalties), choice)

    def _choose(
        self, design: RidgeDesign, survival: Survival, penalties: Array, groups: Array | None
    ) -> Choice | None:
        if self.cv is None:
            return None
        folds = as_folds(self.cv, survival.event, strata=survival.strata, groups=groups)
        common = isinstance(self.alphas, (int, np.integer)) or all(np.ndim(a) == 0 for a in self.alphas)
        return design.choose(survival, penalties, folds, one_se=self.one_se, search_groups=common)

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

    def _keep_baseline(self, survival: Survival, eta: Array) -> None:
        """Baselines by stratum, and one for all (stratum POOLED) if there are several."""
        code, time, hazard = survival.likelihood(self.ties).baseline(eta)
        self.strata_ = None if survival.strata is None else np.unique(survival.strata)
        if self.strata_ is not None:
            pooled = replace(survival, strata=None).likelihood(self.ties).baseline(eta)
            code = np.r_[code, np.full(len(pooled[0]), POOLED)]
            time, hazard = np.r_[time, pooled[1]], np.r_[hazard, pooled[2]]
        self.baseline_stratum_, self.baseline_time_, self.baseline_cumulative_hazard_ = code, time, hazard

    def _check_settings(self) -> None:
        if self.ties not in ("efron", "breslow"):
            raise InputError(f'ties: got {self.ties!r}; expected "efron" or "breslow".')
        if self.solver not in ("auto", "gram", "primal"):
            raise InputError(f'solver: got {self.solver!r}; expected "auto", "gram" or "primal".')

    def _divide_columns(self, p: int) -> None:
        """groups_ (name to columns) and free_ (unpenalised columns)."""
        self.free_ = _columns("unpenalized", self.unpenalized, p)
        taken = np.zeros(p, bool)
        taken[self.free_] = True
        self.groups_: dict[str, Array] = {}
        for name, members in dict(self.penalty_groups or {}).items():
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

    # prediction --------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """Log hazard ratio against the mean of the training rows, shape (n,); higher is worse."""
        check_is_fitted(self, "coef_")
        X = check_matrix(X, self.n_features_in_)
        risk = np.empty(len(X))
        for rows in (slice(i, i + 1024) for i in range(0, len(X), 1024)):  # float64 without a copy of X
            risk[rows] = (X[rows] - self.mean_) @ self.coef_
        return risk

    def predict_survival_function(self, X: Any, times: Any, strata: Array | None = None) -> Array:
        """S(t | x) from time 0, shape (n, len(times)), in [0, 1] and not increasing in t.

        Beyond the last death of the stratum the curve stays at its last value. A model with strata needs the
        stratum of every row; one that was not in the training rows is an InputError.
        """
        return self.survival_from_risk(self.predict(X), times, strata)

    def survival_from_risk(
        self, risk: Array, times: Any, strata: Array | None = None, pool_unseen: bool = False
    ) -> Array:
        """As `predict_survival_function`, from the log hazard ratio that `predict` gave.

        With `pool_unseen` rows of an unseen stratum get the baseline hazard of all strata together.
        """
        check_is_fitted(self, "baseline_time_")
        times = np.atleast_1d(np.asarray(times, float))
        code = self._stratum_codes(strata, len(risk), pool_unseen)
        hazard = np.zeros((len(risk), len(times)))
        for k in np.unique(code):
            own = self.baseline_stratum_ == k
            steps = np.r_[0.0, self.baseline_cumulative_hazard_[own]]
            hazard[code == k] = steps[np.searchsorted(self.baseline_time_[own], times, side="right")]
        with np.errstate(over="ignore"):
            survival: Array = np.exp(
                -hazard * np.exp(risk)[:, None], where=hazard > 0, out=np.ones_like(hazard)
            )
        return survival

    def _stratum_codes(self, strata: Array | None, n: int, pool_unseen: bool) -> Array:
        if self.strata_ is None:
            return np.zeros(n, int)
        if strata is None:
            raise InputError(
                f"strata: this model was fitted with the strata {_few(self.strata_)}; "
                "give the stratum of every row to predict_survival_function."
            )
        strata = np.asarray(strata)
        unseen = ~np.isin(strata, self.strata_)
        if unseen.any() and not pool_unseen:
            raise InputError(
                f"strata: {unseen.sum()} rows are in strata the model has not seen ({_few(np.unique(strata[unseen]))});"
                f" it knows {_few(self.strata_)}. predict (the risk) needs no stratum."
            )
        return np.where(unseen, POOLED, np.searchsorted(self.strata_, strata))

    def score(self, X: Any, y: Array) -> float:
        """Harrell's C of `predict`."""
        from sksurv.metrics import concordance_index_censored

        event, time = split_y(y)
        return float(concordance_index_censored(event, time, self.predict(X))[0])


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


def check_matrix(X: Any, columns: int | None = None) -> Array:
    """X as a float array (n, p) without NaN; float32 is not copied."""
    X = np.asarray(X)
    if X.ndim != 2:
        raise InputError(
            f"X: got shape {X.shape}, expected (patients, columns); flatten W+ with patient_matrix."
        )
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if columns is not None and X.shape[1] != columns:
        raise InputError(f"X: got {X.shape[1]} columns, the model was fitted with {columns}.")
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(X.sum(axis=1, dtype=np.float64))  # a NaN or infinity spoils its row's sum
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise InputError(
            f"X: {len(bad)} of {len(X)} rows hold NaN or infinity (rows {bad[:5].tolist()}...); expected finite "
            "numbers. Impute clinical columns with ClinicalDesign; leave out photographs that failed."
        )
    return np.asarray(X)


def check_survival(
    y: Array, n: int, entry: Array | None = None, strata: Array | None = None, weight: Array | None = None
) -> Survival:
    """Outcome arrays of a fit, checked against each other."""
    event, time = split_y(y)
    for name, value in {"y": time, "entry": entry, "strata": strata, "sample_weight": weight}.items():
        if value is not None and np.shape(value) != (n,):
            raise InputError(f"{name}: got shape {np.shape(value)}, expected ({n},), one for each row of X.")
    weight = None if weight is None else np.asarray(weight, float)
    if weight is not None and not (np.isfinite(weight) & (weight >= 0)).all():
        raise InputError("sample_weight: expected finite numbers >= 0.")
    if not (event if weight is None else event & (weight > 0)).any():
        raise InputError(f"y: all {n} rows are censored; the partial likelihood needs at least one event.")
    entry = None if entry is None else np.asarray(entry, float)
    if entry is not None and not (entry < time).all():
        i = int(np.flatnonzero(~(entry < time))[0])
        raise InputError(
            f"entry: row {i} enters at {entry[i]:g} and ends at {time[i]:g}; expected entry < time."
        )
    return Survival(time, event, entry, None if strata is None else np.asarray(strata), weight)


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


def _few(values: Array, most: int = 6) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} in all)"
