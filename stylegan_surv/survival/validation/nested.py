"""Nested cross-validation: clinical, photograph and both on the same folds, nothing fitted outside them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from stylegan_surv._types import Array, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.gram import gram
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.base import RiskModel, check_matrix
from stylegan_surv.survival.engines.competing import LEAST_DEATHS, cumulative_incidence_from_hazards
from stylegan_surv.survival.engines.curved import CurvedDesign
from stylegan_surv.survival.engines.forests import SurvivalForest
from stylegan_surv.survival.engines.fusion import (
    FOLDS,
    LateFusion,
    beside_clinical,
    columns_of,
    frees_columns,
)
from stylegan_surv.survival.engines.registry import INNER_FOLDS, make_model
from stylegan_surv.survival.metrics.kaplan_meier import breslow
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import NEVER, make_folds
from stylegan_surv.survival.validation.out_of_fold import CHOSEN, OutOfFold

# patients up to which every fold shares one Gram matrix (8 n^2 bytes for each penalty group)
GRAM_LIMIT = 5000
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
        joblib.delayed(_one_fold)(
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


@dataclass(frozen=True, eq=False)
class Arm:
    """One model of the results: an estimator on a matrix, with the clinical table beside it."""

    name: str
    estimator: Any
    X: Any  # array (n, p) or DataFrame
    clinical: pd.DataFrame | None = None
    linear: bool = False  # every number of the clinical columns acts along a line

    def check(self, outcome: Outcome) -> None:
        """Refuse before anything is fitted what the estimator cannot take into account."""
        last = _last(self.estimator)
        kinds = [type(last)]
        if self.clinical is not None and not frees_columns(last):
            kinds.append(LateFusion)
        if outcome.competing is not None and not issubclass(kinds[-1], RiskModel):
            raise InputError(
                f"model {self.name}: {kinds[-1].__name__} cannot tell causes of death apart. Take cox-ridge, which is "
                "fitted for every cause, or take every death as the event."
            )
        for kind in kinds:
            for what in outcome.fit_params:
                if what in getattr(kind, "refuses", ()):
                    raise InputError(
                        f"model {self.name}: {kind.__name__} cannot take {what} into account. "
                        f"Leave {what} out, or use cox-ridge, which can."
                    )

    @property
    def on_gram(self) -> bool:
        """Whether the folds can share one Gram matrix."""
        e = self.estimator
        return (
            type(e) is CoxRidge
            and e.unpenalized is None
            and not e.solver.startswith("primal")
            and len(self.X) <= GRAM_LIMIT
        )

    def gram_matrices(self) -> list[Array] | None:
        """That of every penalty group, for all folds; None where the folds cannot share them."""
        if not self.on_gram:
            return None
        groups = clone(self.estimator).divide_columns(self.X.shape[1])
        with threadpool_limits(1):
            return [gram(self.X, columns) for columns in groups.values()]


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


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


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
    last = _last(estimator)
    if isinstance(getattr(last, "cv", None), (int, np.integer)):
        last.set_params(cv=inner)
    return estimator


@dataclass(frozen=True)
class _Fold:
    """Test predictions of one arm in one fold."""

    test: Array
    risk: Array
    survival: Array
    chosen: dict[str, float]


def _one_fold(
    arm: Arm,
    kernels: list[Array] | None,
    outcome: Outcome,
    groups: Array | None,
    times: tuple[float, ...],
    is_test: Array,
) -> _Fold:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    known = outcome.subset(train)
    known.require_events(1, f"training part of a fold ({len(train)} patients)")
    together = None if groups is None else groups[train]
    with threadpool_limits(1):
        first = _fit(arm, kernels, known, together, train, test)
        if outcome.competing is not None:
            curves = _free_of_the_event(first, arm, kernels, outcome, together, train, test, times)
        elif isinstance(first.model, RiskModel):
            strata = _rows(outcome.strata, test)
            curves = first.model.survival_from_risk(first.risk, times, strata, pool_unseen=True)
        else:
            curves = _curves(first.model, first.columns, times)
        return _Fold(test, first.risk, curves, first.chosen)


@dataclass(frozen=True)
class _Fitted:
    """A model of the training patients, and what it makes of the others."""

    model: Any
    risk: Array
    chosen: dict[str, float]
    columns: Any  # the others' columns as the model takes them; None on a Gram matrix


def _fit(
    arm: Arm, kernels: list[Array] | None, known: Outcome, groups: Array | None, train: Array, test: Array
) -> _Fitted:
    if kernels is not None:
        return _Fitted(*_fit_on_gram(arm, kernels, known, groups, train, test), None)
    model, columns = _fit_plainly(arm, known, groups, train, test)
    return _Fitted(model, np.asarray(model.predict(columns), float), _learnt(model), columns)


def _free_of_the_event(
    first: _Fitted,
    arm: Arm,
    kernels: list[Array] | None,
    outcome: Outcome,
    groups: Array | None,
    train: Array,
    test: Array,
    times: tuple[float, ...],
) -> Array:
    """1 − F₁ of the test patients where other deaths compete: the same model is fitted for every cause."""
    known, strata = outcome.subset(train), _rows(outcome.strata, test)
    grid = np.unique(known.time[known.observed])
    hazards = [first.model.cumulative_hazard(first.risk, grid, strata, pool_unseen=True)]
    for cause in outcome.causes[1:]:
        died = known.of_cause(cause)
        if died.event.sum() >= LEAST_DEATHS:
            other = _fit(arm, kernels, died, groups, train, test)
            hazards.append(other.model.cumulative_hazard(other.risk, grid, strata, pool_unseen=True))
        else:
            rate = breslow(np.zeros(len(died)), died.time, died.event, grid, died.entry)
            hazards.append(np.broadcast_to(rate, hazards[0].shape))
    return 1.0 - cumulative_incidence_from_hazards(hazards, np.searchsorted(grid, times, side="right") - 1)


def _fit_on_gram(
    arm: Arm, kernels: list[Array], known: Outcome, groups: Array | None, train: Array, test: Array
) -> tuple[CoxRidge, Array, dict[str, float]]:
    """A ridge model of the training patients on the shared Gram matrices, the risk of the others, its penalties."""
    model: CoxRidge = clone(arm.estimator)
    names = list(model.divide_columns(arm.X.shape[1]))
    C = np.zeros((len(train) + len(test), 0))
    if arm.clinical is not None:
        C = CurvedDesign(linear=arm.linear).fit(arm.clinical.iloc[train], known).transform(arm.clinical)
    whole = model.gram_design(kernels, C)
    design = whole.subset(train)
    fit = model.fit_design(design, known, groups)
    risk = design.predict(whole.cross(test, train), C[test], fit.penalty[None], [fit.solution])[0]
    return model, risk, _by_name("alpha", dict(zip(names, fit.penalty)))


def _fit_plainly(
    arm: Arm, known: Outcome, groups: Array | None, train: Array, test: Array
) -> tuple[Any, Any]:
    """Any model of the training patients, and the others' columns as it takes them."""
    head, model = _split(clone(arm.estimator))
    frame = isinstance(arm.X, pd.DataFrame)
    A, B = (arm.X.iloc[rows] if frame else arm.X[rows] for rows in (train, test))
    if head is not None:
        told: Any = known if isinstance(head[0], CurvedDesign) else known.y
        A = head.fit_transform(A, told)
        B = head.transform(B)
    if arm.clinical is not None:
        design = CurvedDesign(linear=arm.linear).fit(arm.clinical.iloc[train], known)
        model, A, B = _with_clinical(
            model, A, B, *(design.transform(arm.clinical.iloc[r]) for r in (train, test))
        )
    model.fit(A, known.y, **_accepted(model, known, groups))
    return model, B


def _with_clinical(model: Any, A: Any, B: Any, clinical_A: Array, clinical_B: Array) -> tuple[Any, Any, Any]:
    """Covariates beside the latents, unpenalised where the model can; fused late where it cannot."""
    model = beside_clinical(model, A.shape[1], clinical_A.shape[1])
    return model, columns_of(model, A, clinical_A), columns_of(model, B, clinical_B)


def _split(estimator: Any) -> tuple[Any, Any]:
    """Transformers and last step of a pipeline."""
    return (estimator[:-1], estimator.steps[-1][1]) if hasattr(estimator, "steps") else (None, estimator)


def _accepted(model: Any, known: Outcome, groups: Array | None) -> dict[str, Array]:
    """What of entry, strata and groups this fit takes."""
    parameters = inspect.signature(model.fit).parameters
    given = known.fit_params | ({} if groups is None else {"groups": groups})
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {k: v for k, v in given.items() if k in parameters or (anything and k in known.fit_params)}


def _curves(model: Any, X: Any, times: tuple[float, ...]) -> Array:
    """S(t) at the horizons, from our estimators or scikit-survival's step functions."""
    if "times" in inspect.signature(model.predict_survival_function).parameters:
        return np.asarray(model.predict_survival_function(X, times))
    steps = model.predict_survival_function(X)
    return np.array([[1.0 if t < f.domain[0] else f(min(t, f.domain[1])) for t in times] for f in steps])


def _learnt(model: Any) -> dict[str, float]:
    for name in ("alpha_", "best_params_"):
        if hasattr(model, name):
            value = getattr(model, name)
            return _by_name("alpha", value if isinstance(value, dict) else {"": value})
    return {}


def _by_name(what: str, values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {k: float(v) for k, v in values.items() if np.ndim(v) == 0 and not isinstance(v, str)}
    return {what if len(numbers) == 1 else f"{what}[{k}]": v for k, v in numbers.items()}


def _rows(values: Array | None, rows: Array) -> Array | None:
    return None if values is None else values[rows]


# running and collecting ------------------------------------------------------------------------------------


def _run(n_jobs: int, progress: Progress | None, calls: list[Any]) -> list[_Fold]:
    """Results in order, telling `progress` as they come."""
    out = []
    for result in joblib.Parallel(n_jobs=n_jobs, return_as="generator")(calls):
        out.append(result)
        if progress is not None:
            progress(len(out), len(calls))
    return out


def _collect(
    fits: list[Fit],
    results: list[_Fold],
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
