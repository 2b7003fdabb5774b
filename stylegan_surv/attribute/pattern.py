"""The algebra of directions in latent space: pattern, adjusted pattern, coefficient. Arrays only; no picture is drawn.

The *coefficient* β of a linear risk score Xβ is what the model multiplies with; where there are more dimensions than
patients it is unstable and mostly compensates for correlated nuisance. The *pattern* Cov(X, risk), which for a linear
score is Cov(X)·β, tells how faces of higher risk differ (Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067,
equation 6).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.inversion.origin import Origin

Kind = Literal["pattern", "coefficient", "adjusted"]
KINDS: tuple[Kind, ...] = ("pattern", "coefficient", "adjusted")
ROUNDING = 1e-9  # relative; below it a residual is zero

NOTE = "The health attribute is an association in one cohort: not a diagnosis, not what a treatment would change."


class Attribute(Protocol):
    """What an edit needs of an attribute."""

    @property
    def origin(self) -> Origin | None:
        """Where the latents come from that the model was fitted to."""

    @property
    def latents(self) -> Path | None:
        """Their dataset."""

    @property
    def risk_sd(self) -> float:
        """Standard deviation of the cohort's risk score."""

    def direction(self, kind: Kind) -> Floats:
        """The direction of that kind, [num_ws, w_dim]."""


def pattern(x: Floats, risk: Floats) -> Floats:
    """Cov(X, risk) / SD(risk).

    Parameters
    ----------
    x : array of float, shape (n, p)
    risk : array of float, shape (n,)

    Returns
    -------
    array of float, shape (p,)
        Zeros where the risk is constant.
    """
    centred = risk - risk.mean()
    sd = centred.std()
    if sd == 0:
        return np.zeros(x.shape[1])
    found: Floats = (x - x.mean(axis=0)).T @ centred / (len(risk) * sd)
    return found


def adjusted_pattern(x: Floats, risk: Floats, covariates: Floats) -> Floats:
    """The pattern after X and risk have been freed of what a linear model on the covariates explains.

    This is the partial covariance; the InterFaceGAN idea of subtracting nuisance directions (Shen et al. 2020), with
    the directions taken from the data. One step is still +1 SD of the *raw* score's residual.

    Parameters
    ----------
    x : array of float, shape (n, p)
    risk : array of float, shape (n,)
    covariates : array of float, shape (n, q)

    Returns
    -------
    array of float, shape (p,)
        Zeros where the covariates explain the whole risk.
    """
    z = np.column_stack([np.ones(len(risk)), covariates])
    q, _ = np.linalg.qr(z)
    residual = risk - q @ (q.T @ risk)
    if residual.std() <= ROUNDING * risk.std():  # the covariates say it all
        return np.zeros(x.shape[1])
    return pattern(x - q @ (q.T @ x), residual)


def coefficient_step(beta: Floats, risk_sd: float) -> Floats:
    """β scaled to one SD of the score: the shortest step that raises the score by it."""
    norm = float(beta @ beta)
    return beta * (risk_sd / norm) if norm > 0 else np.zeros_like(beta)


def cosine(a: Floats, b: Floats) -> float:
    """Cosine of two directions of any shape; 0 where one of them is zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms > 0 else 0.0


def linear_coefficients(model: Any, width: int) -> Floats | None:
    """β of a linear risk score in terms of the raw latents, mapped back through a Pipeline's linear steps.

    Parameters
    ----------
    model : estimator or Pipeline
        Fitted; scalers divide, projections multiply by their components.
    width : int
        Numbers of a latent, num_ws·w_dim.

    Returns
    -------
    array of float, shape (width,), or None
        None for models that are not linear.
    """
    steps = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    if not hasattr(steps[-1], "coef_"):
        return None
    beta = np.asarray(steps[-1].coef_, dtype=np.float64).ravel()
    for step in reversed(steps[:-1]):
        if hasattr(step, "components_"):
            whitened = getattr(step, "whiten", False)
            beta = (beta / np.sqrt(step.explained_variance_) if whitened else beta) @ step.components_
        elif hasattr(step, "scale_") and step.scale_ is not None:
            beta = beta / step.scale_
        elif not hasattr(step, "mean_") and step != "passthrough":
            return None
    return beta[:width]
