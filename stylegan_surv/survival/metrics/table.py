"""The table of metrics: every model, every metric, on the same resamples of patients.

Everywhere a *higher* score means a *worse* prognosis. Intervals resample patients jointly over the repeats of
the cross-validation and are conditional on the fitted models: what another training set would have given is
not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics import accuracy as _accuracy
from stylegan_surv.survival.metrics.calibration import a_calibration, calibration, d_calibration
from stylegan_surv.survival.metrics.censoring import Censoring, censoring_survival
from stylegan_surv.survival.metrics.concordance import (
    Concordance,
    PairWeights,
    checked,
    concordance,
    pair_weights,
    pooled_concordance,
    repeat_pairs,
)
from stylegan_surv.survival.metrics.kaplan_meier import at_risk
from stylegan_surv.survival.metrics.resamples import Resamples, multiplicities
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

__all__ = [
    "Concordance",
    "MetricSamples",
    "concordance",
    "default_horizons",
    "default_tau",
    "evaluation_times",
    "interval",
    "metric_samples",
    "oof_metrics",
    "paired_differences",
    "pooled_concordance",
]

Floats = NDArray[np.floating]
THRESHOLDS = (
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
)  # of predicted risk, for net benefit; set beforehand, not chosen by result
PAIRS = (
    ("both", "clinical"),
    ("photo", "clinical"),
    ("photo", "nuisance"),
    ("photo", "face_recognition"),
    ("photo", "apparent_age"),
)
_CELLS = 1_000_000  # patients × resamples handled at once: 8 MB per array


def default_tau(outcome: Outcome, share: float = 0.10) -> float:
    """Last event time with at least `share` of the patients under observation."""
    if not outcome.event.any():
        raise InputError(
            f"outcome: none of the {len(outcome.time)} patients has an event, there is nothing to evaluate. "
            "Check the event column (1 = the event happened)."
        )
    n = len(outcome.time)
    events = np.unique(outcome.time[outcome.event])
    followed = at_risk(outcome.time, outcome.entry, np.ones((n, 1)), events)[:, 0]
    enough = events[followed >= share * n]
    return float(enough[-1] if len(enough) else events[-1])


def default_horizons(outcome: Outcome, share: float = 0.10) -> list[float]:
    """Quartiles of the event times up to `default_tau`, to three digits."""
    tau = default_tau(outcome, share)
    quartiles = np.quantile(outcome.time[outcome.event & (outcome.time <= tau)], [0.25, 0.5, 0.75])
    return sorted({float(f"{t:.3g}") for t in quartiles if t > 0})


def evaluation_times(
    outcome: Outcome, horizons: Sequence[float] | None = None, number: int = 24
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
    values : dict of dict of array [1 + B]
        ``values[model][metric]``: the estimate first, then one value per resample.
    """

    values: Mapping[str, Mapping[str, Floats]]

    def table(self, level: float = 0.95) -> dict[str, dict[str, dict[str, float | None]]]:
        """``[model][metric].{estimate, low, high}`` with percentile intervals."""
        return {
            model: {metric: interval(v, level) for metric, v in metrics.items()}
            for model, metrics in self.values.items()
        }

    def difference(self, model: str, other: str, metric: str, level: float = 0.95) -> dict[str, float | None]:
        """`model` less `other`, paired: both are computed on each resample of the patients."""
        return interval(self.values[model][metric] - self.values[other][metric], level)


def interval(values: Floats, level: float = 0.95) -> dict[str, float | None]:
    """Estimate (first value) and percentile interval (the others); None where it cannot be computed."""
    edge = (1 - level) / 2
    resamples = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(resamples, [edge, 1 - edge]) if len(resamples) > 1 else (np.nan, np.nan)
    numbers = zip(("estimate", "low", "high"), (values[0], low, high))
    return {name: float(x) if np.isfinite(x) else None for name, x in numbers}


@dataclass(frozen=True)
class _Setting:
    """What all models are evaluated on."""

    horizons: Sequence[float]
    tau: float
    thresholds: Sequence[float]
    strata: NDArray[np.intp] | None

    @property
    def main(self) -> float:
        """The horizon of calibration and net benefit: the middle one."""
        return self.horizons[len(self.horizons) // 2]


class _Evaluation:
    """Metrics of any model on one chunk of resamples; weights are computed once for all models."""

    def __init__(self, resamples: Resamples, setting: _Setting) -> None:
        data = resamples.data
        self.resamples, self.setting = resamples, setting
        self.harrell = pair_weights(data, "harrell", None)
        self.uno = pair_weights(data, "uno", setting.tau, resamples.censoring, resamples.covariates)
        self._weights: dict[float, Floats] = {}

    def metrics(self, scores: Scores) -> dict[str, Floats]:
        """Every metric, [B]."""
        setting = self.setting
        values = {"harrell_c": self._c(scores, self.harrell), "uno_c": self._c(scores, self.uno)}
        if setting.strata is not None:
            values["stratified_c"] = self._c(scores, self.harrell, setting.strata)
        for t in setting.horizons:
            values[f"auc_{t:g}"] = _accuracy.auc(scores, self.resamples, t, self._at(t))
        if scores.has_survival:
            values |= self._brier(scores) | self._calibration(scores) | self._net_benefit(scores)
        return values

    def _at(self, t: float) -> Floats:
        if t not in self._weights:
            self._weights[t] = self.resamples.status_weights(t)
        return self._weights[t]

    def _c(self, scores: Scores, weight: PairWeights, strata: NDArray[np.intp] | None = None) -> Floats:
        data, m = replace(self.resamples.data, strata=strata), self.resamples.m
        counts = [pairs.counts(m) for pairs in repeat_pairs(scores, data, weight)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.mean([concordant / comparable for concordant, comparable in counts], axis=0))

    def _brier(self, scores: Scores) -> dict[str, Floats]:
        r, tau = self.resamples, self.setting.tau
        values = {
            f"brier_{t:g}": _accuracy.brier(scores.at(t), r, t, self._at(t)) for t in self.setting.horizons
        }
        times = scores.horizons[scores.horizons <= tau]
        if len(times) == 0:
            return values
        reference = _accuracy.out_of_fold_kaplan_meier(scores, r, times)
        model, null = (
            _accuracy.integrated(
                np.array([_accuracy.brier(s[:, :, k], r, t, self._at(t)) for k, t in enumerate(times)]), times
            )
            for s in (scores.survival, reference)
        )
        return values | {"ibs": model, "ibs_skill": 1 - model / null}

    def _calibration(self, scores: Scores) -> dict[str, Floats]:
        data, t = self.resamples.data, self.setting.main
        each = []
        for s in scores.at(t):
            k = np.isfinite(s)
            if np.ptp(s[k]) < 1e-9:  # a model without predictors: nothing to calibrate
                return {}
            entry = None if data.entry is None else data.entry[k]
            each.append(
                calibration(
                    s[k], data.time[k], data.event[k], t, entry=entry, multiplicity=self.resamples.m[k]
                )
            )
        names = ("oe", "slope", "ici", "e50", "e90")
        return {name: np.mean([getattr(c, name) for c in each], axis=0) for name in names}

    def _net_benefit(self, scores: Scores) -> dict[str, Floats]:
        t, r = self.setting.main, self.resamples
        return {
            f"net_benefit_{p:g}": _accuracy.net_benefit(scores.at(t), r, t, p)
            for p in self.setting.thresholds
        }


def goodness_of_fit(scores: Scores, outcome: Outcome, tau: float) -> dict[str, Floats]:
    """p of the D- and A-calibration tests up to `tau`, the median over repeats, [1]."""
    end = min(tau, float(scores.horizons[-1]))
    hazard = scores.cumulative_hazard(outcome.time, end)
    start = np.zeros_like(hazard)
    if outcome.entry is not None:
        start = scores.cumulative_hazard(np.maximum(outcome.entry, 0.0), end)
    event = outcome.event & (outcome.time <= end)
    p: dict[str, list[float]] = {"d_calibration": [], "a_calibration": []}
    for h, h0 in zip(hazard, start):
        k = np.isfinite(h)
        p["d_calibration"].append(d_calibration(np.exp(h0[k] - h[k]), event[k]).p)
        p["a_calibration"].append(a_calibration(h[k], event[k], entry=h0[k]).p)
    return {name: np.array([np.median(values)]) for name, values in p.items()}


def metric_samples(
    oof: Any,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    tau: float | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    censoring: Censoring = "km",
    censoring_covariates: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MetricSamples:
    """Compute every metric of every model on the same `n_boot` resamples of patients.

    Parameters
    ----------
    oof : OutOfFold or DataFrame
        Out-of-fold results: patient_id, repeat, fold, model, risk and the S(t) columns.
    outcome : Outcome
    strata : array-like [n], optional
        For ``stratified_c`` and ``censoring="stratified"``; by default the outcome's own.
    horizons : sequence of float, optional
        Times of AUC(t) and Brier(t); the middle one serves calibration and net benefit. S(t) must be among
        the columns. By default `default_horizons`.
    tau : float, optional
        Upper end of Uno's C and of the integrated Brier score; by default `default_tau`.
    thresholds : sequence of float
        Predicted risks at which one would act, for net benefit; to be set before seeing results.
    censoring, censoring_covariates
        Model of the censoring weights, as in `concordance`.
    n_boot, seed : int
        Resamples, the same for all models. Patients are drawn once for all repeats.
    progress : callable, optional
        Called with (done, total).
    """
    frame = getattr(oof, "frame", oof)
    strata = outcome.strata if strata is None else strata
    horizons = default_horizons(outcome) if horizons is None else horizons
    models = [str(name) for name in frame["model"].unique()]
    scores = {name: scores_of(frame[frame["model"] == name], outcome) for name in models}
    data = checked(outcome.time, outcome.event, np.zeros(len(outcome.time)), outcome.entry, strata, None)
    setting = _Setting(horizons, default_tau(outcome) if tau is None else tau, thresholds, data.strata)
    parts: dict[str, list[dict[str, Floats]]] = {name: [] for name in models}
    m = multiplicities(len(outcome.time), n_boot, seed)
    size = max(1, _CELLS // len(m))
    chunks = [m[:, k : k + size] for k in range(0, m.shape[1], size)]
    for i, chunk in enumerate(chunks):
        evaluation = _Evaluation(
            Resamples(replace(data, weight=chunk), censoring, censoring_covariates), setting
        )
        for j, name in enumerate(models):
            parts[name].append(evaluation.metrics(scores[name]))
            if progress:
                progress(i * len(models) + j + 1, len(chunks) * len(models))
    values = {
        name: {k: np.concatenate([p[k] for p in each]) for k in each[0]} for name, each in parts.items()
    }
    for name, s in scores.items():
        if s.has_survival:
            values[name] |= goodness_of_fit(s, outcome, setting.tau)
    return MetricSamples(values)


def oof_metrics(
    oof: Any,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    tau: float | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """The metrics as ``metrics.json`` holds them; the parameters are those of `metric_samples`.

    Returns
    -------
    dict
        ``models.<name>.<metric>.{estimate, low, high}``, the same of paired differences under
        ``comparisons``, and under ``settings`` the horizons, tau, G(tau), the number of resamples and what the
        intervals are conditional on.
    """
    horizons = default_horizons(outcome) if horizons is None else list(horizons)
    tau = default_tau(outcome) if tau is None else tau
    samples = metric_samples(
        oof, outcome, strata=strata, horizons=horizons, tau=tau, n_boot=n_boot, seed=seed, **options
    )
    return {
        "models": samples.table(),
        "comparisons": paired_differences(samples),
        "settings": settings(outcome, horizons, tau, n_boot, seed),
    }


def paired_differences(
    samples: MetricSamples, pairs: Sequence[tuple[str, str]] = PAIRS
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Differences of all metrics that both models have, on the same resamples of patients.

    Returns
    -------
    dict
        ``["both - clinical"][metric].{estimate, low, high}``; pairs with a missing model are left out.
    """
    found = {}
    for a, b in pairs:
        if a in samples.values and b in samples.values:
            shared = [
                m for m in samples.values[a] if m in samples.values[b] and not m.endswith("calibration")
            ]
            found[f"{a} - {b}"] = {m: samples.difference(a, b, m) for m in shared}
    return found


def settings(
    outcome: Outcome, horizons: Sequence[float], tau: float, n_boot: int, seed: int
) -> dict[str, Any]:
    """What the metrics rest on, in numbers."""
    g = censoring_survival(outcome.time, outcome.event, entry=outcome.entry).at(np.array([tau]), left=True)
    return {
        "horizons": list(map(float, horizons)),
        "main_horizon": float(horizons[len(horizons) // 2]),
        "tau": float(tau),
        "g_tau": float(g[0, 0]),
        "n_boot": n_boot,
        "seed": seed,
        "intervals": "95 % percentile intervals over patients, conditional on the fitted models",
    }
