"""Does the score tell the same late as early? Its hazard ratio by period, and the difference in life time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm

from stylegan_surv._types import Array, Bools, Floats, Ints
from stylegan_surv.audit.added_value import adjusted_score, hazard_ratio, varying
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, kaplan_meier
from stylegan_surv.survival.metrics.table import default_tau

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

LEAST_EVENTS = 10  # in a period whose hazard ratio is estimated


@dataclass(frozen=True)
class Period:
    """Hazard ratio per standard deviation of the score between two times; the last period has no end."""

    start: float
    end: float | None
    events: int
    hazard_ratio: Interval


@dataclass(frozen=True)
class HazardsOverTime:
    """Section of ``metrics.json``.

    Attributes
    ----------
    p : float
        Grambsch–Therneau test that the hazard ratio does not change with time.
    periods : tuple of Period
        Before and after the median event time.
    crosses : bool
        Whether the hazard ratios lie on opposite sides of 1, with intervals that leave 1 out.
    lost_time : Interval
        Restricted mean survival time of the lowest third of the score, less that of the highest, in the unit of the
        table; positive where a higher score costs life time.
    until : float
        Time to which that is counted.
    """

    p: float
    periods: tuple[Period, ...]
    crosses: bool
    lost_time: Interval
    until: float


def hazards_over_time(
    score: Floats,
    outcome: Outcome,
    clinical: Floats | None = None,
    *,
    fold: Ints | None = None,
    strata: Array | None = None,
) -> HazardsOverTime | None:
    """The out-of-fold score early and late, beside the clinical variables.

    Parameters
    ----------
    score : array of float, shape (n,)
        NaN leaves the patient out.
    outcome : Outcome
    clinical : array of float, shape (n, q), optional
    fold : array of int, shape (n,), optional
        The score is centred within folds.
    strata : array, shape (n,), optional
        Strata of the baseline hazard.

    Returns
    -------
    HazardsOverTime or None
        None where one of the periods has fewer than 10 events, the score does not vary, or its test has no value.
    """
    known = np.isfinite(score)
    fold = np.zeros(len(score), int) if fold is None else np.asarray(fold)
    z = pd.Series(score[known])
    z = z - z.groupby(fold[known]).transform("mean")
    part = outcome.subset(known)
    cut = float(np.median(part.time[part.event])) if part.event.any() else 0.0
    late = part.time > cut
    if not z.std() > 0 or min((part.event & late).sum(), (part.event & ~late).sum()) < LEAST_EVENTS:
        return None
    level = None if strata is None else np.asarray(strata)[known]
    x = None if clinical is None else np.asarray(clinical)[known]
    try:
        whole = adjusted_score(score[known], part, x, fold=fold[known], strata=level)
        design = np.column_stack([z / z.std(), np.zeros((len(z), 0)) if x is None else x])
        ratios = [_ratio(design, part, cut, k, level) for k in (False, True)]
    except InputError:  # a period in which a column does not vary
        return None
    bounds = [v for r in ratios for v in (r.estimate, r.low, r.high)]
    if not np.isfinite([whole.p_proportional, *(np.nan if v is None else v for v in bounds)]).all():
        return None  # a clinical column that separates the patients leaves no variance
    early, after = ratios
    crosses = bool((early.high < 1 < after.low) or (after.high < 1 < early.low))  # type: ignore[operator]
    until = default_tau(part)
    events = int((part.event & late).sum())
    return HazardsOverTime(
        whole.p_proportional,
        (Period(0.0, cut, int(part.event.sum()) - events, early), Period(cut, None, events, after)),
        crosses, lost_time(z.to_numpy(), part, until), until,
    )  # fmt: skip


def _ratio(design: Floats, outcome: Outcome, cut: float, late: bool, strata: Array | None) -> Interval:
    """Hazard ratio of the first column up to `cut`, or after it, beside the others."""
    time, event, entry = outcome.time, outcome.event, outcome.entry
    if late:
        k = time > cut
        entry = np.full(len(time), cut) if entry is None else np.maximum(entry, cut)
    else:
        k = np.full(len(time), True) if entry is None else entry < cut
        event, time = event & (time <= cut), np.minimum(time, cut)
    level = None if strata is None else strata[k]
    fit = fit_cox(
        varying(design[k], level), time[k], event[k], entry=None if entry is None else entry[k],
        strata=level,
    )  # fmt: skip
    return hazard_ratio(float(fit.coef[0]), float(fit.se[0]))


def lost_time(z: Floats, outcome: Outcome, until: float) -> Interval:
    """Restricted mean survival time of the lowest third of a score, less that of the highest third."""
    low, high = np.quantile(z, [1 / 3, 2 / 3])
    (a, va), (b, vb) = (restricted_mean(outcome, k, until) for k in (z <= low, z >= high))
    half = float(norm.ppf(0.975) * np.sqrt(va + vb))
    return Interval(a - b, a - b - half, a - b + half)


def restricted_mean(outcome: Outcome, member: Bools, until: float) -> tuple[float, float]:
    """Area under the Kaplan–Meier curve up to `until`, and its variance (Klein & Moeschberger 2003, section 4.5)."""
    time, event = outcome.time[member], outcome.event[member]
    entry = None if outcome.entry is None else outcome.entry[member]
    curve = kaplan_meier(time, event, entry=entry)
    inside = curve.times < until
    edges = np.concatenate([[0.0], curve.times[inside], [until]])
    steps = np.diff(edges) * curve.values[: inside.sum() + 1, 0]
    left = np.cumsum(steps[::-1])[::-1][1:]  # area from each event time on
    deaths = np.bincount(np.searchsorted(curve.times, time[event]), minlength=len(curve.times))[inside]
    risk = at_risk(time, entry, np.ones((len(time), 1)), curve.times[inside])[:, 0]
    rest = np.maximum(risk * (risk - deaths), 1.0)
    return float(steps.sum()), float(np.sum(left**2 * deaths / rest))
