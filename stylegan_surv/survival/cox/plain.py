"""Cox's model with a handful of columns, unpenalised: for tests, calibration and censoring weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Array, Bools, Floats
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.partial import PartialLikelihood


@dataclass(frozen=True)
class SmallCox:
    """Maximum partial-likelihood fit.

    Attributes
    ----------
    coef : array, shape (p,)
    covariance : array, shape (p, p)
        Inverse observed information.
    log_likelihood, null : float
        At the coefficients, and at zero (the offset alone).
    """

    coef: Floats
    covariance: Floats
    log_likelihood: float
    null: float

    @property
    def se(self) -> Floats:
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def fit_cox(
    x: Floats,
    time: Floats,
    event: Bools,
    *,
    entry: Floats | None = None,
    strata: Array | None = None,
    weight: Floats | None = None,
    offset: Floats | None = None,
    ridge: float = 0.0,
    tolerance: float = 1e-14,
) -> SmallCox:
    """Newton's method with step halving on Cox's partial likelihood (Efron's ties).

    Parameters
    ----------
    x : array, shape (n, p)
    offset : array, shape (n,), optional
        Added to the linear predictor.
    ridge : float
        Penalty ridge/2 · ‖β‖² on the columns as given, for those that may separate; 0 for none.

    Raises
    ------
    InputError
        The information is singular (a constant or collinear column) or a coefficient diverges.
    """
    x = np.asarray(x, float)
    x = x - x.mean(axis=0)
    shift = np.zeros(len(x)) if offset is None else offset
    likelihood = PartialLikelihood(time, event, entry, strata, weight)
    beta = np.zeros(x.shape[1])

    def penalised(b: Floats) -> float:
        return float(likelihood.value(shift + x @ b) - ridge / 2 * b @ b)

    null = value = penalised(beta)
    for _ in range(50):
        with np.errstate(over="ignore", invalid="ignore"):  # on the way to infinity, which is told below
            _, gradient, _, information = likelihood.local(shift + x @ beta)
            hessian = x.T @ np.column_stack([information(c) for c in x.T]) if x.shape[1] else np.zeros((0, 0))
        hessian = hessian + ridge * np.eye(len(beta))
        slope = x.T @ gradient - ridge * beta
        try:
            step = np.linalg.solve(hessian, slope)
        except np.linalg.LinAlgError:
            raise InputError("Cox model: the columns are collinear or constant; leave one out") from None
        decrement = float(step @ slope)
        if not np.isfinite(decrement):
            break
        if decrement < tolerance:
            return SmallCox(beta, np.linalg.inv(hessian) if x.shape[1] else hessian, value, null)
        size = 1.0
        while (new := penalised(beta + size * step)) < value and size > 1e-6:
            size /= 2
        beta, value = beta + size * step, new
    raise InputError(
        "Cox model: no convergence; a column separates the patients with an event from the others"
    )
