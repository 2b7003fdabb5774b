"""Who could be observed: the probability of being under observation, for inverse-probability weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.kaplan_meier import (
    StepCurves,
    at_risk,
    breslow,
    kaplan_meier,
    weight_columns,
)

Censoring = Literal["km", "stratified", "cox"]
SEPARATED_RIDGE = 0.05  # per patient


def censoring_survival(
    time: Floats, event: Bools, *, entry: Floats | None = None, weight: Floats | None = None
) -> StepCurves:
    """G(t) = P(censoring after t) by Kaplan–Meier; at a tie, events come before censorings.

    G(t−) = R(t) / (n S(t−)) holds without delayed entry (R(t) at risk). With it, the right-hand side is the
    probability of being *under observation* at t up to a constant, which is what the weights need; so the
    same ratio serves both (Lynden-Bell 1971 for the truncated part).
    """
    w = weight_columns(weight, len(time))
    times = np.unique(time if entry is None else np.concatenate([time, entry]))
    s = kaplan_meier(time, event, entry=entry, weight=w)
    after = at_risk(time, entry, w, np.nextafter(times, np.inf))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = after / (w.sum(axis=0) * s.at(times))
    return StepCurves(times, np.vstack([np.ones((1, w.shape[1])), np.nan_to_num(ratio, posinf=0.0)]))


@dataclass(frozen=True)
class Observation:
    """G(t−) of every patient as a function of t: the probability of being under observation at t.

    Attributes
    ----------
    group : array of int, shape (n,)
        Which of the curves is a patient's.
    curves : tuple of StepCurves
    multiplier : array, shape (n,), optional
        Hazard ratio of being censored: G = curve ** multiplier (Cox model).
    """

    group: Ints
    curves: tuple[StepCurves, ...]
    multiplier: Floats | None = None

    @property
    def shared(self) -> bool:
        """Whether all patients have the same curve."""
        return len(self.curves) == 1 and self.multiplier is None

    def own(self, at: Floats | float) -> Floats:
        """G_i(t_i−), each patient at a time of their own, [n, B]."""
        at = np.broadcast_to(np.asarray(at, float), self.group.shape)
        g = np.empty((len(self.group), self.curves[0].values.shape[1]))
        for k, curve in enumerate(self.curves):
            g[self.group == k] = curve.at(at[self.group == k], left=True)
        return g if self.multiplier is None else g ** self.multiplier[:, None]

    def cross(self, at: Floats, members: Ints) -> Floats:
        """G_j(t_i−) of the `members` j at the times t_i, [len(at), len(members)] (first resample)."""
        g = np.stack([curve.at(at, left=True)[:, 0] for curve in self.curves], axis=1)[:, self.group[members]]
        return g if self.multiplier is None else g ** self.multiplier[members]


def observation(
    time: Floats,
    event: Bools,
    *,
    entry: Floats | None = None,
    strata: Ints | None = None,
    weight: Floats | None = None,
    censoring: Censoring = "km",
    covariates: ArrayLike | None = None,
) -> Observation:
    """Estimate G by Kaplan–Meier, per stratum, or by a Cox model of the censoring time.

    Parameters
    ----------
    weight : array, shape (n,) or (n, B), optional
        Case weights; one estimate per column. The Cox model is fitted once, without them.
    """
    if censoring == "cox":
        if covariates is None:
            raise InputError(
                "censoring='cox' needs censoring_covariates: what follow-up may depend on, e.g. the year"
            )
        return _cox_observation(time, event, entry, np.asarray(covariates, float))
    if censoring not in ("km", "stratified"):
        raise InputError(f"censoring: got {censoring!r}, expected 'km', 'stratified' or 'cox'")
    if censoring == "stratified" and strata is None:
        raise InputError("censoring='stratified' needs strata")
    w, group = weight_columns(weight, len(time)), np.zeros(len(time), np.intp)
    if censoring == "stratified" and strata is not None:
        group = np.unique(strata, return_inverse=True)[1]
    curves = []
    for k in range(group.max() + 1):
        m = group == k
        late = None if entry is None else entry[m]
        curves.append(censoring_survival(time[m], event[m], entry=late, weight=w[m]))
    return Observation(group, tuple(curves))


def _cox_observation(time: Floats, event: Bools, entry: Floats | None, covariates: Floats) -> Observation:
    """G(t | x) = exp(−Λ₀(t) exp(xβ)), Λ₀ by Breslow (1974).

    A calendar end of follow-up makes the year of entry tell the censoring time exactly, and β has no maximum: then a
    ridge on the standardised columns keeps it finite.
    """
    x = covariates.reshape(len(time), -1)
    x = x / np.maximum(x.std(axis=0), np.finfo(float).tiny)
    leaving = np.where(event, np.nextafter(time, -np.inf), time)  # at a tie, events come before censorings
    try:
        fit = fit_cox(x, leaving, ~event, entry=entry)
    except InputError:
        fit = fit_cox(x, leaving, ~event, entry=entry, ridge=SEPARATED_RIDGE * len(x))
    eta = (x - x.mean(axis=0)) @ fit.coef
    times = np.unique(leaving[~event])
    baseline = np.exp(-np.concatenate([[0.0], breslow(eta, leaving, ~event, times, entry)]))
    return Observation(np.zeros(len(time), np.intp), (StepCurves(times, baseline[:, None]),), np.exp(eta))
