"""Survival analysis on StyleGAN2 latents of portrait photographs.

Names are imported on first use, so that ``import stylegan_surv`` stays fast and torch-free.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Cohort": "cohort",
    "read_cohort": "cohort",
    "split_cohort": "cohort",
    "align": "faces",
    "load_generator": "gan",
    "load_discriminator": "gan",
    "load_encoder": "inversion",
    "Latents": "inversion",
    "embed": "inversion",
    "simulate_cohort": "simulate",
    "Study": "study",
    "StudySettings": "study",
    "evaluate": "study",
    "fit": "study",
    "health_attribute": "attribute",
    "InputError": "errors",
    "Refused": "errors",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
