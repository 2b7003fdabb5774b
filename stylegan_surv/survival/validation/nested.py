"""Nested cross-validation: clinical, photograph and both on the same folds, nothing fitted outside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone

from stylegan_surv._types import Array, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.survival.engines.base import check_matrix
from stylegan_surv.survival.engines.forests import SurvivalForest
from stylegan_surv.survival.engines.fusion import (
    FOLDS,
)
from stylegan_surv.survival.engines.registry import INNER_FOLDS, make_model
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import NEVER, make_folds
from stylegan_surv.survival.validation.one_fold import Arm, Tested, last_step, one_fold
from stylegan_surv.survival.validation.out_of_fold import CHOSEN, OutOfFold

QUARTILES = (0.25, 0.5, 0.75)  # of the event times: the horizons where none are given


@dataclass(frozen=True)
class Validation:
    """How models are cross-validated: settings of `nested_cv`.

    Parameters
    ----------
    folds : int, DataFrame, array or splitter, default 5
        Number of outer folds, stratified by event and stratum; or a division: `OutOfFold.folds`, fold numbers
        of shape (n,) or (repeats, n) as `leave_group_out` and `temporal_split` give them.
    repeats : int, default 1
        Divisions into folds, with different seeds.
    inner : int, default 5
        Folds of the inner cross-validation.
    horizons : sequence of float, optional
        Times for ``S(t)``; by default the quartiles of the event times.
    seed : int, default 0
        Of the divisions into folds.
    linear : bool, default False
        Let every number among the clinical columns act along a line; by default along a penalised spline.
    n_jobs : int, default 1
        Processes over folds (joblib; ``joblib.parallel_config(backend="dask")`` spreads them over a cluster).
    """

    folds: Any = 5
    repeats: int = 1
    inner: int = INNER_FOLDS
    horizons: Sequence[float] | None = None
    seed: int = 0
    linear: bool = False
    n_jobs: int = 1


def nested_cv(
    models: str | Sequence[str] | Mapping[str, Any],
    X: Array,
    outcome: Outcome,
    validation: Validation | None = None,
    *,
    clinical: pd.DataFrame | None = None,
    groups: Array | None = None,
    extra_matrices: Mapping[str, Array | pd.DataFrame] | None = None,
    shape: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> OutOfFold:
    """Out-of-fold risks and survival probabilities of every model on the same folds.

    For every latent model M: ``photo`` is M on X; with `clinical`, ``clinical`` is a Cox model of these
    covariates and ``both`` is M with the covariates unpenalised beside the latents (Cox models) or a Cox model
    of the two scores (forests, DeepSurv: `LateFusion`). The first model has these plain names, further ones
    ``photo/<name>`` and ``both/<name>``. Imputation, scaling, principal components and hyperparameters are
    fitted on the training patients of each fold.

    Parameters
    ----------
    models : str, list of str, or dict of str to estimator
        Names for `make_model`, or estimators (unfitted; inner cross-validation as they are set).
    X : array of float32, shape (n, p)
        Latents of the patients, rows in the order of `outcome`.
    outcome : Outcome
        Entry, strata and weights are used in every fit; models that cannot are refused.
    validation : Validation, optional
        Folds, repeats, horizons, seed; ``Validation()`` by default.
    clinical : DataFrame, shape (n, columns), optional
        Covariates, rows in the order of `outcome`.
    groups : array, shape (n,), optional
        Patients of one group (family, centre) stay in one fold.
    extra_matrices : dict of str to array or DataFrame, optional
        Further feature matrices, e.g. ``{"nuisance": photo_quality}``, each a penalised Cox model; a DataFrame is
        taken as covariates are.
    shape : (int, int), optional
        num_ws and w_dim of the latents, for models by layer group.
    progress : callable, optional
        Called with (done, total) in fits.

    Returns
    -------
    OutOfFold

    Raises
    ------
    InputError
        Rows do not fit together, there are fewer events than folds, or a model cannot take something into
        account that the outcome has.
    """
    how = validation or Validation()
    X = check_matrix(X)
    if len(X) != len(outcome):
        raise InputError(f"X: got {len(X)} rows for {len(outcome)} patients of the outcome.")
    division = make_folds(outcome, how.folds, repeats=how.repeats, groups=groups, seed=how.seed)
    times = _horizons(outcome, how.horizons)
    arms = _arms(_estimators(models, how.inner, shape), X, clinical, how.linear)
    arms += _extra_arms(extra_matrices or {}, len(X), how.inner)
    for arm in arms:
        arm.check(outcome)
    fits = _fits(arms, division)
    _tell_cost(arms, outcome, len(fits) // len(arms))
    shared: dict[int, list[Array] | None] = {}  # by estimator: photo and both have the same Gram matrices
    for arm in arms:
        if id(arm.estimator) not in shared:
            shared[id(arm.estimator)] = arm.gram_matrices()
    calls = [
        joblib.delayed(one_fold)(
            fit.arm, shared[id(fit.arm.estimator)], outcome, groups, times, division[fit.repeat] == fit.fold
        )
        for fit in fits
    ]
    return _collect(fits, _run(how.n_jobs, progress, calls), outcome, division, times)


def _horizons(outcome: Outcome, horizons: Sequence[float] | None) -> tuple[float, ...]:
    if horizons is None:
        outcome.require_events(1, "horizons")
        horizons = np.unique(np.quantile(outcome.time[outcome.event], QUARTILES)).tolist()
    return tuple(float(t) for t in horizons)


# what is fitted in a fold ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """An arm that is fitted without one fold."""

    arm: Arm
    repeat: int
    fold: int


def _fits(arms: Sequence[Arm], division: Array) -> list[Fit]:
    return [
        Fit(arm, repeat, int(fold))
        for repeat, row in enumerate(division)
        for fold in np.unique(row[row != NEVER])
        for arm in arms
    ]


def _tell_cost(arms: Sequence[Arm], outcome: Outcome, fits: int) -> None:
    """Announce what all forests together will take, before anything is fitted; the others take seconds."""
    for arm in arms:
        if not isinstance(arm.estimator, SurvivalForest):
            continue
        forecast = arm.estimator.forecast(arm.X, outcome.y)
        if forecast is not None:
            forests = fits * (1 if arm.clinical is None else 1 + FOLDS)
            forecast.times(forests).announce(f"{arm.name} ({arm.estimator.kind}): {forests} forests")


def _estimators(models: Any, inner: int, shape: tuple[int, int] | None) -> dict[str, Any]:
    if isinstance(models, str):
        models = [models]
    if not isinstance(models, Mapping):
        models = {name: make_model(name, *(shape or ())) for name in models}
    if not models:
        raise InputError("models: got none, expected at least one name, e.g. cox-ridge.")
    return {name: _set_inner(clone(estimator), inner) for name, estimator in models.items()}


def _arms(estimators: Mapping[str, Any], X: Array, clinical: pd.DataFrame | None, linear: bool) -> list[Arm]:
    """The clinical model, and each estimator on the latents without and with the covariates."""
    out = []
    if clinical is not None:
        if len(clinical) != len(X):
            raise InputError(f"clinical: got {len(clinical)} rows for {len(X)} patients.")
        clinical = clinical.reset_index(drop=True)
        alone = make_model("clinical").set_params(curveddesign__linear=linear)
        out.append(Arm("clinical", alone, clinical))
    for i, (name, estimator) in enumerate(estimators.items()):
        suffix = "" if i == 0 else f"/{name}"
        out.append(Arm(f"photo{suffix}", estimator, X))
        if clinical is not None:
            out.append(Arm(f"both{suffix}", estimator, X, clinical, linear))
    return out


def _extra_arms(matrices: Mapping[str, Array | pd.DataFrame], n: int, inner: int) -> list[Arm]:
    out = []
    for name, matrix in matrices.items():
        if len(matrix) != n:
            raise InputError(f"extra_matrices[{name!r}]: got {len(matrix)} rows for {n} patients.")
        if isinstance(matrix, pd.DataFrame):
            out.append(Arm(name, make_model("clinical"), matrix.reset_index(drop=True)))
        else:
            out.append(Arm(name, _set_inner(make_model("nuisance"), inner), check_matrix(matrix)))
    return out


def _set_inner(estimator: Any, inner: int) -> Any:
    last = last_step(estimator)
    if isinstance(getattr(last, "cv", None), (int, np.integer)):
        last.set_params(cv=inner)
    return estimator


# running and collecting ------------------------------------------------------------------------------------


def _run(n_jobs: int, progress: Progress | None, calls: list[Any]) -> list[Tested]:
    """Results in order, telling `progress` as they come."""
    out = []
    for result in joblib.Parallel(n_jobs=n_jobs, return_as="generator")(calls):
        out.append(result)
        if progress is not None:
            progress(len(out), len(calls))
    return out


def _collect(
    fits: list[Fit],
    results: list[Tested],
    outcome: Outcome,
    division: Array,
    times: tuple[float, ...],
) -> OutOfFold:
    names = list(dict.fromkeys(fit.arm.name for fit in fits))
    frames, chosen = [], []
    for fit, result in zip(fits, results):
        name = fit.arm.name
        part = pd.DataFrame({"patient_id": outcome.patient_id[result.test]})
        part = part.assign(repeat=fit.repeat, fold=fit.fold, model=name, risk=result.risk)
        for j, t in enumerate(times):
            part[f"S({t:g})"] = result.survival[:, j]
        frames.append(part.assign(order=names.index(name), row=result.test))
        chosen += [(name, fit.repeat, fit.fold, k, v) for k, v in result.chosen.items()]
    frame = pd.concat(frames).sort_values(["order", "repeat", "row"]).drop(columns=["order", "row"])
    folds = pd.concat(
        pd.DataFrame({"patient_id": outcome.patient_id, "repeat": r, "fold": f})
        for r, f in enumerate(division)
    )
    return OutOfFold(
        frame.reset_index(drop=True),
        times,
        folds.reset_index(drop=True),
        pd.DataFrame(chosen, columns=list(CHOSEN)),
    )
