"""Step functions of time without covariates: patients at risk, Kaplan–Meier, Breslow's baseline hazard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from stylegan_surv._types import Bools, Floats

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome


@dataclass(frozen=True)
class StepCurves:
    """One step function per column, sharing the jump times.

    Attributes
    ----------
    times : array, shape (k,), increasing
    values : array, shape (k + 1, B)
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
    time: Floats, event: Bools, *, entry: Floats | None = None, weight: Floats | None = None
) -> StepCurves:
    """Product-limit estimate of S(t), with delayed entry and case weights (one curve per weight column).

    Parameters
    ----------
    time, event : array, shape (n,)
    entry : array, shape (n,), optional
    weight : array, shape (n,) or (n, B), optional
        Case weights, e.g. bootstrap multiplicities.
    """
    w = weight_columns(weight, len(time))
    times, index = np.unique(time[event], return_inverse=True)
    deaths = sparse.csr_array((np.ones(len(index)), (index, np.flatnonzero(event))), (len(times), len(w))) @ w
    with np.errstate(invalid="ignore", divide="ignore"):
        hazard = np.nan_to_num(deaths / at_risk(time, entry, w, times))
    curve = np.cumprod(np.vstack([np.ones((1, w.shape[1])), 1.0 - hazard]), axis=0)
    return StepCurves(times, curve)


def cumulative_incidence(
    time: Floats,
    event: Bools,
    competing: Bools,
    *,
    entry: Floats | None = None,
    weight: Floats | None = None,
) -> StepCurves:
    """Aalen–Johansen estimate of P(event by t) where other deaths compete, with delayed entry and case weights.

    F(t) = Σ_{s ≤ t} S(s−) d(s) / n(s), with S the Kaplan–Meier curve of the two kinds of death together (Aalen &
    Johansen 1978, Scand. J. Statist. 5:141). A Kaplan–Meier curve that censors the others overstates it.

    Parameters
    ----------
    time : array, shape (n,)
    event, competing : array of bool, shape (n,)
        Whether follow-up ended with the event, or with one that precludes it.
    entry : array, shape (n,), optional
    weight : array, shape (n,) or (n, B), optional
        Case weights, e.g. bootstrap multiplicities.
    """
    w = weight_columns(weight, len(time))
    either = kaplan_meier(time, event | competing, entry=entry, weight=w)
    times, index = np.unique(time[event], return_inverse=True)
    deaths = sparse.csr_array((np.ones(len(index)), (index, np.flatnonzero(event))), (len(times), len(w))) @ w
    with np.errstate(invalid="ignore", divide="ignore"):
        jumps = either.at(times, left=True) * np.nan_to_num(deaths / at_risk(time, entry, w, times))
    return StepCurves(times, np.cumsum(np.vstack([np.zeros((1, w.shape[1])), jumps]), axis=0))


def event_free(outcome: Outcome, rows: Bools | None = None, weight: Floats | None = None) -> StepCurves:
    """P(no event by t): Kaplan–Meier, or one less the cumulative incidence where other deaths compete.

    Parameters
    ----------
    outcome : Outcome
    rows : array of bool, shape (n,), optional
        Patients that the curve is of.
    weight : array, shape (n,) or (n, B), optional
        Of all patients.
    """
    part = outcome if rows is None else outcome.subset(rows)
    w = weight if weight is None or rows is None else weight[rows]
    if part.competing is None:
        return kaplan_meier(part.time, part.event, entry=part.entry, weight=w)
    curve = cumulative_incidence(part.time, part.event, part.competing, entry=part.entry, weight=w)
    return StepCurves(curve.times, 1.0 - curve.values)


def breslow(
    eta: Floats,
    time: Floats,
    event: Bools,
    at: Floats,
    entry: Floats | None = None,
    left: bool = False,
) -> Floats:
    """Cumulative baseline hazard Λ₀ at `at` (its left limit with `left`) for the linear predictor `eta`.

    Breslow (1974): Λ₀(t) = Σ_{events ≤ t} 1 / Σ_{at risk} exp(η).
    """
    times, deaths = np.unique(time[event], return_counts=True)
    hazard = deaths / at_risk(time, entry, np.exp(eta)[:, None], times)[:, 0]
    total = np.concatenate([[0.0], np.cumsum(hazard)])
    return np.asarray(total[np.searchsorted(times, at, side="left" if left else "right")])


def weight_columns(weight: Floats | None, n: int) -> Floats:
    """Case weights as columns, shape (n, B): one of ones where there are none."""
    return np.ones((n, 1)) if weight is None else np.asarray(weight, float).reshape(n, -1)
