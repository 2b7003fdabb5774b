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
    "CoxRidge": "cox",
    "CoxElasticNet": "elasticnet",
    "DeepSurv": "deepsurv",
    "SurvivalForest": "forests",
    "LateFusion": "fusion",
    "MODELS": "models",
    "make_model": "models",
    "OutOfFold": "validate",
    "nested_cv": "validate",
    "make_folds": "validate",
    "leave_group_out": "validate",
    "temporal_split": "validate",
    "GramCV": "validate",
    "save_model": "persist",
    "load_model": "persist",
    "concordance": "_concordance",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
