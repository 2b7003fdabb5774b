"""Models by name, ready for a fold: what `--model` and `nested_cv` take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.design import ClinicalDesign, layer_groups
from stylegan_surv.survival.engines.deepsurv import DeepSurv
from stylegan_surv.survival.engines.elasticnet import CoxElasticNet
from stylegan_surv.survival.engines.forests import SurvivalForest

INNER_FOLDS = 5
# ridge on clinical coefficients: a level without events stays finite, others hardly move
CLINICAL_ALPHA = 0.1


def _cox_ridge(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    return CoxRidge(**({"cv": INNER_FOLDS, "unpenalized_alpha": CLINICAL_ALPHA} | settings))


def _cox_ridge_groups(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    if num_ws is None or w_dim is None:
        raise InputError("cox-ridge-groups: needs num_ws and w_dim, to know which columns are which layer's.")
    return _cox_ridge(None, None, **({"penalty_groups": layer_groups(num_ws, w_dim)} | settings))


def _cox_elasticnet(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    return CoxElasticNet(**({"cv": INNER_FOLDS} | settings))


def _deepsurv(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    return DeepSurv(**settings)


def _forest(kind: str) -> Callable[..., Any]:
    return lambda num_ws, w_dim, **settings: SurvivalForest(kind, **settings)


def _clinical(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    return make_pipeline(ClinicalDesign(), CoxRidge(**({"alphas": (CLINICAL_ALPHA,)} | settings)))


def _nuisance(num_ws: int | None, w_dim: int | None, **settings: Any) -> Any:
    return make_pipeline(StandardScaler(), CoxRidge(**({"cv": INNER_FOLDS} | settings)))


MODELS: dict[str, Callable[..., Any]] = {
    "cox-ridge": _cox_ridge,
    "cox-ridge-groups": _cox_ridge_groups,
    "cox-elasticnet": _cox_elasticnet,
    "rsf": _forest("rsf"),
    "extra-trees": _forest("extra-trees"),
    "deepsurv": _deepsurv,
    "clinical": _clinical,
    "nuisance": _nuisance,
}


def make_model(name: str, num_ws: int | None = None, w_dim: int | None = None, **settings: Any) -> Any:
    """An unfitted estimator by name.

    Parameters
    ----------
    name : str
        "cox-ridge" (penalty by inner cross-validation), "cox-ridge-groups" (a penalty for coarse, middle and
        fine layers), "cox-elasticnet", "rsf", "extra-trees", "deepsurv"; "clinical" takes a DataFrame of
        covariates, "nuisance" any small numeric matrix.
    num_ws, w_dim : int, optional
        Shape of a patient's W+; needed for the layer groups.
    **settings
        Passed to the estimator.
    """
    if name not in MODELS:
        raise InputError(f"model: got {name!r}, expected one of {', '.join(MODELS)}.")
    return MODELS[name](num_ws, w_dim, **settings)
