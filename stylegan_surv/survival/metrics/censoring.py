"""Who could be observed: the probability of being under observation, for inverse-probability weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import breslow, fit_cox

Censoring = Literal["km", "stratified", "cox"]
Floats = NDArray[np.floating]
SEPARATED_RIDGE = 0.05  # per patient


@dataclass(frozen=True)
class StepCurves:
    """One step function per column, sharing the jump times.

    Attributes
    ----------
    times : array [k], increasing
    values : array [k + 1, B]
        ``values[0]`` before the first jump, ``values[i]`` from ``times[i - 1]`` on.
    """

    times: Floats
    values: Floats

    def at(self, t: Floats, *, left: bool = False) -> Floats:
        """Values at `t` [m, B]; with `left` the limit from the left."""
        return np.asarray(self.values[np.searchsorted(self.times, t, side="left" if left else "right")])


def at_risk(time: Floats, entry: Floats | None, weight: Floats, t: Floats) -> Floats:
    """Weighted number with entry < t ≤ time, [len(t), B]."""

    def total_at_or_after(x: Floats) -> Floats:
        order = np.argsort(x, kind="stable")
        below = np.concatenate([np.zeros((1, weight.shape[1])), np.cumsum(weight[order], axis=0)])
        return np.asarray(below[-1] - below[np.searchsorted(x[order], t, side="left")])

    leaving = total_at_or_after(time)
    return leaving if entry is None else leaving - total_at_or_after(entry)


def kaplan_meier(
    time: Floats, event: NDArray[np.bool_], *, entry: Floats | None = None, weight: Floats | None = None
) -> StepCurves:
    """Product-limit estimate of S(t), with delayed entry and case weights (one curve per weight column).

    Parameters
    ----------
    time, event : arrays [n]
    entry : array [n] or None
    weight : array [n] or [n, B] or None
        Case weights, e.g. bootstrap multiplicities.
    """
    w = _columns(weight, len(time))
    times, index = np.unique(time[event], return_inverse=True)
    deaths = sparse.csr_array((np.ones(len(index)), (index, np.flatnonzero(event))), (len(times), len(w))) @ w
    with np.errstate(invalid="ignore", divide="ignore"):
        hazard = np.nan_to_num(deaths / at_risk(time, entry, w, times))
    curve = np.cumprod(np.vstack([np.ones((1, w.shape[1])), 1.0 - hazard]), axis=0)
    return StepCurves(times, curve)


def censoring_survival(
    time: Floats, event: NDArray[np.bool_], *, entry: Floats | None = None, weight: Floats | None = None
) -> StepCurves:
    """G(t) = P(censoring after t) by Kaplan–Meier; at a tie, events come before censorings.

    G(t−) = R(t) / (n S(t−)) holds without delayed entry (R(t) at risk). With it, the right-hand side is the
    probability of being *under observation* at t up to a constant, which is what the weights need; so the
    same ratio serves both (Lynden-Bell 1971 for the truncated part).
    """
    w = _columns(weight, len(time))
    times = np.unique(time if entry is None else np.concatenate([time, entry]))
    s = kaplan_meier(time, event, entry=entry, weight=w)
    after = at_risk(time, entry, w, np.nextafter(times, np.inf))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = after / (w.sum(axis=0) * s.at(times))
    return StepCurves(times, np.vstack([np.ones((1, w.shape[1])), np.nan_to_num(ratio, posinf=0.0)]))


def _columns(weight: Floats | None, n: int) -> Floats:
    return np.ones((n, 1)) if weight is None else np.asarray(weight, float).reshape(n, -1)


@dataclass(frozen=True)
class Observation:
    """G(t−) of every patient as a function of t: the probability of being under observation at t.

    Attributes
    ----------
    group : int array [n]
        Which of the curves is a patient's.
    curves : tuple of StepCurves
    multiplier : array [n] or None
        Hazard ratio of being censored: G = curve ** multiplier (Cox model).
    """

    group: NDArray[np.intp]
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

    def cross(self, at: Floats, members: NDArray[np.intp]) -> Floats:
        """G_j(t_i−) of the `members` j at the times t_i, [len(at), len(members)] (first resample)."""
        g = np.stack([curve.at(at, left=True)[:, 0] for curve in self.curves], axis=1)[:, self.group[members]]
        return g if self.multiplier is None else g ** self.multiplier[members]


def observation(
    time: Floats,
    event: NDArray[np.bool_],
    *,
    entry: Floats | None = None,
    strata: NDArray[np.intp] | None = None,
    weight: Floats | None = None,
    censoring: Censoring = "km",
    covariates: ArrayLike | None = None,
) -> Observation:
    """Estimate G by Kaplan–Meier, per stratum, or by a Cox model of the censoring time.

    Parameters
    ----------
    weight : array [n] or [n, B], optional
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
    w, group = _columns(weight, len(time)), np.zeros(len(time), np.intp)
    if censoring == "stratified" and strata is not None:
        group = np.unique(strata, return_inverse=True)[1]
    curves = []
    for k in range(group.max() + 1):
        m = group == k
        late = None if entry is None else entry[m]
        curves.append(censoring_survival(time[m], event[m], entry=late, weight=w[m]))
    return Observation(group, tuple(curves))


def _cox_observation(
    time: Floats, event: NDArray[np.bool_], entry: Floats | None, covariates: Floats
) -> Observation:
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
