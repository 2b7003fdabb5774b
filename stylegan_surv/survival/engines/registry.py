"""Models by name, ready for a fold: what `--model` and `nested_cv` take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.design import layer_groups
from stylegan_surv.survival.engines.curved import CLINICAL_ALPHA, CurvedDesign
from stylegan_surv.survival.engines.deepsurv import DeepSurv
from stylegan_surv.survival.engines.elasticnet import CoxElasticNet
from stylegan_surv.survival.engines.forests import SurvivalForest

INNER_FOLDS = 5
Shape = tuple[int, int]  # num_ws and w_dim of a patient's W+


def _cox_ridge(_: Shape | None) -> CoxRidge:
    return CoxRidge(cv=INNER_FOLDS, unpenalized_alpha=CLINICAL_ALPHA)


def _cox_ridge_groups(shape: Shape | None) -> CoxRidge:
    if shape is None:
        raise InputError("cox-ridge-groups: needs num_ws and w_dim, to know which columns are which layer's.")
    model: CoxRidge = _cox_ridge(shape).set_params(penalty_groups=layer_groups(*shape))
    return model


def _cox_elasticnet(_: Shape | None) -> CoxElasticNet:
    return CoxElasticNet(cv=INNER_FOLDS)


def _random_forest(_: Shape | None) -> SurvivalForest:
    return SurvivalForest("rsf")


def _extra_trees(_: Shape | None) -> SurvivalForest:
    return SurvivalForest("extra-trees")


def _deepsurv(_: Shape | None) -> DeepSurv:
    return DeepSurv()


def _clinical(_: Shape | None) -> Pipeline:
    return make_pipeline(CurvedDesign(), CoxRidge(alphas=(CLINICAL_ALPHA,)))


def _nuisance(_: Shape | None) -> Pipeline:
    return make_pipeline(StandardScaler(), CoxRidge(cv=INNER_FOLDS))


MODELS: dict[str, Callable[[Shape | None], Any]] = {
    "cox-ridge": _cox_ridge,
    "cox-ridge-groups": _cox_ridge_groups,
    "cox-elasticnet": _cox_elasticnet,
    "rsf": _random_forest,
    "extra-trees": _extra_trees,
    "deepsurv": _deepsurv,
    "clinical": _clinical,
    "nuisance": _nuisance,
}


def make_model(name: str, num_ws: int | None = None, w_dim: int | None = None) -> Any:
    """An unfitted estimator by name, with the settings that a study uses; ``set_params`` changes them.

    Parameters
    ----------
    name : str
        "cox-ridge" (penalty by inner cross-validation), "cox-ridge-groups" (a penalty for coarse, middle and
        fine layers), "cox-elasticnet", "rsf", "extra-trees", "deepsurv"; "clinical" takes a DataFrame of
        covariates, "nuisance" any small numeric matrix.
    num_ws, w_dim : int, optional
        Shape of a patient's W+; needed for the layer groups.

    Returns
    -------
    scikit-learn estimator

    Examples
    --------
    >>> make_model("rsf").set_params(n_estimators=20).n_estimators
    20
    """
    if name not in MODELS:
        raise InputError(f"model: got {name!r}, expected one of {', '.join(MODELS)}.")
    return MODELS[name](None if num_ws is None or w_dim is None else (num_ws, w_dim))
