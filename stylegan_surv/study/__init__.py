"""The whole study in two calls: ``evaluate`` cross-validates, ``fit`` gives the model for use on new patients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Study": "result",
    "StudyData": "data",
    "StudySettings": "settings",
    "evaluate": "evaluation",
    "fit": "final",
    "predict": "prediction",
    "validate": "external",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
