"""Survival models on latents: outcome, design, engines, nested cross-validation, metrics and controls."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Outcome": "outcome",
    "patient_matrix": "design",
    "layer_groups": "design",
    "strata_from": "design",
    "ClinicalDesign": "design",
    "CoxRidge": "cox.ridge",
    "CoxElasticNet": "engines.elasticnet",
    "DeepSurv": "engines.deepsurv",
    "SurvivalForest": "engines.forests",
    "LateFusion": "engines.fusion",
    "MODELS": "engines.registry",
    "make_model": "engines.registry",
    "OutOfFold": "validation.nested",
    "nested_cv": "validation.nested",
    "make_folds": "validation.nested",
    "leave_group_out": "validation.nested",
    "temporal_split": "validation.nested",
    "GramCV": "validation.nested",
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
