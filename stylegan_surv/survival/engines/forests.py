"""Survival forests on principal components of the latents, on a coarse time grid."""

from __future__ import annotations

import logging
import time as clock
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.engines.base import SurvivalModel, check_matrix, check_survival, refuse
from stylegan_surv.survival.engines.components import principal_components

log = logging.getLogger(__name__)
PILOT = (300, 900)  # patients of the pilot forests; smaller cohorts are fitted without a forecast
PILOT_TREES = 3
BYTES_PER_TIME = 16  # a node keeps a cumulative hazard and a survival probability for each time
LONG, LARGE = 600.0, 4e9  # seconds and bytes from which a fit is announced by a warning


@dataclass(frozen=True)
class Forecast:
    """What a fit is going to cost, from small forests on PILOT patients: `seconds` to grow, `bytes` kept."""

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry

    seconds: float
    bytes: float

    def __str__(self) -> str:
        return f"about {self.seconds:.0f} s and {self.bytes / 1e6:.0f} MB"

    def announce(self, what: str) -> None:
        """Log it; warn where it is much."""
        log.info("%s: %s", what, self)
        if self.seconds > LONG or self.bytes > LARGE:
            warnings.warn(
                f"{what} will take {self}. Fewer trees (n_estimators), max_samples=0.2, a coarser grid (n_times) "
                "or kind='extra-trees' make it cheaper.",
                RuntimeWarning,
                stacklevel=3,
            )

    def times(self, fits: int) -> Forecast:
        """One fit after another: the time adds up, the memory is given back."""
        return replace(self, seconds=fits * self.seconds)


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
    n_estimators, min_samples_leaf, random_state, n_jobs : int
        As in scikit-survival.
    max_samples : int or float, optional
        As in scikit-survival.

    Attributes
    ----------
    forecast_ : Forecast or None
        Predicted before the forest is grown, logged, and a RuntimeWarning if it is more than ten minutes or
        4 GB; None for cohorts of no more than 900. `forecast` tells it without a fit.
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry
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
        refuse(self.kind, entry=entry, strata=strata)
        X = self._matrix(X, reset=True)
        outcome = check_survival(y, len(X), weight=sample_weight)
        self.pca_ = principal_components(X, self.n_components, self.random_state)
        Z = self.pca_.transform(X)
        coarse = coarsen(outcome.event, outcome.time, self.n_times)
        self.forecast_ = self._forecast(Z, coarse)
        if self.forecast_ is not None:
            self.forecast_.announce(f"{self.kind}: this fit")
        self.forest_ = self._make().fit(Z, coarse, sample_weight=outcome.weight)
        return self

    def forecast(self, X: Any, y: Array) -> Forecast | None:
        """What `fit` on X (n, p) and y (n,) is going to cost; None for no more than 900 patients."""
        X = check_matrix(X)
        if len(X) <= PILOT[1]:
            return None
        outcome = check_survival(y, len(X))
        Z = principal_components(X, self.n_components, self.random_state).transform(X)
        return self._forecast(Z, coarsen(outcome.event, outcome.time, self.n_times))

    def _make(self, **other: int) -> Any:
        from sksurv.ensemble import ExtraSurvivalTrees, RandomSurvivalForest

        kinds = {"rsf": RandomSurvivalForest, "extra-trees": ExtraSurvivalTrees}
        if self.kind not in kinds:
            raise InputError(f"kind: got {self.kind!r}, expected one of {sorted(kinds)}.")
        settings: dict[str, Any] = dict(
            n_estimators=self.n_estimators,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        if self.max_samples is not None:
            settings |= dict(max_samples=self.max_samples, bootstrap=True)
        return kinds[self.kind](**(settings | other))

    def _forecast(self, Z: Array, y: Array) -> Forecast | None:
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
            pilot = self._make(n_estimators=PILOT_TREES, n_jobs=1).fit(Z[some], y[some])
            spent.append(clock.process_time() - begin)
        more = len(Z) / PILOT[1]
        exponent = np.clip(np.log(spent[1] / spent[0]) / np.log(PILOT[1] / PILOT[0]), 1.0, 2.0)
        trees = self.n_estimators / PILOT_TREES
        nodes = sum(tree.tree_.node_count for tree in pilot.estimators_) * more * trees
        seconds = spent[1] * more**exponent * trees / effective_n_jobs(self.n_jobs)
        return Forecast(seconds, nodes * len(pilot.unique_times_) * BYTES_PER_TIME)

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
        return np.asarray(self.pca_.transform(self._matrix(X, reset=False)))


def coarsen(event: Array, time: Array, bins: int) -> Array:
    """y with times rounded up to `bins` quantiles of the event times; censorings are rounded down.

    A censoring inside a bin leaves at its beginning: it was not seen to survive the bin's deaths. Those after the
    last death leave together.
    """
    edges = np.unique(np.quantile(time[event], np.linspace(0, 1, bins + 1)[1:]))
    index = np.where(event, np.searchsorted(edges, time), np.searchsorted(edges, time, side="right") - 1)
    coarse = np.where(index < 0, np.minimum(time, edges[0] / 2), edges[index.clip(0)])
    later = time > edges[-1]
    coarse[later] = time[later].min(initial=np.inf)
    if (coarse == coarse[0]).all():
        raise InputError(
            f"forest: all {len(time)} patients leave at time {time[0]:g}, so that nobody outlives anybody; expected "
            "at least two times. Check the time column."
        )
    y = np.empty(len(time), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event, coarse
    return y
