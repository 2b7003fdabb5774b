"""Clinical columns whose numbers may act along a curve: the line is free, the bend is penalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array, Floats
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.design import ClinicalDesign
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.splines import Bend

# ridge on the covariates' coefficients: a level without events stays finite, others hardly move
CLINICAL_ALPHA = 0.1
BEND_SDS = (
    0.03,
    0.1,
    0.2,
    0.4,
    0.8,
)  # prior standard deviations of a bend's log hazard; the first is a straight line
LEAST_VALUES = 10  # distinct values that a number needs for a curve; a grade from 0 to 4 stays a line
LEAST_EVENTS = 20  # for the choice of the bends' penalty; with fewer every number acts along a line
FOLDS = 5  # of that choice


class CurvedDesign(ClinicalDesign):
    """Clinical columns as `ClinicalDesign` makes them, and natural cubic splines of the numbers.

    The straight part of a number is a column like any other. What the spline adds to it, orthonormal over the training
    rows, gets a ridge penalty of its own, chosen by cross-validated partial likelihood on the training rows: an effect
    of age that is U-shaped is found, and a few deaths do not bend a straight one. The bends' columns are scaled so that
    the light ridge `CLINICAL_ALPHA` of clinical columns acts on them as that penalty, whatever model takes them.

    Parameters
    ----------
    columns : list of str, optional
        As in `ClinicalDesign`.
    min_count : int
        As in `ClinicalDesign`.
    linear : bool
        Leave the bends out.

    Attributes
    ----------
    bends_ : dict
        By column: mean, SD, knots and the two matrices of `Bend`; empty where lines predict as well.
    bend_alpha_ : float
        The bends' penalty; infinite where there is none.

    Notes
    -----
    Without an outcome nothing can be chosen, and the design is linear. Beyond the outer knots a curve is straight.
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry

    def __init__(
        self, columns: Sequence[str] | None = None, min_count: int = 5, linear: bool = False
    ) -> None:
        super().__init__(columns, min_count)
        self.linear = linear

    def fit(self, X: pd.DataFrame, y: object = None) -> CurvedDesign:
        """Learn coding, knots and the bends' penalty.

        Parameters
        ----------
        X : DataFrame, shape (n, columns)
        y : Outcome or structured array, shape (n,), optional
            An outcome also tells entry and strata.
        """
        super().fit(X)
        self.bends_: dict[str, tuple[float, float, Floats, Floats, Floats]] = {}
        self.bend_alpha_ = float("inf")
        outcome = _outcome(y)
        if self.linear or outcome is None or outcome.event.sum() < LEAST_EVENTS:
            return self
        found = {
            name: bend
            for name in (self.columns if self.columns is not None else list(X.columns))
            if (values := _curvable(X[name])) is not None and (bend := Bend.of(values)) is not None
        }
        if found:
            self._choose(X, outcome, found)
        self.feature_names_out_ = [
            *self.feature_names_out_,
            *(f"{name}~{k + 1}" for name, bend in self.bends_.items() for k in range(bend[4].shape[1])),
        ]
        return self

    def _choose(self, X: pd.DataFrame, outcome: Outcome, found: dict[str, Bend]) -> None:
        straight = super().transform(X)
        bent = np.hstack([bend.columns(_numbers(X[name])) for name, bend in found.items()])
        q, alphas = straight.shape[1], [sd**-2 for sd in BEND_SDS]
        search = CoxRidge(
            alphas, unpenalized=np.arange(q), unpenalized_alpha=CLINICAL_ALPHA, solver="primal",
            cv=_folds(outcome, straight),
        ).fit(np.hstack([straight, bent]), outcome.y, **outcome.fit_params)  # fmt: skip
        chosen = float(search.alphas_[np.argmax(search.cv_scores_.sum(axis=0))])
        if chosen < alphas[0]:
            self.bend_alpha_ = chosen
            self.bends_ = {n: (b.mean, b.sd, b.knots, b.line, b.turn) for n, b in found.items()}

    def transform(self, X: pd.DataFrame) -> Array:
        """float64 array, shape (n, len(feature_names_out_)): the straight columns, then the bends."""
        check_is_fitted(self, "bends_")
        straight = super().transform(X)
        if not self.bends_:
            return straight
        size = np.sqrt(CLINICAL_ALPHA / self.bend_alpha_)
        return np.hstack(
            [straight, *(size * Bend(*bend).columns(_numbers(X[name])) for name, bend in self.bends_.items())]
        )


def _outcome(y: object) -> Outcome | None:
    if y is None or isinstance(y, Outcome):
        return y
    fields = np.asarray(y)
    return Outcome.unchecked(fields["time"], fields["event"])


def _folds(outcome: Outcome, straight: Floats) -> list[tuple[Array, Array]]:
    """Folds balanced by event and time that do not depend on the order of the rows."""
    order = np.lexsort((*straight.T, outcome.time, outcome.event))
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % FOLDS
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]


def _numbers(column: pd.Series) -> Floats:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _curvable(column: pd.Series) -> Floats | None:
    """The values of a number with enough distinct ones; None for anything else."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return None
    values = _numbers(column)
    return values if len(np.unique(values[np.isfinite(values)])) >= LEAST_VALUES else None
