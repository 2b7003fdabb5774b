"""Survival forests on principal components of the latents, on a coarse time grid."""

from __future__ import annotations

import logging
import time as clock
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from stylegan_surv.errors import InputError

from ._risk import SurvivalModel, check_matrix, check_survival, refuse

Array = npt.NDArray[Any]


log = logging.getLogger(__name__)
PILOT, PILOT_TREES = (
    (300, 900),
    3,
)  # patients of the pilot forests; smaller cohorts are fitted without a forecast
BYTES_PER_TIME = 16  # a node keeps a cumulative hazard and a survival probability for each time
LONG, LARGE = 600.0, 4e9  # seconds and bytes from which a fit is announced by a warning


@dataclass(frozen=True)
class Forecast:
    """What a fit is going to cost, from small forests on PILOT patients: `seconds` to grow, `bytes` kept."""

    seconds: float
    bytes: float

    def __str__(self) -> str:
        return f"about {self.seconds:.0f} s and {self.bytes / 1e6:.0f} MB"


class SurvivalForest(SurvivalModel):
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

    Attributes
    ----------
    forecast_ : Forecast or None
        Predicted before the forest is grown, logged, and a RuntimeWarning if it is more than ten minutes or
        4 GB; None for cohorts of no more than 900.
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
        coarse = coarsen(survival.event, survival.time, self.n_times)
        self.forecast_ = self._announce(kinds[self.kind], Z, coarse)
        self.forest_ = self._make(kinds[self.kind]).fit(Z, coarse, sample_weight=survival.weight)
        return self

    def _make(self, kind: Any, **other: Any) -> Any:
        settings: dict[str, Any] = dict(
            n_estimators=self.n_estimators,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        if self.max_samples is not None:
            settings |= dict(max_samples=self.max_samples, bootstrap=True)
        return kind(**(settings | other))

    def _announce(self, kind: Any, Z: Array, y: Array) -> Forecast | None:
        """Grow a few trees on some of the patients and extrapolate: time by the exponent seen, memory as n."""
        if len(Z) <= PILOT[1]:
            return None
        order = np.random.default_rng(self.random_state).permutation(len(Z))
        spent = []
        for size in PILOT:
            some = order[:size]
            if not y["event"][some].any():
                return None
            begin = clock.process_time()
            pilot = self._make(kind, n_estimators=PILOT_TREES, n_jobs=1).fit(Z[some], y[some])
            spent.append(clock.process_time() - begin)
        more = len(Z) / PILOT[1]
        exponent = np.clip(np.log(spent[1] / spent[0]) / np.log(PILOT[1] / PILOT[0]), 1.0, 2.0)
        trees = self.n_estimators / PILOT_TREES
        nodes = sum(tree.tree_.node_count for tree in pilot.estimators_) * more * trees
        seconds = spent[1] * more**exponent * trees / effective_n_jobs(self.n_jobs)
        forecast = Forecast(seconds, nodes * len(pilot.unique_times_) * BYTES_PER_TIME)
        log.info("%s: %s", self.kind, forecast)
        if forecast.seconds > LONG or forecast.bytes > LARGE:
            warnings.warn(
                f"{self.kind}: this fit will take {forecast}. Fewer trees (n_estimators), max_samples=0.2, "
                "a coarser grid (n_times) or kind='extra-trees' make it cheaper.",
                RuntimeWarning,
                stacklevel=3,
            )
        return forecast

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
