"""Concordance of a risk score with survival, with its exact standard error (infinitesimal jackknife).

Everywhere a *higher* score means a *worse* prognosis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.censoring import Censoring, Observation, observation
from stylegan_surv.survival.metrics.pairs import Pairs
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

Weights = Literal["harrell", "uno"]


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
    influence : array, shape (n,)
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
    time, event : array-like, shape (n,)
        Follow-up (> 0) and whether it ended with the event.
    risk : array-like, shape (n,)
        Score, higher = worse. Ties count one half.
    entry : array-like, shape (n,), optional
        Time from which the patient is observed (left truncation): only those who have entered before an
        event time can be compared with it.
    strata : array-like, shape (n,), optional
        Pairs are counted within strata only.
    sample_weight : array-like, shape (n,), optional
        Case weights; an integer weight equals repeating the row.
    weights : {"harrell", "uno"}
        "harrell": every comparable pair counts one (Harrell et al. 1996). "uno": 1/G(t−)², which makes the
        target independent of the censoring (Uno et al. 2011); 1/(G_i G_j) where G differs between patients.
    tau : float, optional
        Use only events before `tau`.
    censoring : {"km", "stratified", "cox"}
        Estimate of G for "uno": one Kaplan–Meier curve, one per stratum, or a Cox model of the censoring
        time on `censoring_covariates`.
    censoring_covariates : array-like, shape (n, k), optional
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
    data, score = checked(time, event, risk, entry, strata, sample_weight), np.asarray(risk, float)
    w = pair_weights(data, weights, tau, censoring, censoring_covariates)
    pairs = Pairs(data.time, data.event, score, data.entry, data.strata, w.event, w.other)
    return _from_shares(*pairs.shares(data.case_weight), tau)


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


@dataclass(frozen=True)
class PairWeights:
    """Weight of a comparable pair whose earlier member i died at t_i: ``event[i]``, over G_j(t_i) where that
    differs between patients j.

    With one curve G for all, ``event`` is 1/G(t_i)² (Uno et al. 2011). Where censoring depends on the patient
    it is 1/G_i(t_i), and the other member has a weight of its own, 1/G_j(t_i) (Gerds et al. 2013).
    """

    event: Floats
    other: Observation | None = None


def pair_weights(
    data: Outcome,
    weights: Weights,
    tau: float | None,
    censoring: Censoring = "km",
    covariates: ArrayLike | None = None,
) -> PairWeights:
    """Weights for Harrell's or Uno's C; ``event`` has a column per column of the outcome's weights.

    The weight is 0 from `tau` on and where a resample has nobody to stand for.
    """
    if weights not in ("harrell", "uno"):
        raise InputError(f"weights: got {weights!r}, expected 'harrell' or 'uno'")
    w: Floats = (data.event if tau is None else data.event & (data.time < tau))[:, None].astype(float)
    if weights == "harrell":
        return PairWeights(w)
    observed = observation(
        data.time,
        data.observed,
        entry=data.entry,
        strata=data.strata,
        weight=data.weight,
        censoring=censoring,
        covariates=covariates,
    )
    g = observed.own(data.time)
    power = 2 if observed.shared else 1
    w = np.divide(w, g**power, out=np.zeros_like(g), where=g > 0)
    return PairWeights(w, None if observed.shared else observed)


def checked(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    entry: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> Outcome:
    """The outcome of rows that pairs are counted on, once the arrays (and `risk`) have been looked at.

    Strata are numbered, -1 for a missing one; entries that change nothing are left out; there always are weights.

    Raises
    ------
    InputError
        Lengths differ, values are not finite, or events are not 0/1.
    """
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
    late = arrays.get("entry")
    if late is not None and late.max(initial=-np.inf) < arrays["time"].min(initial=np.inf):
        late = None  # everyone had entered before the first follow-up ended
    case_weight = arrays.get("sample_weight", np.ones(n))
    return Outcome.unchecked(arrays["time"], died.astype(bool), late, group, case_weight)


def pooled_concordance(
    frame: pd.DataFrame,
    outcome: Outcome,
    *,
    strata: ArrayLike | None = None,
    weights: Weights = "harrell",
    tau: float | None = None,
    censoring: Censoring = "km",
    censoring_strata: ArrayLike | None = None,
    censoring_covariates: ArrayLike | None = None,
) -> Concordance:
    """Concordance of out-of-fold scores: pairs within a fold, summed over folds, averaged over repeats.

    Scores of different folds come from different models and are never compared.

    Parameters
    ----------
    frame : DataFrame
        One model's rows: patient_id, repeat, fold, risk.
    outcome : Outcome
    strata : array-like, shape (n,), optional
        Also within strata, in the order of the outcome.
    weights : {"harrell", "uno"}
        As in `concordance`.
    tau : float, optional
        As in `concordance`.
    censoring : str or CensoringModel
        As in `concordance`; G is estimated once, on the whole outcome.
    censoring_covariates : array-like, shape (n, k), optional
        As in `concordance`.
    censoring_strata : array-like, shape (n,), optional
        Strata of G where they are not those of the pairs.

    Returns
    -------
    Concordance
        Its interval resamples patients and is conditional on the fitted models.
    """
    scores = scores_of(frame, outcome)
    none = np.zeros(len(outcome))  # the scores are the frame's
    data = checked(outcome.time, outcome.event, none, outcome.entry, strata, outcome.weight)
    weigher = data
    if censoring_strata is not None:
        weigher = replace(data, strata=pd.factorize(np.asarray(censoring_strata))[0])
    w = pair_weights(weigher, weights, tau, censoring, censoring_covariates)
    each = [_from_shares(*pairs.shares(data.case_weight), tau) for pairs in repeat_pairs(scores, data, w)]
    influence = np.mean([c.influence for c in each], axis=0)
    estimate, count = (float(np.mean([getattr(c, name) for c in each])) for name in ("estimate", "pairs"))
    return Concordance(estimate, float(np.sqrt(np.sum(influence**2))), count, influence, tau)


def repeat_pairs(scores: Scores, data: Outcome, weights: PairWeights) -> list[Pairs]:
    """The comparable pairs of every repeat: within a fold, and within a stratum of it where there are strata."""
    level = np.zeros(len(data), int) if data.strata is None else data.strata
    group = scores.fold * (level.max() + 1) + level
    group[(scores.fold < 0) | np.isnan(scores.risk)] = -1
    return [
        Pairs(data.time, data.event, risk, data.entry, g, weights.event, weights.other)
        for risk, g in zip(scores.risk, group)
    ]
