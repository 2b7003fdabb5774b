"""Survival models on latents: outcome, design, Cox regression, engines, nested cross-validation, metrics.

Statistics only: no picture, no network, no cohort file. A file imports only from those further left:

    design, outcome, metrics.kaplan_meier, validation.{folds, out_of_fold}
    → cox.{partial, plain, newton, gram, primal, path}
    → metrics.{censoring, pairs, concordance, resamples, accuracy, calibration, summary, table, external}
    → engines.base → cox.ridge → engines.{elasticnet, components, forests, deepsurv, fusion, registry, persist}
    → validation.{gram_cv, nested}

The public names are those of this module. Saved models carry them (``stylegan_surv.survival.CoxRidge``), so that
a class may move to another file and old models still load.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Outcome": "outcome",
    "compare_groups": "bridge",
    "to_lifelines": "bridge",
    "to_scikit_survival": "bridge",
    "patient_matrix": "design",
    "layer_groups": "design",
    "strata_from": "design",
    "ClinicalDesign": "design",
    "CoxRidge": "cox.ridge",
    "CurvedDesign": "engines.curved",
    "CoxElasticNet": "engines.elasticnet",
    "DeepSurv": "engines.deepsurv",
    "SurvivalForest": "engines.forests",
    "Forecast": "engines.forests",
    "LateFusion": "engines.fusion",
    "Prognosis": "engines.prognosis",
    "MODELS": "engines.registry",
    "make_model": "engines.registry",
    "OutOfFold": "validation.out_of_fold",
    "Validation": "validation.nested",
    "nested_cv": "validation.nested",
    "make_folds": "validation.folds",
    "leave_group_out": "validation.folds",
    "temporal_split": "validation.folds",
    "GramCV": "validation.gram_cv",
    "save_model": "engines.persist",
    "load_model": "engines.persist",
    "concordance": "metrics.concordance",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
