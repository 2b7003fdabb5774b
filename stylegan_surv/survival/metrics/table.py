"""The table of metrics: every model, every metric, on the same resamples of patients.

Everywhere a *higher* score means a *worse* prognosis. Intervals resample patients jointly over the repeats of
the cross-validation and are conditional on the fitted models: what another training set would have given is
not in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from stylegan_surv._types import Floats, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics import names
from stylegan_surv.survival.metrics.calibration import a_calibration, d_calibration
from stylegan_surv.survival.metrics.censoring import Censoring, censoring_survival
from stylegan_surv.survival.metrics.concordance import (
    Concordance,
    checked,
    concordance,
    pooled_concordance,
)
from stylegan_surv.survival.metrics.evaluated import Evaluation, Setting, middle
from stylegan_surv.survival.metrics.followed import LEAST_AT_RISK, is_followed, not_followed
from stylegan_surv.survival.metrics.interval import LEVEL, RESAMPLES, Interval
from stylegan_surv.survival.metrics.kaplan_meier import at_risk
from stylegan_surv.survival.metrics.perfect import errors_if_perfect
from stylegan_surv.survival.metrics.resamples import Resamples, multiplicities
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

if TYPE_CHECKING:
    import pandas as pd

    from stylegan_surv.survival.outcome import Outcome

__all__ = [
    "CensoringModel",
    "Concordance",
    "MetricSamples",
    "Metrics",
    "concordance",
    "default_horizons",
    "default_tau",
    "evaluation_times",
    "metric_samples",
    "oof_metrics",
    "paired_differences",
    "pooled_concordance",
]

PAIRS = (
    (names.BOTH, names.CLINICAL),
    (names.PHOTO, names.CLINICAL),
    (names.PHOTO, names.NUISANCE),
    (names.PHOTO, names.FACE_RECOGNITION),
    (names.PHOTO, names.APPARENT_AGE),
)
ERRORS = (names.ICI, names.E50, names.E90)  # distances, which are never negative
AT_RISK = 0.10  # share of the patients that must be under observation where a metric is taken
CURVE_TIMES = 24  # times at which S(t) is predicted beside the horizons
CELLS = 1_000_000  # patients × resamples handled at once: 8 MB per array


def default_tau(outcome: Outcome, share: float = AT_RISK) -> float:
    """Last event time with at least `share` of the patients, and 10 of them, under observation."""
    if not outcome.event.any():
        raise InputError(
            f"outcome: none of the {len(outcome.time)} patients has an event, there is nothing to evaluate. "
            "Check the event column (1 = the event happened)."
        )
    n = len(outcome.time)
    events = np.unique(outcome.time[outcome.event])
    followed = at_risk(outcome.time, outcome.entry, np.ones((n, 1)), events)[:, 0]
    enough = events[followed >= max(share * n, LEAST_AT_RISK)]
    return float(enough[-1] if len(enough) else events[-1])


def default_horizons(outcome: Outcome, share: float = AT_RISK) -> list[float]:
    """Quartiles of the event times up to `default_tau`, to three digits."""
    tau = default_tau(outcome, share)
    quartiles = np.quantile(outcome.time[outcome.event & (outcome.time <= tau)], [0.25, 0.5, 0.75])
    return sorted({float(f"{t:.3g}") for t in quartiles if t > 0})


def evaluation_times(
    outcome: Outcome, horizons: Sequence[float] | None = None, number: int = CURVE_TIMES
) -> list[float]:
    """Times at which S(t) should be predicted: the horizons, and quantiles of the event times up to tau.

    The integrated Brier score and the D- and A-calibration need the whole curve, not three horizons.
    """
    tau = default_tau(outcome)
    horizons = default_horizons(outcome) if horizons is None else horizons
    grid = np.quantile(outcome.time[outcome.event & (outcome.time <= tau)], np.linspace(0, 1, number))
    return sorted({float(f"{t:.4g}") for t in grid if t > 0} | {float(t) for t in horizons})


@dataclass(frozen=True)
class MetricSamples:
    """Every metric of every model on the same bootstrap samples of patients.

    Attributes
    ----------
    values : dict of dict of array of float, shape (1 + B,)
        ``values[model][metric]``: the estimate first, then one value per resample.
    """

    values: Mapping[str, Mapping[str, Floats]]

    def table(self, level: float = LEVEL) -> dict[str, dict[str, Interval]]:
        """``[model][metric]`` with percentile intervals; none of ICI, E50 and E90, which cannot cover 0."""
        return {
            model: {
                metric: Interval.of_samples(v[:1] if metric in ERRORS else v, level)
                for metric, v in metrics.items()
            }
            for model, metrics in self.values.items()
        }

    def difference(self, model: str, other: str, metric: str, level: float = LEVEL) -> Interval:
        """`model` less `other`, paired: both are computed on each resample of the patients."""
        return Interval.of_samples(self.values[model][metric] - self.values[other][metric], level)


@dataclass(frozen=True)
class MetricSettings:
    """What the metrics rest on.

    Attributes
    ----------
    horizons : tuple of float
        Times of AUC(t) and Brier(t).
    main_horizon : float
        That of calibration and net benefit: the middle one.
    tau : float
        Upper end of Uno's C and of the integrated Brier score.
    g_tau : float
        Share that is still uncensored just before `tau`.
    n_boot, seed : int
    thresholds : tuple of float
        Predicted risks at which one would act, for net benefit.
    not_followed : dict of str
        Why nothing is estimated at a horizon, by the horizon as text.
    intervals : str
        What the intervals are, in words.
    """

    horizons: tuple[float, ...]
    main_horizon: float
    tau: float
    g_tau: float
    n_boot: int
    seed: int
    thresholds: tuple[float, ...] = names.THRESHOLDS
    not_followed: Mapping[str, str] = field(default_factory=dict)
    intervals: str = "95 % percentile intervals over patients, conditional on the fitted models"


@dataclass(frozen=True)
class Metrics:
    """The table of metrics, as ``metrics.json`` holds it.

    Attributes
    ----------
    models : dict of dict of Interval
        By model and metric.
    comparisons : dict of dict of Interval
        Paired differences, by ``"both - clinical"`` and metric.
    settings : MetricSettings
    """

    models: Mapping[str, Mapping[str, Interval]]
    comparisons: Mapping[str, Mapping[str, Interval]]
    settings: MetricSettings


@dataclass(frozen=True)
class CensoringModel:
    """Model of the censoring weights.

    Attributes
    ----------
    kind : {"km", "stratified", "cox"}
        As `censoring` in :func:`concordance`.
    covariates : array of float, shape (n, k), optional
        For ``"cox"``.
    """

    kind: Censoring = "km"
    covariates: ArrayLike | None = None


def goodness_of_fit(scores: Scores, outcome: Outcome, tau: float) -> dict[str, Floats]:
    """p of the D- and A-calibration tests up to `tau`, the median over repeats, [1]."""
    end = min(tau, float(scores.horizons[-1]))
    hazard = scores.cumulative_hazard(outcome.time, end)
    start = np.zeros_like(hazard)
    if outcome.entry is not None:
        start = scores.cumulative_hazard(np.maximum(outcome.entry, 0.0), end)
    event = outcome.event & (outcome.time <= end)
    p: dict[str, list[float]] = {names.D_CALIBRATION: [], names.A_CALIBRATION: []}
    for h, h0 in zip(hazard, start):
        k = np.isfinite(h)
        p[names.D_CALIBRATION].append(d_calibration(np.exp(h0[k] - h[k]), event[k]).p)
        p[names.A_CALIBRATION].append(a_calibration(h[k], event[k], entry=h0[k]).p)
    return {name: np.array([np.median(values)]) for name, values in p.items()}


def metric_samples(
    oof: pd.DataFrame,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    tau: float | None = None,
    thresholds: Sequence[float] = names.THRESHOLDS,
    censoring: CensoringModel = CensoringModel(),
    n_boot: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> MetricSamples:
    """Compute every metric of every model on the same `n_boot` resamples of patients.

    Parameters
    ----------
    oof : DataFrame
        Out-of-fold results: patient_id, repeat, fold, model, risk and the S(t) columns.
    outcome : Outcome
    strata : array-like, shape (n,), optional
        For ``stratified_c`` and stratified censoring; by default the outcome's own.
    horizons : sequence of float, optional
        Times of AUC(t) and Brier(t); the middle one serves calibration and net benefit. S(t) must be among
        the columns. By default `default_horizons`. Where the follow-up does not reach (`is_followed`), NaN.
    tau : float, optional
        Upper end of Uno's C and of the integrated Brier score; by default `default_tau`.
    thresholds : sequence of float
        Predicted risks at which one would act, for net benefit; to be set before seeing results.
    censoring : CensoringModel
        Of the inverse-probability weights.
    n_boot, seed : int
        Resamples, the same for all models. Patients are drawn once for all repeats.
    progress : callable, optional
        Called with (done, total).
    """
    strata = outcome.strata if strata is None else strata
    horizons = default_horizons(outcome) if horizons is None else horizons
    models = [str(name) for name in oof["model"].unique()]
    scores = {name: scores_of(oof[oof["model"] == name], outcome) for name in models}
    data = checked(outcome.time, outcome.event, np.zeros(len(outcome.time)), outcome.entry, strata, None)
    data = replace(data, cause=outcome.cause)
    tau = default_tau(outcome) if tau is None else tau
    setting = Setting(horizons, tau, thresholds, data.strata, partial(is_followed, outcome))
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in models}
    m = multiplicities(len(outcome.time), n_boot, seed)
    size = max(1, CELLS // len(m))
    chunks = [m[:, k : k + size] for k in range(0, m.shape[1], size)]
    for i, chunk in enumerate(chunks):
        weighted = Resamples(replace(data, weight=chunk), censoring.kind, censoring.covariates)
        evaluation = Evaluation(weighted, setting)
        for j, name in enumerate(models):
            parts[name].append(evaluation.metrics(scores[name]))
            if progress:
                progress(i * len(models) + j + 1, len(chunks) * len(models))
    values = {
        name: {k: np.concatenate([p[k] for p in each]) for k in each[0]} for name, each in parts.items()
    }
    for name, s in scores.items():
        if s.has_survival and outcome.competing is None:
            values[name] |= goodness_of_fit(s, outcome, setting.tau)
        if names.ICI in values[name] and np.isfinite(values[name][names.ICI][0]):
            values[name] |= errors_if_perfect(s, outcome, setting.main, seed=seed)
    return MetricSamples(values)


def oof_metrics(
    oof: pd.DataFrame,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    tau: float | None = None,
    thresholds: Sequence[float] = names.THRESHOLDS,
    n_boot: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Metrics:
    """The table of metrics with intervals and paired differences; the parameters are those of `metric_samples`."""
    horizons = default_horizons(outcome) if horizons is None else list(horizons)
    tau = default_tau(outcome) if tau is None else tau
    samples = metric_samples(
        oof, outcome, strata=strata, horizons=horizons, tau=tau, thresholds=thresholds, n_boot=n_boot,
        seed=seed, progress=progress,
    )  # fmt: skip
    g = censoring_survival(outcome.time, outcome.observed, entry=outcome.entry).at(np.array([tau]), left=True)
    settings = MetricSettings(
        tuple(map(float, horizons)), middle(horizons), float(tau), float(g[0, 0]), n_boot, seed,
        tuple(map(float, thresholds)), not_followed(outcome, horizons),
    )  # fmt: skip
    return Metrics(samples.table(), paired_differences(samples), settings)


def paired_differences(
    samples: MetricSamples, pairs: Sequence[tuple[str, str]] = PAIRS
) -> dict[str, dict[str, Interval]]:
    """Differences of all metrics that both models have, on the same resamples of patients.

    Returns
    -------
    dict of dict of Interval
        ``["both - clinical"][metric]``; pairs with a missing model are left out.
    """
    # p values have no difference, and simulated cohorts are not those of another model
    tests = (names.D_CALIBRATION, names.A_CALIBRATION, *map(names.if_perfect, ERRORS))
    found = {}
    for a, b in pairs:
        if a in samples.values and b in samples.values:
            shared = [m for m in samples.values[a] if m in samples.values[b] and m not in tests]
            found[names.difference(a, b)] = {m: samples.difference(a, b, m) for m in shared}
    return found
