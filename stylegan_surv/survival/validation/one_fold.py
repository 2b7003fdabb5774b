"""One model on one fold: what is fitted to the training patients, and what it predicts for the others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.gram import gram
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.base import RiskModel
from stylegan_surv.survival.engines.competing import LEAST_DEATHS, cumulative_incidence_from_hazards
from stylegan_surv.survival.engines.curved import CurvedDesign
from stylegan_surv.survival.engines.fusion import LateFusion, beside_clinical, columns_of, frees_columns
from stylegan_surv.survival.metrics.kaplan_meier import breslow
from stylegan_surv.survival.outcome import Outcome

# patients up to which every fold shares one Gram matrix (8 n^2 bytes for each penalty group)
GRAM_LIMIT = 5000


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
        last = last_step(self.estimator)
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


def last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


@dataclass(frozen=True)
class Tested:
    """Test predictions of one arm in one fold."""

    test: Array
    risk: Array
    survival: Array
    chosen: dict[str, float]


def one_fold(
    arm: Arm,
    kernels: list[Array] | None,
    outcome: Outcome,
    groups: Array | None,
    times: tuple[float, ...],
    is_test: Array,
) -> Tested:
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
        return Tested(test, first.risk, curves, first.chosen)


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
