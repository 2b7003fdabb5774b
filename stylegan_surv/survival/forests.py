"""Survival forests on principal components of the latents, on a coarse time grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from stylegan_surv.errors import InputError

from .cox import check_matrix, check_survival
from .outcome import split_y

Array = npt.NDArray[Any]


def refuse(name: str, **given: Array | None) -> None:
    """InputError for what an estimator cannot take into account, by name."""
    for what, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} cannot take {what} into account. Leave {what} out, or use cox-ridge, which can."
            )


class SurvivalForest(BaseEstimator):
    """Random survival forest or extra survival trees on in-fold principal components.

    Parameters
    ----------
    kind : {"rsf", "extra-trees"}
        Ishwaran et al. (2008), Ann. Appl. Stat. 2:841, or extremely randomised trees with the log-rank criterion.
    n_components : int
        Principal components of X that the trees see; at most n - 1 and p.
    n_times : int
        Event times are rounded up to this many quantiles: a tree stores a curve in every leaf, and sorts
        by distinct time in every node.
    n_estimators, min_samples_leaf, max_samples, random_state, n_jobs
        As in scikit-survival.
    """

    refuses = ("entry", "strata")

    def __init__(
        self,
        kind: str = "rsf",
        n_components: int = 50,
        n_times: int = 50,
        n_estimators: int = 100,
        min_samples_leaf: int = 15,
        max_samples: float | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.kind = kind
        self.n_components = n_components
        self.n_times = n_times
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.max_samples = max_samples
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: Array,
        *,
        entry: Array | None = None,
        strata: Array | None = None,
        sample_weight: Array | None = None,
    ) -> SurvivalForest:
        """Fit on X (n, p) and scikit-survival's y (n,). Left truncation and strata are refused."""
        from sksurv.ensemble import ExtraSurvivalTrees, RandomSurvivalForest

        refuse(self.kind, entry=entry, strata=strata)
        kinds = {"rsf": RandomSurvivalForest, "extra-trees": ExtraSurvivalTrees}
        if self.kind not in kinds:
            raise InputError(f"kind: got {self.kind!r}, expected one of {sorted(kinds)}.")
        X = check_matrix(X)
        survival = check_survival(y, len(X), weight=sample_weight)
        self.n_features_in_ = X.shape[1]
        self.pca_ = PCA(
            min(self.n_components, X.shape[1], len(X) - 1),
            svd_solver="randomized",
            random_state=self.random_state,
        )
        Z = self.pca_.fit_transform(X)
        settings: dict[str, Any] = dict(
            n_estimators=self.n_estimators,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        if self.max_samples is not None:
            settings |= dict(max_samples=self.max_samples, bootstrap=True)
        self.forest_ = kinds[self.kind](**settings)
        self.forest_.fit(
            Z, coarsen(survival.event, survival.time, self.n_times), sample_weight=survival.weight
        )
        return self

    def predict(self, X: Any) -> Array:
        """Risk: expected number of events over the grid, shape (n,); higher is worse."""
        check_is_fitted(self, "forest_")
        return np.asarray(self.forest_.predict(self._components(X)), float)

    def predict_survival_function(self, X: Any, times: Any) -> Array:
        """S(t | x), shape (n, len(times)); beyond the last time of the grid the curve stays."""
        check_is_fitted(self, "forest_")
        steps = np.asarray(self.forest_.predict_survival_function(self._components(X), return_array=True))
        steps = np.column_stack([np.ones(len(steps)), steps])
        at = np.searchsorted(self.forest_.unique_times_, np.atleast_1d(times), side="right")
        survival: Array = np.clip(steps[:, at], 0.0, 1.0)
        return survival

    def _components(self, X: Any) -> Array:
        return np.asarray(self.pca_.transform(check_matrix(X, self.n_features_in_)))

    def score(self, X: Any, y: Array) -> float:
        """Harrell's C of `predict`."""
        from sksurv.metrics import concordance_index_censored

        event, time = split_y(y)
        return float(concordance_index_censored(event, time, self.predict(X))[0])


def coarsen(event: Array, time: Array, bins: int) -> Array:
    """y with times rounded up to `bins` quantiles of the event times; later censorings stay at the last."""
    edges = np.unique(np.quantile(time[event], np.linspace(0, 1, bins + 1)[1:]))
    index = np.searchsorted(edges, time, side="left")
    # a censoring inside a bin leaves at its beginning: it was not seen to survive the bin's deaths
    index = np.where(event, index, np.searchsorted(edges, time, side="right") - 1)
    coarse = np.r_[edges, edges[-1]][index.clip(0)]
    y = np.empty(len(time), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event, np.where(index < 0, np.minimum(time, edges[0] / 2), coarse)
    return y
