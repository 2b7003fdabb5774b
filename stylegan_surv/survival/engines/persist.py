"""Fitted models on disk: a folder with ``model.skops``, ``card.json`` and ``card.md``, and never a pickle.

skops rebuilds objects from a zip of JSON and arrays, and only of types that the reader trusts. The list here
names every type that our models are made of; a file with any other type is refused before anything is built.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import skops.io

from stylegan_surv.errors import InputError, Refused

MODEL, CARD, CARD_TEXT = "model.skops", "card.json", "card.md"
PACKAGES = ("stylegan-surv", "numpy", "scikit-learn", "scikit-survival", "skops")

TRUSTED = frozenset(
    {
        "stylegan_surv.survival.cox.ridge.CoxRidge",
        "stylegan_surv.survival.engines.deepsurv.DeepSurv",
        "stylegan_surv.survival.design.ClinicalDesign",
        "stylegan_surv.survival.engines.elasticnet.CoxElasticNet",
        "stylegan_surv.survival.engines.forests.Forecast",
        "stylegan_surv.survival.engines.forests.SurvivalForest",
        "stylegan_surv.survival.engines.fusion.LateFusion",
        "sksurv.ensemble.forest.ExtraSurvivalTrees",
        "sksurv.ensemble.forest.RandomSurvivalForest",
        "sksurv.functions.StepFunction",
        "sksurv.linear_model.coxnet.CoxnetSurvivalAnalysis",
        "sksurv.linear_model.coxph.BreslowEstimator",
        "sksurv.tree.tree.ExtraSurvivalTree",
        "sksurv.tree.tree.SurvivalTree",
        "sklearn.tree._tree.Tree",
    }
)


def save_model(model: Any, folder: str | Path, card: Mapping[str, Any] | None = None) -> Path:
    """Write a fitted estimator and its card; each file is renamed into place when it is complete.

    Parameters
    ----------
    model : estimator of this package, or a Pipeline of them with scikit-learn's transformers
    folder : path
        Made if need be. The direction that the attribute needs is written beside by `save_attribute`.
    card : dict, optional
        What a reader must know (cohort, latents, performance). Package versions and the number of columns are added.

    Raises
    ------
    Refused
        If the model holds a type that `load_model` would not read back.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"_{MODEL}.partial"
    skops.io.dump(model, partial)
    try:
        _check_types(partial, f"{type(model).__name__} cannot be saved")
        full = dict(card or {})
        full["model"] = {"class": type(model).__name__, "parameters": _plain(model.get_params(deep=False))}
        full["n_features"] = int(getattr(model, "n_features_in_", 0))
        full["versions"] = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        partial.replace(folder / MODEL)
    finally:
        partial.unlink(missing_ok=True)
    _write(folder / CARD, json.dumps(full, indent=1, default=_plain))
    _write(folder / CARD_TEXT, card_text(full))
    return folder


def load_model(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """(model, card) of a folder that `save_model` wrote; predicts as the saved model did, to the last bit.

    Raises
    ------
    InputError
        If the folder holds no model, or it cannot be rebuilt with the installed packages.
    Refused
        If the file holds a type that is not on the list.
    """
    folder = Path(folder)
    path = folder / MODEL
    if not path.is_file():
        raise InputError(f"{folder} holds no {MODEL}; give the model folder of a study, such as study/model.")
    card = json.loads((folder / CARD).read_text(encoding="utf-8")) if (folder / CARD).is_file() else {}
    _check_types(path, f"{path} is not read")
    try:
        return skops.io.load(path, trusted=sorted(TRUSTED)), card
    except Exception as fault:
        raise InputError(
            f"{path} cannot be rebuilt ({type(fault).__name__}: {fault}); it was written with "
            f"{card.get('versions', 'unknown versions')}. Install those versions or fit the model again."
        ) from fault


def _check_types(path: Path, what: str) -> None:
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - TRUSTED
    except Exception as fault:
        raise InputError(
            f"{what}: it is not a readable skops file ({type(fault).__name__}: {fault})."
        ) from fault
    if unknown:
        raise Refused(
            f"{what}: it holds the types {sorted(unknown)}, which are not among those that make up "
            "our models. Only models of stylegan-surv and pipelines of scikit-learn are supported."
        )


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = ["# Survival model", ""]
    for key, value in card.items():
        if isinstance(value, Mapping):
            lines += [f"## {key}", ""] + [f"- {k}: {_short(v)}" for k, v in value.items()] + [""]
        else:
            lines += [f"- {key}: {_short(value)}"]
    lines += [
        "",
        "The model describes an association in one cohort. It is no medical device: validate it on patients "
        "of your own before you believe it.",
        "",
    ]
    return "\n".join(lines)


def _short(value: Any, most: int = 300) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    return text if len(text) <= most else text[:most] + " …"


def _plain(value: Any) -> Any:
    """JSON of what parameters hold: numbers, names, sizes of arrays."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return value.tolist() if value.size <= 32 else f"array of shape {list(value.shape)}"
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"_{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
