"""How well scores rank, and how sure that is: concordance with exact standard errors, and the table of metrics.

Everywhere a *higher* score means a *worse* prognosis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from stylegan_surv.errors import InputError
from stylegan_surv.survival._censoring import at_risk as _number_at_risk
from stylegan_surv.survival._censoring import censoring_survival
from stylegan_surv.survival._oof import Scores, scores_of
from stylegan_surv.survival._pairs import Pairs
from stylegan_surv.survival._smallcox import breslow, fit_cox

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

Floats = NDArray[np.floating]
Weights = Literal["harrell", "uno"]
Censoring = Literal["km", "stratified", "cox"]


@dataclass(frozen=True)
class Concordance:
    """Probability that of two comparable patients the one with the higher score dies first.

    Attributes
    ----------
    estimate : float
        C in [0, 1]; .5 is chance.
    se : float
        Infinitesimal-jackknife standard error.
    pairs : float
        Weighted number of comparable pairs.
    influence : array [n]
        What each patient adds to the estimate, to first order; ``se² = Σ influence²``. The difference of two
        scores on the same patients has standard error ``sqrt(Σ (influence_a − influence_b)²)``.
    tau : float or None
        Pairs count whose earlier event is before `tau`.
    """

    estimate: float
    se: float
    pairs: float
    influence: Floats
    tau: float | None = None

    def ci(self, level: float = 0.95) -> tuple[float, float]:
        """Wald interval, within [0, 1]."""
        half = norm.ppf((1 + level) / 2) * self.se
        return max(0.0, float(self.estimate - half)), min(1.0, float(self.estimate + half))

    def minus(self, other: Concordance) -> Concordance:
        """Paired difference of two scores of the same patients (in the same order)."""
        influence = self.influence - other.influence
        se = float(np.sqrt(np.sum(influence**2)))
        return _Difference(self.estimate - other.estimate, se, self.pairs, influence, self.tau)


class _Difference(Concordance):
    def ci(self, level: float = 0.95) -> tuple[float, float]:
        half = float(norm.ppf((1 + level) / 2) * self.se)
        return self.estimate - half, self.estimate + half


def concordance(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    *,
    entry: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    weights: Weights = "harrell",
    tau: float | None = None,
    censoring: Censoring = "km",
    censoring_covariates: ArrayLike | None = None,
) -> Concordance:
    """Concordance of a risk score with survival, with its standard error.

    Parameters
    ----------
    time, event : array-like [n]
        Follow-up (> 0) and whether it ended with the event.
    risk : array-like [n]
        Score, higher = worse. Ties count one half.
    entry : array-like [n], optional
        Time from which the patient is observed (left truncation): only those who have entered before an
        event time can be compared with it.
    strata : array-like [n], optional
        Pairs are counted within strata only.
    sample_weight : array-like [n], optional
        Case weights; an integer weight equals repeating the row.
    weights : {"harrell", "uno"}
        "harrell": every comparable pair counts one (Harrell et al. 1996). "uno": 1/G(t−)², which makes the
        target independent of the censoring (Uno et al. 2011).
    tau : float, optional
        Use only events before `tau`.
    censoring : {"km", "stratified", "cox"}
        Estimate of G for "uno": one Kaplan–Meier curve, one per stratum, or a Cox model of the censoring
        time on `censoring_covariates`.
    censoring_covariates : array-like [n, k], optional
        Columns for ``censoring="cox"``, e.g. the year of the photograph.

    Returns
    -------
    Concordance

    Raises
    ------
    InputError
        Lengths differ, values are not finite, or no pair can be compared.

    Notes
    -----
    Tie rules are those of R's ``survival::concordance``: patients censored at an event's time outlived it;
    two events at one time are not compared. With N_i, D_i the concordant and comparable pairs of patient i,
    C = ΣN/ΣD and SE² = Σ ((N_i − C D_i) / (ΣD/2))². The weights 1/G² are held fixed in the SE.
    """
    data = _checked(time, event, risk, entry, strata, sample_weight)
    event_weight: Floats = np.ones((len(data.time), 1))
    if weights == "uno":
        g = observation_probability(
            data.time, data.event, at=data.time, entry=data.entry, strata=data.group,
            sample_weight=data.weight, censoring=censoring, covariates=censoring_covariates,
        )  # fmt: skip
        event_weight = _inverse_square(g, data.event)
    elif weights != "harrell":
        raise InputError(f"weights: got {weights!r}, expected 'harrell' or 'uno'")
    if tau is not None:
        event_weight = event_weight * (data.time < tau)[:, None]
    pairs = Pairs(data.time, data.event, data.risk, data.entry, data.group, event_weight)
    return _from_shares(*pairs.shares(data.weight), tau)


def _from_shares(concordant: Floats, comparable: Floats, tau: float | None) -> Concordance:
    total = comparable.sum() / 2
    if total <= 0:
        raise InputError(
            "concordance: no pair of patients can be compared; expected an event before another patient's "
            "end of follow-up (in the same stratum)"
        )
    c = concordant.sum() / comparable.sum()
    # shares already hold the patient's own weight, as does R's case-weighted robust variance
    influence = (concordant - c * comparable) / total
    return Concordance(float(c), float(np.sqrt(np.sum(influence**2))), float(total), influence, tau)


def observation_probability(
    time: Floats,
    event: NDArray[np.bool_],
    *,
    at: Floats,
    entry: Floats | None = None,
    strata: NDArray[np.intp] | None = None,
    sample_weight: Floats | None = None,
    censoring: Censoring = "km",
    covariates: ArrayLike | None = None,
) -> Floats:
    """G(t−) of each patient at their own time `at`, [n, B] (B columns of `sample_weight`, or one).

    Parameters
    ----------
    at : array [n] or scalar
        Where to evaluate, one value per patient.
    sample_weight : array [n] or [n, B], optional
        Case weights; one estimate per column. The Cox model is fitted once, without them.
    """
    at = np.broadcast_to(np.asarray(at, float), time.shape)
    if censoring == "cox":
        if covariates is None:
            raise InputError(
                "censoring='cox' needs censoring_covariates: what follow-up may depend on, e.g. the year"
            )
        return _cox_censoring(time, event, at, entry, np.asarray(covariates, float))
    if censoring not in ("km", "stratified"):
        raise InputError(f"censoring: got {censoring!r}, expected 'km', 'stratified' or 'cox'")
    if censoring == "stratified" and strata is None:
        raise InputError("censoring='stratified' needs strata")
    weight = (
        np.ones((len(time), 1))
        if sample_weight is None
        else np.asarray(sample_weight, float).reshape(len(time), -1)
    )
    group = strata if censoring == "stratified" and strata is not None else np.zeros(len(time), int)
    g = np.empty(weight.shape)
    for s in np.unique(group):
        k = group == s
        curve = censoring_survival(
            time[k], event[k], entry=None if entry is None else entry[k], weight=weight[k]
        )
        rows = np.searchsorted(curve.times, at[k], side="left")
        g[k] = curve.values[rows]
    return g


def _cox_censoring(
    time: Floats, event: NDArray[np.bool_], at: Floats, entry: Floats | None, covariates: Floats
) -> Floats:
    """G(t− | x) = exp(−Λ₀(t−) exp(xβ)) from a Cox model of the censoring time, [n, 1]."""
    x = covariates.reshape(len(time), -1)
    leaving = np.where(event, np.nextafter(time, -np.inf), time)  # at a tie, events come before censorings
    eta = (x - x.mean(axis=0)) @ fit_cox(x, leaving, ~event, entry=entry).coef
    hazard = breslow(eta, leaving, ~event, at, entry, left=True)
    return np.asarray(np.exp(-hazard * np.exp(eta)))[:, None]


def _inverse_square(g: Floats, event: NDArray[np.bool_]) -> Floats:
    """1/G² of those with an event, 0 elsewhere (and where a resample leaves nobody to represent them)."""
    with np.errstate(divide="ignore"):
        w = np.where(event[:, None] & (g > 0), 1.0 / np.square(g), 0.0)
    return w


@dataclass(frozen=True)
class _Data:
    time: Floats
    event: NDArray[np.bool_]
    risk: Floats
    entry: Floats | None
    group: NDArray[np.intp] | None
    weight: Floats


def _checked(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    entry: ArrayLike | None,
    strata: ArrayLike | None,
    weight: ArrayLike | None,
) -> _Data:
    columns = {"time": time, "risk": risk, "entry": entry, "sample_weight": weight}
    arrays = {k: np.asarray(v, float) for k, v in columns.items() if v is not None}
    n = len(arrays["time"])
    for name, values in arrays.items():
        if values.shape != (n,):
            raise InputError(f"{name}: got shape {values.shape}, expected ({n},), one value per patient")
        bad = ~np.isfinite(values) & ~((name == "entry") & (values == -np.inf))
        if bad.any():
            raise InputError(f"{name}: {bad.sum()} of {n} values are not finite; drop or impute them")
    died = np.asarray(event)
    if died.shape != (n,) or not np.isin(died, (0, 1)).all():
        raise InputError(f"event: expected {n} values of 0 (censored) or 1 (event)")
    group = None if strata is None else pd.factorize(np.asarray(strata))[0]
    if group is not None and len(group) != n:
        raise InputError(f"strata: got {len(group)} values, expected {n}")
    return _Data(
        arrays["time"],
        died.astype(bool),
        arrays["risk"],
        arrays.get("entry"),
        group,
        arrays.get("sample_weight", np.ones(n)),
    )


def pooled_concordance(
    frame: pd.DataFrame,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    weights: Weights = "harrell",
    tau: float | None = None,
    censoring: Censoring = "km",
    censoring_covariates: ArrayLike | None = None,
) -> Concordance:
    """Concordance of out-of-fold scores: pairs within a fold, summed over folds, averaged over repeats.

    Scores of different folds come from different models and are never compared.

    Parameters
    ----------
    frame : DataFrame
        One model's rows: patient_id, repeat, fold, risk.
    outcome : Outcome
    strata : array-like [n], optional
        Also within strata, in the order of the outcome.
    weights, tau, censoring, censoring_covariates
        As in `concordance`; G is estimated once, on the whole outcome.

    Returns
    -------
    Concordance
        Its interval resamples patients and is conditional on the fitted models.
    """
    scores = scores_of(frame, outcome)
    parts = _repeats(scores, outcome, strata)
    event_weight = _event_weight(outcome, strata, weights, tau, censoring, censoring_covariates)
    ones = np.ones(len(outcome.time))
    each = [
        _from_shares(*_pairs(outcome, risk, group, event_weight).shares(ones), tau) for risk, group in parts
    ]
    influence = np.mean([c.influence for c in each], axis=0)
    estimate, pairs = (float(np.mean([getattr(c, name) for c in each])) for name in ("estimate", "pairs"))
    return Concordance(estimate, float(np.sqrt(np.sum(influence**2))), pairs, influence, tau)


def _repeats(
    scores: Scores, outcome: Outcome, strata: ArrayLike | None
) -> list[tuple[Floats, NDArray[np.intp]]]:
    """(risk, group) of every repeat; a group is a fold, or a stratum of a fold. −1: not scored."""
    level = np.zeros(len(outcome.time), int) if strata is None else pd.factorize(np.asarray(strata))[0]
    parts = []
    for risk, fold in zip(scores.risk, scores.fold):
        group = fold * (level.max() + 1) + level
        parts.append((risk, np.where((fold < 0) | np.isnan(risk), -1, group)))
    return parts


def _pairs(outcome: Outcome, risk: Floats, group: NDArray[np.intp], event_weight: Floats) -> Pairs:
    return Pairs(outcome.time, outcome.event, risk, outcome.entry, group, event_weight)


def _event_weight(
    outcome: Outcome,
    strata: ArrayLike | None,
    weights: Weights,
    tau: float | None,
    censoring: Censoring,
    covariates: ArrayLike | None,
    multiplicity: Floats | None = None,
) -> Floats:
    """Weight of each patient's event, [n, 1] or one column per resample."""
    data = _checked(outcome.time, outcome.event, outcome.time, outcome.entry, strata, None)
    w: Floats = np.ones((len(data.time), 1))
    if weights == "uno":
        g = observation_probability(
            data.time,
            data.event,
            at=data.time,
            entry=data.entry,
            strata=data.group,
            sample_weight=multiplicity,
            censoring=censoring,
            covariates=covariates,
        )
        w = _inverse_square(g, data.event)
    return w if tau is None else w * (data.time < tau)[:, None]


def default_horizons(outcome: Outcome, at_risk: float = 0.10) -> list[float]:
    """Quartiles of the event times at which at least `at_risk` of the patients are still followed."""
    time, event = outcome.time, outcome.event
    usable = default_tau(outcome, at_risk)
    if not event.any():
        raise InputError(
            "no patient has an event: there is nothing to predict. Check the event column (1 = event)"
        )
    quartiles = np.quantile(time[event & (time <= usable)], [0.25, 0.5, 0.75])
    return [float(t) for t in np.unique(quartiles)]


def default_tau(outcome: Outcome, at_risk: float = 0.10) -> float:
    """Last event time with at least `at_risk` of the patients under observation."""
    n = len(outcome.time)
    events = np.unique(outcome.time[outcome.event])
    followed = _number_at_risk(outcome.time, outcome.entry, np.ones((n, 1)), events)[:, 0]
    enough = events[followed >= at_risk * n]
    return float(enough[-1]) if len(enough) else float(events[-1])


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


def bootstrap_multiplicities(n: int, n_boot: int, seed: int) -> NDArray[np.float32]:
    """How often each of n patients is drawn, [n, 1 + n_boot]; the first column is the sample itself."""
    rng = np.random.default_rng(seed)
    m = np.ones((n, 1 + n_boot), np.float32)
    for b in range(n_boot):
        m[:, b + 1] = np.bincount(rng.integers(n, size=n), minlength=n)
    return m


def metric_samples(
    oof: Any,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] = (),
    tau: float | None = None,
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
        For ``stratified_c``; by default the outcome's own.
    horizons : sequence of float
        Times of AUC(t), Brier(t), calibration and net benefit; S(t) must be among the columns.
    tau : float, optional
        Upper end of Uno's C and of the integrated Brier score; by default `default_tau`.
    n_boot, seed : int
        Resamples, the same for all models. Patients are drawn once for all repeats.
    progress : callable, optional
        Called with (models done, models in all).
    """
    frame = getattr(oof, "frame", oof)
    strata = outcome.strata if strata is None else strata
    tau = default_tau(outcome) if tau is None else tau
    m = bootstrap_multiplicities(len(outcome.time), n_boot, seed)
    uno = _event_weight(outcome, None, "uno", tau, "km", None, m)
    values: dict[str, dict[str, Floats]] = {}
    models = list(frame["model"].unique())
    for k, model in enumerate(models):
        scores = scores_of(frame[frame["model"] == model], outcome)
        plain = np.ones((len(outcome.time), 1))
        values[model] = {
            "harrell_c": _resampled_c(scores, outcome, None, plain, m),
            "uno_c": _resampled_c(scores, outcome, None, uno, m),
        }
        if strata is not None:
            values[model]["stratified_c"] = _resampled_c(scores, outcome, strata, plain, m)
        if progress:
            progress(k + 1, len(models))
    return MetricSamples(values)


def _resampled_c(
    scores: Scores, outcome: Outcome, strata: ArrayLike | None, event_weight: Floats, m: Floats
) -> Floats:
    each = []
    for risk, group in _repeats(scores, outcome, strata):
        concordant, comparable = _pairs(outcome, risk, group, event_weight).counts(m)
        with np.errstate(invalid="ignore", divide="ignore"):
            each.append(concordant / comparable)
    return np.asarray(np.mean(each, axis=0))


def oof_metrics(
    oof: Any,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    tau: float | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics as ``metrics.json`` holds them.

    Returns
    -------
    dict
        ``models.<name>.<metric>.{estimate, low, high}``, and under ``settings`` the horizons, tau, G(tau),
        the number of resamples and what the intervals are conditional on.
    """
    horizons = default_horizons(outcome) if horizons is None else list(horizons)
    tau = default_tau(outcome) if tau is None else tau
    samples = metric_samples(
        oof, outcome, strata=strata, horizons=horizons, tau=tau, n_boot=n_boot, seed=seed
    )
    g = censoring_survival(outcome.time, outcome.event, entry=outcome.entry).at(np.array([tau]), left=True)
    settings = {
        "horizons": list(map(float, horizons)),
        "tau": float(tau),
        "g_tau": float(g[0, 0]),
        "n_boot": n_boot,
        "seed": seed,
        "intervals": "95 % percentile intervals over patients, conditional on the fitted models",
    }
    return {"models": samples.table(), "settings": settings}
