"""What every risk model here shares: baseline hazards, survival curves, Harrell's C, and checks of its input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.metrics.concordance import concordance
from stylegan_surv.survival.outcome import Outcome, as_strata, as_weight, split_y

POOLED = -1  # code of the baseline of all strata together


class SurvivalModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose `predict` gives a risk, higher for worse.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : array of str, shape (n_features_in_,)
        Only where `fit` was given a DataFrame.
    """

    least_columns = 1
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _matrix(self, X: Any, *, reset: bool) -> Array:
        """X by `check_matrix`; a fit (`reset`) learns the columns' number and names, later calls are held to them."""
        checked = check_matrix(X, self.least_columns)
        try:
            validate_data(self, X, reset=reset, skip_check_array=True)
        except ValueError as fault:
            raise InputError(f"{fault} Give the columns that the model was fitted with.") from None
        return checked

    def predict(self, X: Any) -> Array:
        raise NotImplementedError

    def score(
        self,
        X: Any,
        y: Array,
        *,
        entry: Array | None = None,
        strata: Array | None = None,
        sample_weight: Array | None = None,
    ) -> float:
        """Harrell's C of `predict`; pairs within strata only, at risk together, if these are given."""
        event, time = split_y(y)
        found = concordance(
            time, event, self.predict(X), entry=entry, strata=strata, sample_weight=sample_weight
        )
        return float(found.estimate)


class RiskModel(SurvivalModel):
    """A log hazard ratio from `predict`, and survival curves from a baseline hazard of the training rows."""

    def _keep_baseline(self, outcome: Outcome, eta: Array, ties: str) -> None:
        """Baselines by stratum, and one for all (stratum POOLED) if there are several."""
        code, time, hazard = PartialLikelihood.of(outcome, ties).baseline(eta)
        self.strata_ = None if outcome.strata is None else np.unique(outcome.strata)
        if self.strata_ is not None:
            pooled = PartialLikelihood.of(replace(outcome, strata=None), ties).baseline(eta)
            code = np.r_[code, np.full(len(pooled[0]), POOLED)]
            time, hazard = np.r_[time, pooled[1]], np.r_[hazard, pooled[2]]
        self.baseline_stratum_, self.baseline_time_, self.baseline_cumulative_hazard_ = code, time, hazard

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
        hazard = self._baseline_hazard(len(risk), times, strata, pool_unseen)
        with np.errstate(over="ignore"):
            survival: Array = np.exp(
                -hazard * np.exp(risk)[:, None], where=hazard > 0, out=np.ones_like(hazard)
            )
        return survival

    def cumulative_hazard(
        self, risk: Array, times: Any, strata: Array | None = None, pool_unseen: bool = False
    ) -> Array:
        """Λ(t | x), shape (n, len(times)), from the log hazard ratio that `predict` gave."""
        hazard = self._baseline_hazard(len(risk), times, strata, pool_unseen)
        with np.errstate(over="ignore"):
            return np.asarray(hazard * np.minimum(np.exp(risk), np.finfo(float).max)[:, None])

    def _baseline_hazard(self, n: int, times: Any, strata: Array | None, pool_unseen: bool) -> Array:
        """Cumulative baseline hazard of each row's stratum at `times`, shape (n, len(times))."""
        check_is_fitted(self, "baseline_time_")
        times = np.atleast_1d(np.asarray(times, float))
        code = self._stratum_codes(strata, n, pool_unseen)
        hazard = np.zeros((n, len(times)))
        for k in np.unique(code):
            own = self.baseline_stratum_ == k
            steps = np.r_[0.0, self.baseline_cumulative_hazard_[own]]
            hazard[code == k] = steps[np.searchsorted(self.baseline_time_[own], times, side="right")]
        return hazard

    def _stratum_codes(self, strata: Array | None, n: int, pool_unseen: bool) -> Array:
        if self.strata_ is None:
            return np.zeros(n, int)
        if strata is None:
            raise InputError(
                f"strata: this model was fitted with the strata {_few(self.strata_)}; "
                "give the stratum of every row to predict_survival_function."
            )
        strata = as_strata(strata)
        unseen = ~np.isin(strata, self.strata_)
        if unseen.any() and not pool_unseen:
            raise InputError(
                f"strata: {unseen.sum()} rows are in strata the model has not seen ({_few(np.unique(strata[unseen]))});"
                f" it knows {_few(self.strata_)}. predict (the risk) needs no stratum."
            )
        return np.where(unseen, POOLED, np.searchsorted(self.strata_, strata))


class LinearRisk(RiskModel):
    """A risk model with coefficients `coef_` (p,) and column means `mean_` (p,)."""

    coef_: Array
    mean_: Array

    def predict(self, X: Any) -> Array:
        """Log hazard ratio against the mean of the training rows, shape (n,); higher is worse."""
        check_is_fitted(self, "coef_")
        X = self._matrix(X, reset=False)
        risk = np.empty(len(X))
        for rows in (slice(i, i + 1024) for i in range(0, len(X), 1024)):  # float64 without a copy of X
            risk[rows] = (X[rows] - self.mean_) @ self.coef_
        return risk


def check_matrix(X: Any, least_columns: int = 0) -> Array:
    """X as a float array (n, p) of finite numbers with at least so many columns; float32 is not copied."""
    if np.ndim(X) != 2:
        raise InputError(
            f"X: got shape {np.shape(X)}, expected (patients, columns). Reshape your data: patient_matrix flattens "
            "W+, and a single patient x is x[None]."
        )
    try:
        X = check_array(
            X, dtype=[np.float64, np.float32], ensure_all_finite=False, ensure_min_features=least_columns
        )
    except ValueError as fault:
        raise InputError(f"X: {fault}") from fault
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
) -> Outcome:
    """Outcome of the rows of a fit, checked; the rows are numbered."""
    event, time = split_y(y)
    for name, value in {"y": time, "entry": entry, "strata": strata, "sample_weight": weight}.items():
        if value is not None and np.shape(value) != (n,):
            raise InputError(f"{name}: got shape {np.shape(value)}, expected ({n},), one for each row of X.")
    weight = None if weight is None else as_weight("sample_weight", weight).astype(np.float64)
    if not (event if weight is None else event & (weight > 0)).any():
        raise InputError(f"y: all {n} rows are censored; the partial likelihood needs at least one event.")
    entry = None if entry is None else np.asarray(entry, float)
    if entry is not None and not (entry < time).all():
        i = int(np.flatnonzero(~(entry < time))[0])
        raise InputError(
            f"entry: row {i} enters at {entry[i]:g} and ends at {time[i]:g}; expected entry < time."
        )
    return Outcome.unchecked(time, event, entry, None if strata is None else as_strata(strata), weight)


def refuse(name: str, **given: Array | None) -> None:
    """InputError for what an estimator cannot take into account, by name."""
    for what, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} cannot take {what} into account. Leave {what} out, or use cox-ridge, which can."
            )


def _few(values: Array, most: int = 6) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} in all)"
