"""What the calibration errors would be if every predicted probability were right: they are never 0 in a sample.

The mean distance between predicted and smoothed observed risk is positive by construction, and its true value under
perfect calibration, 0, lies at the edge of what it can be. No bootstrap interval covers that; the distribution under
simulated perfect calibration is what an error has to be compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics import names
from stylegan_surv.survival.metrics.calibration import calibration
from stylegan_surv.survival.metrics.kaplan_meier import kaplan_meier
from stylegan_surv.survival.validation.out_of_fold import Scores

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

SIMULATED = 100  # cohorts; the 97.5th percentile rests on the largest three


def errors_if_perfect(
    scores: Scores, outcome: Outcome, t: float, *, number: int = SIMULATED, seed: int = 0
) -> dict[str, Floats]:
    """ICI, E50 and E90 of simulated cohorts whose deaths follow the predicted curves of the first repeat.

    Parameters
    ----------
    scores : Scores
    outcome : Outcome
        Its entries and its censoring are kept; censoring of those who died is drawn from its Kaplan–Meier curve.
    t : float
        Horizon of the calibration, one of those of the scores.
    number, seed : int

    Returns
    -------
    dict of array of float, shape (1 + number,)
        Under ``ici_if_perfect`` and so on: the median, then each simulated cohort.
    """
    k = np.isfinite(scores.risk[0])
    survival, end = scores.at(t)[0][k], float(scores.horizons[-1])
    hazard = -np.log(np.clip(scores.survival[0][k], 1e-10, 1.0))
    hazard = np.column_stack([np.zeros(k.sum()), hazard])
    knots = np.concatenate([[0.0], scores.horizons])
    time, event = outcome.time[k], outcome.event[k]
    entry = None if outcome.entry is None else outcome.entry[k]
    start = None if entry is None else np.maximum(entry, 0.0)
    curve = kaplan_meier(outcome.time, ~outcome.event, entry=outcome.entry)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in (names.ICI, names.E50, names.E90)}
    for _ in range(number):
        until = rng.random(len(time)) * curve.at(time)[:, 0]
        drawn = np.searchsorted(-curve.values[1:, 0], -until, side="left")
        after = np.append(curve.times, np.inf)[drawn]
        leaving = np.minimum(np.where(event, np.maximum(after, time), time), end)
        death = death_times(hazard, knots, rng.exponential(size=len(time)), start)
        alive = leaving > (-np.inf if start is None else start)
        alive &= np.minimum(death, leaving) > (0.0 if start is None else start)
        try:
            c = calibration(
                survival[alive], np.minimum(death, leaving)[alive], (death <= leaving)[alive], t,
                entry=None if entry is None else entry[alive],
            )  # fmt: skip
        except InputError:  # a cohort without enough deaths
            continue
        for name, values in found.items():
            values.append(float(getattr(c, name)))
    return {
        names.if_perfect(name): np.array([np.median(values), *values])
        for name, values in found.items()
        if values
    }


def death_times(hazard: Floats, knots: Floats, budget: Floats, start: Floats | None = None) -> Floats:
    """When each patient's cumulative hazard reaches what it can bear; infinite after the last knot.

    Parameters
    ----------
    hazard : array of float, shape (n, K)
        Cumulative hazards at the knots, linear between them.
    knots : array of float, shape (K,)
    budget : array of float, shape (n,)
        Unit exponential draws.
    start : array of float, shape (n,), optional
        Times at which the patients are known to be alive.
    """
    out = np.full(len(budget), np.inf)
    for i, (own, bearable) in enumerate(zip(hazard, budget)):
        goal = bearable + (0.0 if start is None else np.interp(start[i], knots, own))
        if goal < own[-1]:
            out[i] = np.interp(goal, own, knots)
    return out
