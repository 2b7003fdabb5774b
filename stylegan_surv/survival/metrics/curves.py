"""The curves beside the table of metrics: survival by risk third, AUC(t), calibration, net benefit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.survival.metrics import accuracy, names
from stylegan_surv.survival.metrics.calibration import calibration
from stylegan_surv.survival.metrics.concordance import checked
from stylegan_surv.survival.metrics.evaluated import CONSTANT
from stylegan_surv.survival.metrics.followed import is_followed
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, event_free, kaplan_meier
from stylegan_surv.survival.metrics.resamples import Resamples, multiplicities
from stylegan_surv.survival.metrics.summary import THIRDS, round_ticks, thirds_within_fold
from stylegan_surv.survival.metrics.table import Metrics
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

DRAWN = (names.CLINICAL, names.PHOTO, names.BOTH)  # models that have curves
THRESHOLDS = np.linspace(0.02, 0.7, 35)  # of the decision curves
BINS = 40  # of the distribution of predicted risks
SHOWN = (0.01, 0.99)  # predicted risks between which a calibration curve is drawn
LEAST_AT_RISK = 10  # patients from which on a curve with delayed entry begins
BAND_RESAMPLES = 200  # of the band of a cumulative incidence
NORMAL_975 = 1.96  # of the pointwise 95 % bands
UPPER, ROOM, LEAST = (
    0.995,
    1.1,
    0.05,
)  # limit of a calibration plot: a quantile, room above it, its least value


@dataclass(frozen=True)
class SurvivalCurve:
    """A Kaplan–Meier curve with its pointwise 95 % band, from (0, 1) on.

    Attributes
    ----------
    time, survival, low, high : array of float, shape (T,)
    """

    time: Floats
    survival: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class GroupedSurvival:
    """Kaplan–Meier curves of groups of patients.

    Attributes
    ----------
    ticks : array of float, shape (K,)
        Round times from 0 over nearly the whole follow-up.
    groups : dict of SurvivalCurve
    at_risk : dict of array of int, shape (K,)
        Patients of each group under observation at the ticks.
    """

    ticks: Floats
    groups: Mapping[str, SurvivalCurve]
    at_risk: Mapping[str, Ints]


@dataclass(frozen=True)
class AucCurve:
    """AUC at the horizons, with intervals; arrays of shape (H,), NaN where it cannot be computed."""

    time: Floats
    estimate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CalibrationCurve:
    """Smoothed observed against predicted risk of one model, first repeat.

    Attributes
    ----------
    predicted, observed : array of float, shape (m,)
        From the 1st to the 99th percentile of the predicted risks, in increasing order.
    histogram : array of int, shape (BINS,)
        Distribution of all predicted risks between 0 and the `limit` of the curves.
    """

    predicted: Floats
    observed: Floats
    histogram: Ints


@dataclass(frozen=True)
class CalibrationCurves:
    """Calibration of all models at one horizon; `limit` is the largest risk that is drawn."""

    horizon: float
    limit: float
    models: Mapping[str, CalibrationCurve]


@dataclass(frozen=True)
class DecisionCurves:
    """Net benefit of all models, and of treating everybody, at `thresholds` of predicted risk, shape (K,)."""

    horizon: float
    thresholds: Floats
    models: Mapping[str, Floats]
    treat_all: Floats


@dataclass(frozen=True)
class Curves:
    """All of them; what no model has is None or empty."""

    survival: Mapping[str, GroupedSurvival]
    auc: Mapping[str, AucCurve]
    calibration: CalibrationCurves | None
    benefit: DecisionCurves | None


def curves_of(oof: pd.DataFrame, outcome: Outcome, metrics: Metrics) -> Curves:
    """The curves of the models in `DRAWN`.

    Parameters
    ----------
    oof : DataFrame
        Out-of-fold results.
    outcome : Outcome
        Of their patients.
    metrics : Metrics
        The table made of them.
    """
    present = set(oof["model"])
    scores = {m: scores_of(oof[oof["model"] == m], outcome) for m in DRAWN if m in present}
    probable = {m: s for m, s in scores.items() if s.has_survival}
    horizon = metrics.settings.main_horizon
    if not is_followed(outcome, [horizon])[0]:
        probable = {}
    return Curves(
        {m: survival_by_third(s, outcome) for m, s in scores.items()},
        _auc_curves(metrics, list(scores)),
        calibration_curves(probable, outcome, horizon) if outcome.competing is None else None,
        decision_curves(probable, outcome, horizon),
    )


def survival_curve(time: Floats, event: Bools, entry: Floats | None = None) -> SurvivalCurve:
    """Kaplan–Meier with a band by Greenwood's variance on the log(−log) scale.

    Notes
    -----
    Kalbfleisch & Prentice (2002), section 1.4; where S is 0 or 1 the band is the curve.
    """
    curve = kaplan_meier(time, event, entry=entry)
    ones = np.ones((len(time), 1))
    d = np.bincount(np.searchsorted(curve.times, time[event]), minlength=len(curve.times))
    r = at_risk(time, entry, ones, curve.times)[:, 0]
    s = curve.values[1:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(d / (r * (r - d)))
        half = NORMAL_975 * np.sqrt(greenwood) / np.log(s)
        low, high = s ** np.exp(-half), s ** np.exp(half)
    known = (s > 0) & (s < 1)
    low, high = np.where(known, low, s), np.where(known, high, s)
    band = (np.concatenate([[1.0], edge]) for edge in (low, high))
    return SurvivalCurve(np.concatenate([[0], curve.times]), curve.values[:, 0], *band)


def incidence_curve(outcome: Outcome, rows: Bools) -> SurvivalCurve:
    """1 − F₁ of the patients `rows` by Aalen–Johansen, with a pointwise band over resamples of them.

    With delayed entry the curve is conditional on no death before the first time at which LEAST_AT_RISK are at risk.
    """
    part = outcome.subset(rows)
    start, n = -np.inf, len(part)
    if part.entry is not None:
        followed = at_risk(part.time, part.entry, np.ones((n, 1)), np.unique(part.time))[:, 0]
        enough = np.unique(part.time)[followed >= LEAST_AT_RISK]
        start = float(enough[0]) if len(enough) else np.inf
    late = part.subset(part.time >= start)
    curve = event_free(late, weight=multiplicities(len(late), BAND_RESAMPLES, 0))
    low, high = np.quantile(curve.values[:, 1:], [0.025, 0.975], axis=1)
    times = np.concatenate([[0.0], curve.times])
    return SurvivalCurve(times, curve.values[:, 0], low, high)


def survival_by_third(scores: Scores, outcome: Outcome) -> GroupedSurvival:
    """Curves by third of the out-of-fold risk, formed within folds."""
    third = thirds_within_fold(scores)
    ticks = round_ticks(outcome.time[third >= 0])
    groups, counts = {}, {}
    for k, name in enumerate(THIRDS):
        m = third == k
        entry = None if outcome.entry is None else outcome.entry[m]
        if outcome.competing is None:
            groups[name] = survival_curve(outcome.time[m], outcome.event[m], entry)
        else:
            groups[name] = incidence_curve(outcome, m)
        counts[name] = at_risk(outcome.time[m], entry, np.ones((m.sum(), 1)), ticks)[:, 0].astype(int)
    return GroupedSurvival(ticks, groups, counts)


def _auc_curves(metrics: Metrics, models: list[str]) -> dict[str, AucCurve]:
    horizons = metrics.settings.horizons
    wanted = [names.at(names.AUC, t) for t in horizons]
    found = {}
    for model in models:
        table = metrics.models[model]
        if wanted and set(wanted) <= set(table):
            rows = np.array([[table[k].estimate, table[k].low, table[k].high] for k in wanted], float)
            found[model] = AucCurve(np.asarray(horizons), *rows.T)
    return found


def calibration_curves(scores: Mapping[str, Scores], outcome: Outcome, t: float) -> CalibrationCurves | None:
    """Calibration at `t` on the first repeat; None where no model's predictions vary."""
    found = {}
    for model, s in scores.items():
        survival = s.at(t)[0]
        k = np.isfinite(survival)
        if np.ptp(survival[k]) < CONSTANT:
            continue
        entry = None if outcome.entry is None else outcome.entry[k]
        found[model] = calibration(survival[k], outcome.time[k], outcome.event[k], t, entry=entry)
    if not found:
        return None
    limit = max(float(np.quantile(c.predicted, UPPER)) for c in found.values()) * ROOM
    limit = min(1.0, max(limit, LEAST))
    curves = {}
    for model, c in found.items():
        order = np.argsort(c.predicted)
        inner = order[int(SHOWN[0] * len(order)) : int(np.ceil(SHOWN[1] * len(order)))]
        counts, _ = np.histogram(c.predicted, bins=BINS, range=(0, limit))
        curves[model] = CalibrationCurve(c.predicted[inner], c.observed[inner], counts)
    return CalibrationCurves(float(t), limit, curves)


def decision_curves(scores: Mapping[str, Scores], outcome: Outcome, t: float) -> DecisionCurves | None:
    """Net benefit at `t`; None without models."""
    if not scores:
        return None
    data = checked(outcome.time, outcome.event, np.zeros(len(outcome)), outcome.entry, None, None)
    sample = Resamples(replace(data, weight=np.ones((len(outcome), 1)), cause=outcome.cause))

    def curve(survival: Floats) -> Floats:
        return np.array([accuracy.net_benefit(survival, sample, t, p)[0] for p in THRESHOLDS])

    models = {m: curve(s.at(t)) for m, s in scores.items()}
    return DecisionCurves(float(t), THRESHOLDS, models, curve(np.zeros((1, len(outcome)))))
