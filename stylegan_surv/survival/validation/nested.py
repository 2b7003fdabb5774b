"""Nested cross-validation: clinical, photograph and both on the same folds, nothing fitted outside them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.gram import gram
from stylegan_surv.survival.cox.path import Folds, GramDesign, Survival
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.design import ClinicalDesign
from stylegan_surv.survival.engines.base import RiskModel, check_matrix
from stylegan_surv.survival.engines.forests import SurvivalForest
from stylegan_surv.survival.engines.fusion import FOLDS, LateFusion
from stylegan_surv.survival.engines.registry import make_model
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import as_folds, deal_folds

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]

# patients up to which every fold shares one Gram matrix (8 n^2 bytes for each penalty group)
GRAM_LIMIT = 5000
NEVER = -1  # fold of a patient who is trained on only


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for patients that the model had not seen.

    Attributes
    ----------
    frame : DataFrame
        `patient_id, repeat, fold, model, risk` and a column ``S(t)`` for every horizon. Risks of different
        folds are not comparable.
    horizons : tuple of float
    folds : DataFrame
        `patient_id, repeat, fold`; give it to `nested_cv` again for the same division (fold -1: never tested).
    chosen : DataFrame
        `model, repeat, fold, parameter, value`: hyperparameters chosen inside the fold.
    """

    frame: pd.DataFrame
    horizons: tuple[float, ...]
    folds: pd.DataFrame
    chosen: pd.DataFrame

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order asked for."""
        return list(dict.fromkeys(self.frame["model"]))

    def model(self, name: str) -> pd.DataFrame:
        """Rows of one model."""
        if name not in set(self.frame["model"]):
            raise InputError(f"model: got {name!r}; these results hold {', '.join(self.models)}.")
        return self.frame[self.frame["model"] == name].reset_index(drop=True)

    def save(self, path: str | Path) -> None:
        """One Parquet file; horizons, folds and choices travel in its metadata."""
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        kept = {
            "horizons": list(self.horizons),
            "folds": self.folds.to_dict("list"),
            "chosen": self.chosen.to_dict("list"),
        }
        meta = {**(table.schema.metadata or {}), b"stylegan_surv": json.dumps(kept).encode()}
        pq.write_table(table.replace_schema_metadata(meta), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> OutOfFold:
        """Read what `save` wrote."""
        table = pq.read_table(Path(path))
        raw = (table.schema.metadata or {}).get(b"stylegan_surv")
        if raw is None:
            raise InputError(f"{path}: not an out-of-fold file of stylegan-surv (no metadata).")
        kept = json.loads(raw)
        chosen = pd.DataFrame(kept["chosen"], columns=["model", "repeat", "fold", "parameter", "value"])
        return cls(table.to_pandas(), tuple(kept["horizons"]), pd.DataFrame(kept["folds"]), chosen)


def nested_cv(
    models: str | Sequence[str] | Mapping[str, Any],
    X: Array,
    outcome: Outcome,
    *,
    clinical: pd.DataFrame | None = None,
    groups: Array | None = None,
    folds: Any = 5,
    repeats: int = 1,
    inner: int = 5,
    horizons: Sequence[float] | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
    extra_matrices: Mapping[str, Any] | None = None,
    num_ws: int | None = None,
    w_dim: int | None = None,
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
        Entry and strata are used in every fit; models that cannot are refused.
    clinical : DataFrame, shape (n, columns), optional
    groups : array, shape (n,), optional
        Patients of one group (family, centre) stay in one fold.
    folds : int, DataFrame, array or splitter
        Number of outer folds, stratified by event and stratum; or a division: `OutOfFold.folds`, fold numbers
        of shape (n,) or (repeats, n) as `leave_group_out` and `temporal_split` give them.
    repeats : int
        Divisions into folds, with different seeds.
    inner : int
        Folds of the inner cross-validation.
    horizons : sequence of float, optional
        Times for ``S(t)``; by default the quartiles of the event times.
    seed : int
    n_jobs : int
        Processes over folds (joblib; ``joblib.parallel_config(backend="dask")`` spreads them over a cluster).
    progress : callable, optional
        progress(done, total) in fits.
    extra_matrices : dict of str to array or DataFrame, optional
        Further feature matrices, e.g. ``{"nuisance": photo_quality}``, each a penalised Cox model; a DataFrame is
        taken as covariates are.
    num_ws, w_dim : int, optional
        Shape of W+ for models by layer group.

    Returns
    -------
    OutOfFold
    """
    X = check_matrix(X)
    if len(X) != len(outcome):
        raise InputError(f"X: got {len(X)} rows for {len(outcome)} patients of the outcome.")
    division = make_folds(outcome, folds, repeats=repeats, groups=groups, seed=seed)
    times = _horizons(outcome, horizons)
    recipes = _recipes(models, X, clinical, extra_matrices, inner, num_ws, w_dim)
    for recipe in recipes:
        recipe.check(outcome)
    _tell_cost(recipes, outcome, fits=sum(len(np.unique(row[row != NEVER])) for row in division))
    tasks = [
        (recipe, repeat, fold)
        for repeat in range(len(division))
        for fold in np.unique(division[repeat][division[repeat] != NEVER])
        for recipe in recipes
    ]
    shared: dict[int, list[Array] | None] = {}  # by estimator: photo and both have the same Gram matrices
    for recipe in recipes:
        if id(recipe.estimator) not in shared:
            shared[id(recipe.estimator)] = recipe.gram_matrices()
    calls = [
        joblib.delayed(_one_fold)(
            recipe, shared[id(recipe.estimator)], outcome, groups, times, division[repeat] == fold
        )
        for recipe, repeat, fold in tasks
    ]
    return _collect(tasks, _run(n_jobs, progress, calls), outcome, division, times)


# the division ----------------------------------------------------------------------------------------------


def make_folds(
    outcome: Outcome, folds: Any = 5, *, repeats: int = 1, groups: Array | None = None, seed: int = 0
) -> Array:
    """Fold number of every patient in every repeat, shape (repeats, n); -1 for those never tested."""
    if isinstance(folds, pd.DataFrame):
        return _folds_from_frame(outcome, folds)
    if isinstance(folds, (int, np.integer)):
        outcome.require_events(int(folds), f"{folds}-fold cross-validation")
        deal = [
            deal_folds(outcome.event, int(folds), strata=outcome.strata, groups=groups, seed=seed + 1000 * r)
            for r in range(repeats)
        ]
        return np.array(deal)
    if isinstance(folds, np.ndarray) and folds.ndim <= 2 and folds.shape[-1:] == (len(outcome),):
        return np.atleast_2d(folds.astype(int))
    division = np.full(len(outcome), NEVER)
    for k, (_, test) in enumerate(as_folds(folds, outcome.event, groups=groups)):
        division[test] = k
    return division[None]


def _folds_from_frame(outcome: Outcome, frame: pd.DataFrame) -> Array:
    rows = []
    for _, part in frame.groupby("repeat", sort=True):
        known = pd.Series(part["fold"].to_numpy(), index=part["patient_id"].astype(str))
        absent = ~np.isin(outcome.patient_id, known.index)
        if absent.any():
            raise InputError(
                f"folds: {absent.sum()} patients have no fold (for example {str(outcome.patient_id[absent][0])!r}); "
                "expected one row per patient and repeat."
            )
        rows.append(known.loc[outcome.patient_id].to_numpy(int))
    return np.array(rows)


def leave_group_out(groups: Array) -> Array:
    """Fold numbers that leave one group (site, camera) out at a time, for `nested_cv(folds=...)`."""
    return np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]


def temporal_split(when: Array, cut: Any) -> Array:
    """Train on patients before `cut`, test on those from `cut` on (fold 0; the others are never tested)."""
    late = np.asarray(when) >= cut
    if late.all() or not late.any():
        raise InputError(
            f"temporal split: {late.sum()} of {len(late)} patients are from {cut} on; expected both kinds."
        )
    return np.where(late, 0, NEVER)


def _horizons(outcome: Outcome, horizons: Sequence[float] | None) -> tuple[float, ...]:
    if horizons is None:
        outcome.require_events(1, "horizons")
        horizons = np.unique(np.quantile(outcome.time[outcome.event], [0.25, 0.5, 0.75])).tolist()
    return tuple(float(t) for t in horizons)


# what is fitted in a fold ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Recipe:
    """One model of the results: an estimator on a matrix, with the clinical table beside it or instead."""

    name: str
    estimator: Any
    X: Any = None  # array (n, p) or DataFrame; None: clinical only
    clinical: pd.DataFrame | None = None

    def check(self, outcome: Outcome) -> None:
        """Refuse before anything is fitted what the estimator cannot take into account."""
        unable = getattr(_last(self.estimator), "refuses", ())
        for what in outcome.fit_params:
            if what in unable:
                raise InputError(
                    f"model {self.name}: {type(_last(self.estimator)).__name__} cannot take {what} into account. "
                    f"Leave {what} out, or use cox-ridge, which can."
                )

    @property
    def on_gram(self) -> bool:
        """Whether the folds can share one Gram matrix."""
        e = self.estimator
        return (
            type(e) is CoxRidge
            and e.unpenalized is None
            and e.solver != "primal"
            and len(self.X) <= GRAM_LIMIT
        )

    def gram_matrices(self) -> list[Array] | None:
        """That of every penalty group, for all folds; None where the folds cannot share them."""
        if not self.on_gram:
            return None
        model = clone(self.estimator)
        model._divide_columns(self.X.shape[1])
        with threadpool_limits(1):
            return [gram(self.X, columns) for columns in model.groups_.values()]


def _tell_cost(recipes: Sequence[_Recipe], outcome: Outcome, fits: int) -> None:
    """Announce what all forests together will take, before anything is fitted; the others take seconds."""
    for recipe in recipes:
        if not isinstance(recipe.estimator, SurvivalForest):
            continue
        forecast = recipe.estimator.forecast(recipe.X, outcome.y)
        if forecast is not None:
            forests = fits * (1 if recipe.clinical is None else 1 + FOLDS)
            forecast.times(forests).announce(f"{recipe.name} ({recipe.estimator.kind}): {forests} forests")


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _recipes(
    models: Any,
    X: Array,
    clinical: pd.DataFrame | None,
    extra: Mapping[str, Any] | None,
    inner: int,
    num_ws: int | None,
    w_dim: int | None,
) -> list[_Recipe]:
    if isinstance(models, str):
        models = [models]
    if not isinstance(models, Mapping):
        models = {name: make_model(name, num_ws, w_dim) for name in models}
    named = {name: _set_inner(clone(estimator), inner) for name, estimator in models.items()}
    if not named:
        raise InputError("models: got none, expected at least one name, e.g. cox-ridge.")
    out = []
    if clinical is not None:
        if len(clinical) != len(X):
            raise InputError(f"clinical: got {len(clinical)} rows for {len(X)} patients.")
        clinical = clinical.reset_index(drop=True)
        out.append(_Recipe("clinical", make_model("clinical"), clinical))
    for i, (name, estimator) in enumerate(named.items()):
        suffix = "" if i == 0 else f"/{name}"
        out.append(_Recipe(f"photo{suffix}", estimator, X))
        if clinical is not None:
            out.append(_Recipe(f"both{suffix}", estimator, X, clinical))
    for name, matrix in (extra or {}).items():
        if len(matrix) != len(X):
            raise InputError(f"extra_matrices[{name!r}]: got {len(matrix)} rows for {len(X)} patients.")
        if isinstance(matrix, pd.DataFrame):
            out.append(_Recipe(name, make_model("clinical"), matrix.reset_index(drop=True)))
        else:
            out.append(_Recipe(name, _set_inner(make_model("nuisance"), inner), check_matrix(matrix)))
    return out


def _set_inner(estimator: Any, inner: int) -> Any:
    last = _last(estimator)
    if isinstance(getattr(last, "cv", None), (int, np.integer)):
        last.set_params(cv=inner)
    return estimator


@dataclass(frozen=True)
class _Fold:
    """Test predictions of one recipe in one fold."""

    test: Array
    risk: Array
    survival: Array
    chosen: dict[str, float]


def _one_fold(
    recipe: _Recipe,
    kernels: list[Array] | None,
    outcome: Outcome,
    groups: Array | None,
    times: tuple[float, ...],
    is_test: Array,
) -> _Fold:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    outcome.subset(train).require_events(1, f"training part of a fold ({len(train)} patients)")
    with threadpool_limits(1):
        if kernels is not None:
            return _gram_fold(recipe, kernels, outcome, groups, times, train, test)
        return _plain_fold(recipe, outcome, groups, times, train, test)


def _gram_fold(
    recipe: _Recipe,
    kernels: list[Array],
    outcome: Outcome,
    groups: Array | None,
    times: tuple[float, ...],
    train: Array,
    test: Array,
) -> _Fold:
    model: CoxRidge = clone(recipe.estimator)
    model._divide_columns(recipe.X.shape[1])
    C = np.zeros((len(outcome), 0))
    if recipe.clinical is not None:
        C = ClinicalDesign().fit(recipe.clinical.iloc[train]).transform(recipe.clinical)
    whole = GramDesign(kernels, C, model.unpenalized_alpha, model.ties, model.tol)
    survival = Survival(outcome.time, outcome.event, outcome.entry, outcome.strata)
    part = survival.subset(train)
    design = whole.subset(train)
    fit = model.fit_design(design, part, None if groups is None else groups[train])
    risk = design.predict(whole.cross(test, train), C[test], fit.penalty[None], [fit.solution])[0]
    model._keep_baseline(part, fit.solution.eta, model.ties)
    curves = model.survival_from_risk(risk, times, _rows(outcome.strata, test), pool_unseen=True)
    return _Fold(test, risk, curves, _by_name("alpha", dict(zip(model.groups_, fit.penalty))))


def _plain_fold(
    recipe: _Recipe,
    outcome: Outcome,
    groups: Array | None,
    times: tuple[float, ...],
    train: Array,
    test: Array,
) -> _Fold:
    known = outcome.subset(train)
    head, model = _split(clone(recipe.estimator))
    frame = isinstance(recipe.X, pd.DataFrame)
    A, B = (recipe.X.iloc[rows] if frame else recipe.X[rows] for rows in (train, test))
    if head is not None:
        A = head.fit_transform(A, known.y)
        B = head.transform(B)
    if recipe.clinical is not None:
        design = ClinicalDesign().fit(recipe.clinical.iloc[train])
        model, A, B = _with_clinical(
            model, A, B, *(design.transform(recipe.clinical.iloc[r]) for r in (train, test))
        )
    model.fit(A, known.y, **_accepted(model, known, None if groups is None else groups[train]))
    risk = np.asarray(model.predict(B), float)
    if isinstance(model, RiskModel):
        curves = model.survival_from_risk(risk, times, _rows(outcome.strata, test), pool_unseen=True)
    else:
        curves = _curves(model, B, times)
    return _Fold(test, risk, curves, _learnt(model))


def _with_clinical(model: Any, A: Any, B: Any, clinical_A: Array, clinical_B: Array) -> tuple[Any, Any, Any]:
    """Covariates beside the latents, unpenalised where the model can; fused late where it cannot."""
    if "unpenalized" not in model.get_params():
        return LateFusion(model), (A, clinical_A), (B, clinical_B)
    p = A.shape[1]
    model.set_params(unpenalized=np.arange(p, p + clinical_A.shape[1]))
    return model, *(np.hstack([Z, C.astype(Z.dtype)]) for Z, C in ((A, clinical_A), (B, clinical_B)))


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
    tasks: list[tuple[_Recipe, int, int]],
    results: list[_Fold],
    outcome: Outcome,
    division: Array,
    times: tuple[float, ...],
) -> OutOfFold:
    names = list(dict.fromkeys(recipe.name for recipe, _, _ in tasks))
    frames, chosen = [], []
    for (recipe, repeat, fold), result in zip(tasks, results):
        part = pd.DataFrame({"patient_id": outcome.patient_id[result.test]})
        part = part.assign(repeat=repeat, fold=int(fold), model=recipe.name, risk=result.risk)
        for j, t in enumerate(times):
            part[f"S({t:g})"] = result.survival[:, j]
        frames.append(part.assign(order=names.index(recipe.name), row=result.test))
        chosen += [(recipe.name, repeat, int(fold), k, v) for k, v in result.chosen.items()]
    frame = pd.concat(frames).sort_values(["order", "repeat", "row"]).drop(columns=["order", "row"])
    folds = pd.concat(
        [
            pd.DataFrame({"patient_id": outcome.patient_id, "repeat": r, "fold": f})
            for r, f in enumerate(division)
        ]
    )
    columns = ["model", "repeat", "fold", "parameter", "value"]
    return OutOfFold(
        frame.reset_index(drop=True),
        times,
        folds.reset_index(drop=True),
        pd.DataFrame(chosen, columns=columns),
    )


# permutations ----------------------------------------------------------------------------------------------


class GramCV:
    """Nested cross-validation of ridge Cox on one matrix, for many outcomes.

    The Gram matrices of the folds and their leading eigenspaces depend on X alone; permuted outcomes share them.

    Parameters
    ----------
    X : array, shape (n, p)
    folds : array of int, shape (n,)
        Outer folds of the rows of X, for example ``make_folds(outcome)[0]``.
    inner : int
        Folds of the inner cross-validation; dealt at random, since the outcome varies.

    Examples
    --------
    >>> cv = GramCV(X, make_folds(outcome, 5)[0])                       # doctest: +SKIP
    >>> risk = cv.out_of_fold_risk(outcome.subset(permutation))         # doctest: +SKIP
    """

    def __init__(
        self, X: Array, folds: Array, *, inner: int = 5, ties: str = "efron", tol: float = 1e-3, seed: int = 0
    ) -> None:
        kernel = GramDesign([gram(check_matrix(X))], np.zeros((len(X), 0)), ties=ties, tol=tol)
        self.folds, self._no_columns = np.asarray(folds), kernel.C
        rng = np.random.default_rng(seed)
        self._outer: list[tuple[Array, Array, GramDesign, list[Array], Folds]] = []
        for fold in np.unique(self.folds[self.folds != NEVER]):
            train, test = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            dealt = rng.permutation(np.arange(len(train)) % inner)
            division = [(np.flatnonzero(dealt != k), np.flatnonzero(dealt == k)) for k in range(inner)]
            self._outer.append((train, test, kernel.subset(train), kernel.cross(test, train), division))

    def out_of_fold_risk(self, outcome: Outcome, alphas: Array | Sequence[float] | int = 6) -> Array:
        """Risk of every row of X from the folds without it, shape (n,); NaN where never tested.

        `outcome` belongs to the rows of X in their order, permuted or not. `alphas` as in CoxRidge.
        """
        survival = Survival(outcome.time, outcome.event, outcome.entry, outcome.strata)
        risk = np.full(len(outcome), np.nan)
        with threadpool_limits(1):
            for train, test, part, cross, division in self._outer:
                known = survival.subset(train)
                penalties = part.grid(alphas) if isinstance(alphas, int) else np.reshape(alphas, (-1, 1))
                chosen = part.choose(known, penalties, division, keep=True).penalty
                path = penalties[penalties[:, 0] >= chosen[0]]
                solutions = part.path(known, path)
                at = int(np.argmin(path[:, 0]))
                risk[test] = part.predict(cross, self._no_columns[test], path[[at]], [solutions[at]])[0]
        return risk
