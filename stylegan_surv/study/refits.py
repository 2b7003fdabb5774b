"""How much a prediction would change with other patients: the model fitted again on resampled ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from stylegan_surv._types import Floats
from stylegan_surv.survival.cox.ridge import GRAM_LIMIT, CoxRidge
from stylegan_surv.survival.outcome import Outcome

REFITS = 20


@dataclass(frozen=True)
class Refits:
    """A linear model of B resamples of the patients, with its penalty as it was.

    Attributes
    ----------
    coef : array of float32, shape (B, p)
    centre : array of float32, shape (B,)
        Taken from ``x @ coef``.
    hazard : array of float32, shape (B, k)
        Cumulative baseline hazard at the times of the cohort's curve.
    """

    coef: Floats
    centre: Floats
    hazard: Floats

    def survival(self, x: Floats) -> Floats:
        """Predicted survival of one latent (p,) by every refit, shape (B, k)."""
        risk = self.coef.astype(np.float64) @ np.asarray(x, np.float64) - self.centre
        curves: Floats = np.exp(-self.hazard * np.exp(risk)[:, None])
        return curves

    def band(self, x: Floats) -> tuple[Floats, Floats]:
        """The lowest and the highest of them at every time, shape (k,) each."""
        curves = self.survival(x)
        return curves.min(axis=0), curves.max(axis=0)


def refit(model: Any, x: Floats, outcome: Outcome, times: Floats, *, seed: int = 0) -> Refits | None:
    """Fit a ridge Cox model again on bootstrap samples of its patients; None for other models and very many patients.

    Parameters
    ----------
    model : estimator
        Fitted on `x`; its penalty is kept, not chosen again.
    x : array of float, shape (n, p)
    outcome : Outcome
        Without strata.
    times : array of float, shape (k,)
    seed : int
        Of the samples.
    """
    if not isinstance(model, CoxRidge) or len(x) > GRAM_LIMIT:  # beyond it a fit takes minutes
        return None
    rng = np.random.default_rng(seed)
    again = clone(model).set_params(cv=None, alphas=(model.alpha_,), alpha=None)
    coef, centre, hazard = [], [], []
    for _ in range(REFITS):
        count = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x))
        rows = np.flatnonzero(count)
        drawn = outcome.subset(rows)
        drawn = replace(drawn, weight=drawn.case_weight * count[rows])  # drawn twice is counted twice
        if not drawn.event.any():
            continue
        fitted = clone(again).fit(x[rows], drawn.y, **drawn.fit_params)
        coef.append(fitted.coef_)
        centre.append(float(fitted.mean_ @ fitted.coef_))
        baseline = np.asarray(fitted.survival_from_risk(np.zeros(1), times))[0]
        hazard.append(-np.log(np.maximum(baseline, np.finfo(float).tiny)))
    return Refits(*(np.asarray(part, np.float32) for part in (coef, centre, hazard))) if coef else None
