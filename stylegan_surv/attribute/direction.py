"""The health attribute: a direction in W+ along which a face goes with a lower or a higher risk.

Two directions are meant by that name, and both are kept. The *coefficient* β of a linear risk score Xβ is what the
model multiplies with; where there are more dimensions than patients it is unstable and mostly compensates for
correlated nuisance. The *pattern* Cov(X, risk), which for a linear score is Cov(X)·β, tells how faces of higher risk
differ (Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067, equation 6); it is the default. The *adjusted*
pattern is the part of it that given covariates do not explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.inversion import Latents
    from stylegan_surv.survival.outcome import Outcome

Kind = Literal["pattern", "coefficient", "adjusted"]
Array = NDArray[np.floating[Any]]
ROUNDING = 1e-9  # relative; below it a residual is zero

NOTE = "The health attribute is an association in one cohort: not a diagnosis, not what a treatment would change."


@dataclass(frozen=True)
class HealthAttribute:
    """Directions in W+ towards higher risk, each scaled so that one step is +1 SD of the cohort's risk score.

    Attributes
    ----------
    pattern : array [num_ws, w_dim]
        Cov(X, risk) / SD(risk): the expected change of the latent when the risk score rises by one SD.
    coefficient : array [num_ws, w_dim] or None
        β·SD(risk) / ‖β‖²: the shortest change of the latent that raises the score by one SD; linear models only.
    adjusted : array [num_ws, w_dim] or None
        The pattern given the covariates named in ``adjusted_for``.
    mean : array [num_ws, w_dim]
        The cohort's mean latent.
    risk_sd : float
        SD of the risk score in the cohort (log-hazard units for Cox models).
    split_half : dict
        Cosine between the directions learnt on two random halves of the patients, by kind.
    note : str
        What the attribute is not; shown wherever it is drawn.
    """

    pattern: Array
    coefficient: Array | None
    adjusted: Array | None
    mean: Array
    risk_sd: float
    adjusted_for: tuple[str, ...] = ()
    split_half: dict[str, float] = field(default_factory=dict)
    note: str = NOTE

    def direction(self, kind: Kind = "pattern") -> Array:
        """The direction of that kind, [num_ws, w_dim].

        Raises
        ------
        InputError
            If the model has no such direction.
        """
        found: Array | None = getattr(self, kind)
        if found is None:
            hint = (
                "name covariates in adjust_for"
                if kind == "adjusted"
                else "the model is not linear; use 'pattern'"
            )
            raise InputError(f"this attribute has no {kind!r} direction: {hint}")
        return found

    def edit(self, photo: Any, steps: Sequence[float] = (-3, -1.5, 0, 1.5, 3), **how: Any) -> list[Any]:
        """Images of a photograph moved along the attribute; see :func:`stylegan_surv.attribute.edit.edit`."""
        from stylegan_surv.attribute.edit import edit

        return edit(self, photo, steps, **how)


def pattern(x: Array, risk: Array) -> Array:
    """Cov(X, risk) / SD(risk) for X [n, p] and risk [n]; zeros where the risk is constant."""
    centred = risk - risk.mean()
    sd = centred.std()
    if sd == 0:
        return np.zeros(x.shape[1])
    found: Array = (x - x.mean(axis=0)).T @ centred / (len(risk) * sd)
    return found


def adjusted_pattern(x: Array, risk: Array, covariates: Array) -> Array:
    """The pattern after X and risk have been freed of what a linear model on ``covariates`` [n, q] explains.

    This is the partial covariance; the InterFaceGAN idea of subtracting nuisance directions (Shen et al. 2020), with
    the directions taken from the data. One step is still +1 SD of the *raw* score's residual.
    """
    z = np.column_stack([np.ones(len(risk)), covariates])
    q, _ = np.linalg.qr(z)
    residual = risk - q @ (q.T @ risk)
    if residual.std() <= ROUNDING * risk.std():  # the covariates say it all
        return np.zeros(x.shape[1])
    return pattern(x - q @ (q.T @ x), residual)


def coefficient_step(beta: Array, risk_sd: float) -> Array:
    """β scaled to one SD of the score."""
    norm = float(beta @ beta)
    return beta * (risk_sd / norm) if norm > 0 else np.zeros_like(beta)


def cosine(a: Array, b: Array) -> float:
    """Cosine of two directions of any shape; 0 where one of them is zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms > 0 else 0.0


def design(frame: pd.DataFrame) -> Array:
    """Covariates as columns of numbers: levels become indicators, missing values the column's mean."""
    numbers = pd.get_dummies(frame, drop_first=True, dtype=float).astype(float)
    return np.asarray(numbers.fillna(numbers.mean()))


def health_attribute(
    model: Any, latents: Latents, cohort: Cohort, adjust_for: Sequence[str] = (), *, seed: int = 0
) -> HealthAttribute:
    """Derive the health attribute from a fitted survival model.

    Parameters
    ----------
    model : estimator
        With ``predict(X)``, X float32 of shape (n, num_ws * w_dim); a linear one also has ``coef_``.
    latents : Latents
    cohort : Cohort
        What it was fitted on.
    adjust_for : sequence of str
        Covariates of the cohort whose linear part is taken out of the ``adjusted`` pattern.
    seed : int
        Chooses the halves of the stability figure.

    Returns
    -------
    HealthAttribute

    Raises
    ------
    InputError
        If a covariate is unknown or no patient has a latent.
    """
    from stylegan_surv.survival.design import patient_matrix
    from stylegan_surv.survival.outcome import Outcome

    ids, x = patient_matrix(latents, cohort)
    if unknown := [name for name in adjust_for if name not in cohort.covariates]:
        raise InputError(
            f"adjust_for names {unknown[0]!r}; the cohort has {', '.join(cohort.covariates) or 'no covariates'}"
        )
    table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
    covariates = table[list(adjust_for)] if adjust_for else None
    num_ws, w_dim = latents.w_plus.shape[1:]
    return attribute_of(model, x, Outcome.from_frame(table), (num_ws, w_dim), covariates, seed=seed)


def attribute_of(
    model: Any,
    x: Array,
    outcome: Outcome,
    shape: tuple[int, int],
    covariates: pd.DataFrame | None = None,
    *,
    seed: int = 0,
) -> HealthAttribute:
    """The health attribute of a model of these patients.

    Parameters
    ----------
    model : estimator
        As in :func:`health_attribute`.
    x : array of float, shape (n, num_ws * w_dim)
        Latents of the patients.
    outcome : Outcome
        Their follow-up, in the same order.
    shape : (int, int)
        num_ws and w_dim.
    covariates : DataFrame, optional
        Columns, in the same order, whose linear part is taken out of the ``adjusted`` pattern.
    seed : int
        Chooses the halves of the stability figure.
    """
    from sklearn.base import clone

    x = np.asarray(x, dtype=np.float64)
    risk = np.asarray(model.predict(x), dtype=np.float64)
    beta = linear_coefficients(model, x.shape[1])
    halves = np.array_split(np.random.default_rng(seed).permutation(len(x)), 2)
    fits = [clone(model).fit(x[half], outcome.subset(half).y) for half in halves]
    split = {"pattern": cosine(*(pattern(x[h], np.asarray(f.predict(x[h]))) for h, f in zip(halves, fits)))}
    if beta is not None:
        split["coefficient"] = cosine(*(np.asarray(linear_coefficients(f, x.shape[1])) for f in fits))
    adjusted = None if covariates is None else adjusted_pattern(x, risk, design(covariates)).reshape(shape)
    return HealthAttribute(
        pattern=pattern(x, risk).reshape(shape),
        coefficient=None if beta is None else coefficient_step(beta, float(risk.std())).reshape(shape),
        adjusted=adjusted,
        mean=x.mean(axis=0).reshape(shape),
        risk_sd=float(risk.std()),
        adjusted_for=() if covariates is None else tuple(map(str, covariates.columns)),
        split_half=split,
    )


def linear_coefficients(model: Any, width: int) -> Array | None:
    """β of a linear risk score in terms of the raw latents, mapped back through a Pipeline's linear steps.

    Scalers divide, projections multiply by their components. None for models that are not linear.
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
