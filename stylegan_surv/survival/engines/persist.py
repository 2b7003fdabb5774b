"""Fitted models on disk: a folder with ``model.skops``, ``card.json`` and ``card.md``, and never a pickle.

skops rebuilds objects from a zip of JSON and arrays, and only of types that the reader trusts. The list here
names every type that our models are made of; a file with any other type is refused before anything is built.
Our own classes stand in it by their public names, so that a class may move to another file of the package and a
model that was saved before still loads.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import skops.io
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from stylegan_surv._files import partial_name, write_json, write_text
from stylegan_surv._records import check_format, first_fault
from stylegan_surv.errors import InputError, Refused

FORMAT = 1  # of the card and of what the model file holds
MOST_HORIZONS = 1000  # more are no question that a study asks; a card is read from strangers
MODEL, CARD, CARD_TEXT = "model.skops", "card.json", "card.md"
PACKAGES = ("stylegan-surv", "numpy", "scikit-learn", "scikit-survival", "skops")

TRUSTED = frozenset(
    {
        "stylegan_surv.survival.ClinicalDesign",
        "stylegan_surv.survival.CoxElasticNet",
        "stylegan_surv.survival.CoxRidge",
        "stylegan_surv.survival.CurvedDesign",
        "stylegan_surv.survival.DeepSurv",
        "stylegan_surv.survival.Forecast",
        "stylegan_surv.survival.LateFusion",
        "stylegan_surv.survival.Prognosis",
        "stylegan_surv.survival.SurvivalForest",
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


class Training(BaseModel):
    """Keyed hashes of the patients whom a model was fitted on, and the key."""

    salt: str = ""
    patients: list[str] = []


class ModelCard(BaseModel):
    """What is read from a model's card; it may say more.

    Attributes
    ----------
    format : int
        Version of the files.
    n_features : int
        Columns that the model was fitted with; 0 where it does not tell.
    horizons : list of float
        Times at which risks are stated.
    versions : dict of str to str
        Packages that wrote it.
    latents : dict
        Metadata of the latents that it was fitted on.
    time_unit, time_origin : str
        Unit of its times, and what its time zero is, in words.
    clinical : list of str
        Covariates that its clinical models take.
    causes : int
        Causes of death that it tells apart.
    training : dict
        ``salt`` and ``patients``: keyed hashes of those whom it was fitted on.
    model : dict
        ``class`` and ``parameters`` of the estimator.
    """

    model_config = ConfigDict(extra="allow")

    format: int
    n_features: Annotated[int, Field(ge=0)] = 0
    horizons: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(max_length=MOST_HORIZONS)] = []
    versions: dict[str, str] = {}
    latents: dict[str, Any] = {}
    time_unit: str = "years"
    time_origin: str = ""
    clinical: list[str] = []
    causes: Annotated[int, Field(ge=1)] = 1
    training: Training = Field(default_factory=Training)
    model: dict[str, Any] = {}


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
    partial = partial_name(folder / MODEL)
    skops.io.dump(model, partial)
    try:
        _check_types(partial, f"{type(model).__name__} cannot be saved")
        full = dict(card or {}) | {"format": FORMAT}
        full["model"] = {"class": type(model).__name__, "parameters": _plain(model.get_params(deep=False))}
        full["n_features"] = int(getattr(model, "n_features_in_", 0))
        full["versions"] = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        partial.replace(folder / MODEL)
    finally:
        partial.unlink(missing_ok=True)
    write_json(folder / CARD, _plain(full))
    write_text(folder / CARD_TEXT, card_text(full))
    return folder


def load_model(folder: str | Path) -> tuple[Any, ModelCard]:
    """Read what `save_model` wrote; the model predicts as the saved one did, to the last bit.

    Returns
    -------
    model : estimator
    card : ModelCard

    Raises
    ------
    InputError
        If the folder holds no model or a damaged card, if it is of another format, or if the model cannot be rebuilt
        with the installed packages.
    Refused
        If the file holds a type that is not on the list.
    """
    folder = Path(folder)
    path = folder / MODEL
    if not path.is_file():
        raise InputError(f"{folder} holds no {MODEL}; give the model folder of a study, such as study/model.")
    card = read_model_card(folder)
    _check_types(path, f"{path} is not read")
    try:
        return skops.io.load(path, trusted=sorted(TRUSTED)), card
    except Exception as fault:
        raise InputError(
            f"{path} cannot be rebuilt ({type(fault).__name__}: {fault}); it was written with "
            f"{card.versions or 'unknown versions'}. Install those versions or fit the model again."
        ) from fault


def read_model_card(folder: str | Path) -> ModelCard:
    """The card of a fitted model, checked.

    Raises
    ------
    InputError
        If there is none, if it is damaged, or if it is of another format.
    """
    path = Path(folder) / CARD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            check_format(record.get("format"), FORMAT, path)
        return ModelCard.model_validate(record)
    except OSError as fault:
        raise InputError(f"{folder} has no readable {CARD} ({fault}). Fit the model again.") from fault
    except ValidationError as fault:
        raise InputError(f"{path} is damaged: {first_fault(fault)}. Fit the model again.") from fault
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise InputError(f"{path} is damaged ({fault}). Fit the model again.") from fault


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
