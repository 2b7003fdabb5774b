"""Logistic ridge regression for wide inputs: latents, face numbers, and what is not the face.

The penalty is chosen by generalised cross-validation of the linear probability model, whose curvature is four times
that of the logistic one at .5; the logistic model is then fitted once, on the leading principal components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Bools, Floats

PENALTIES = np.geomspace(1e-3, 1e3, 13)  # of the kernel's mean eigenvalue
COMPONENTS = 200  # leading ones; what lies beyond has hardly any variance left
CURVATURE = 0.25  # p (1 − p) at p = .5
STEPS, CLOSE_ENOUGH = 25, 1e-8  # of Newton's method
FARTHEST = 5.0  # SD at which scaled inputs are cut off


def newton(x: Floats, y: Floats, penalty: Floats, weight: Floats | None = None) -> Floats:
    """Coefficients of the logistic model that maximise Σ log-likelihood − ½ Σ penalty·b².

    Parameters
    ----------
    x : array of float, shape (n, p)
        With a column of ones if an intercept is wanted.
    y : array of float, shape (n,)
        0 or 1.
    penalty : array of float, shape (p,)
    weight : array of float, shape (n,), optional
    """
    b = np.zeros(x.shape[1])
    case = np.ones(len(y)) if weight is None else weight
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        gradient = x.T @ (case * (y - p)) - penalty * b
        curvature = np.maximum(case * p * (1 - p), 1e-9)
        step = np.linalg.solve((x.T * curvature) @ x + np.diag(penalty), gradient)
        b = b + step * min(1.0, 10.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < CLOSE_ENOUGH:
            break
    return b


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A fitted model.

    Attributes
    ----------
    mean, scale : array of float, shape (p,)
        Of the training rows; the scale is 1 where inputs are not scaled.
    coef : array of float, shape (p,)
        On centred and scaled inputs.
    intercept, penalty : float
    cut : float
        SD at which scaled inputs are cut off; infinite where they are not scaled.
    """

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: float
    penalty: float
    cut: float

    def logit(self, x: Floats) -> Floats:
        """Log odds of rows, shape (n,)."""
        z = np.clip((x - self.mean) / self.scale, -self.cut, self.cut)
        return np.asarray(z @ self.coef + self.intercept)


def fit_ridge(x: Floats, case: Bools, *, scale: bool, penalty: float | None = None) -> RidgeFit:
    """Fit the model.

    Parameters
    ----------
    x : array of float, shape (n, p)
    case : array of bool, shape (n,)
        Classes weigh alike, whatever their sizes.
    scale : bool
        Divide by the columns' SD: for inputs of different units, not for latents.
    penalty : float, optional
        By default chosen by generalised cross-validation.
    """
    x = np.asarray(x, float)
    mean = x.mean(axis=0)
    spread = x.std(axis=0)
    divisor = np.where(spread > 1e-9, spread, np.inf) if scale else np.ones(x.shape[1])
    cut = FARTHEST if scale else np.inf
    z = np.clip((x - mean) / divisor, -cut, cut)
    shift = z.mean(axis=0)  # cut-off values no longer have the mean 0
    z = z - shift
    vectors, values, axes = _leading(z)
    y = case.astype(float)
    weight = np.where(case, 0.5 / max(y.mean(), 1e-9), 0.5 / max(1 - y.mean(), 1e-9))
    if penalty is None:
        penalty = CURVATURE * _by_gcv(values**2, vectors.T @ (y - y.mean()), float(y.var() * len(y)), len(y))
    scores = np.column_stack([vectors * values, np.ones(len(y))])
    b = newton(scores, y, np.append(np.full(len(values), penalty), 1e-9), weight)
    coef = axes.T @ b[:-1]
    return RidgeFit(mean, divisor, coef, float(b[-1] - shift @ coef), penalty, cut)


def _leading(z: Floats) -> tuple[Floats, Floats, Floats]:
    """Leading singular triplets of centred rows, through the smaller of the two Gram matrices."""
    n, p = z.shape
    if p <= n:
        values, axes = np.linalg.eigh(z.T @ z)
        keep = np.argsort(values)[::-1][:COMPONENTS]
        keep = keep[values[keep] > 1e-9 * max(values.max(), 1e-12)]
        s = np.sqrt(values[keep])
        return z @ axes[:, keep] / s, s, axes[:, keep].T
    values, vectors = np.linalg.eigh(z @ z.T)
    keep = np.argsort(values)[::-1][:COMPONENTS]
    keep = keep[values[keep] > 1e-9 * max(values.max(), 1e-12)]
    s = np.sqrt(values[keep])
    return vectors[:, keep], s, (vectors[:, keep].T @ z) / s[:, None]


def _by_gcv(values: Floats, y: Floats, total: float, n: int) -> float:
    """Penalty of the linear model by generalised cross-validation (Golub, Heath & Wahba 1979)."""
    rest = max(total - float((y**2).sum()), 0.0)  # what the components cannot reach

    def error(penalty: float) -> float:
        left = penalty / (values + penalty)
        free = n - 1 - float((1 - left).sum())
        return (float(((left * y) ** 2).sum()) + rest) / max(free, 1e-9) ** 2

    mean = float(values.mean()) if len(values) else 1.0
    return float(min(PENALTIES * mean, key=error))
