"""scikit-learn's own checks of estimators, on every estimator of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import column_or_1d

from stylegan_surv.survival import CoxElasticNet, CoxRidge, DeepSurv, SurvivalForest


def outcome_of(y: Any) -> Any:
    """scikit-learn's targets as an outcome: whoever has the larger target dies later; nobody is censored."""
    if y is None:
        return None
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN or infinity.")
    _, rank = np.unique(y.astype(str) if y.dtype == object else y, return_inverse=True)
    outcome = np.empty(len(y), [("event", bool), ("time", float)])
    outcome["event"], outcome["time"] = True, rank + 1.0
    return outcome


def adapted(estimator: BaseEstimator) -> BaseEstimator:
    """The estimator with `outcome_of` before its fit and score."""
    kind = type(estimator)

    class Adapted(kind):  # type: ignore[valid-type, misc]
        __module__ = __name__

        def fit(self, X: Any, y: Any = None, **others: Any) -> Any:
            return super().fit(X, outcome_of(y), **others)

        def score(self, X: Any, y: Any = None, **others: Any) -> float:
            return super().score(X, outcome_of(y), **others)

    Adapted.__name__ = Adapted.__qualname__ = f"Adapted{kind.__name__}"
    globals()[Adapted.__name__] = Adapted  # where pickle looks for it
    return Adapted(**estimator.get_params(deep=False))


# the reason of each; LateFusion and ClinicalDesign are not here, as their X is no matrix (a pair, a table)
EXPECTED_FAILURES = {
    "AdaptedCoxRidge": {
        "check_estimators_empty_data_messages": "without a column it is the null model, which a study needs whose "
        "covariates are all constant in a fold"
    }
}


@parametrize_with_checks(
    [
        adapted(CoxRidge(alphas=(1.0,))),
        adapted(CoxElasticNet(alphas=(0.1,))),
        adapted(SurvivalForest("rsf", n_estimators=3)),
        adapted(DeepSurv(max_epochs=3)),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {}),
)
def test_scikit_learn_accepts_the_estimator(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)
