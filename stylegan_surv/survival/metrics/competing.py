"""Discrimination and calibration of cumulative incidences, where deaths of other causes compete with the event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stylegan_surv._types import Floats, Ints
from stylegan_surv.survival.metrics.concordance import PairWeights, repeat_pairs
from stylegan_surv.survival.metrics.resamples import Resamples
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import Scores


def incidence_at(scores: Scores, t: float) -> Scores:
    """The same patients with F₁(t) as their risk."""
    return replace(scores, risk=1 - scores.at(t))


def observed_over_expected(scores: Scores, resamples: Resamples, t: float) -> Floats:
    """Aalen–Johansen estimate at t over the mean predicted incidence, [B]."""
    observed, m = 1 - resamples.survival().at(np.array([t]))[0], resamples.m
    each = []
    for s in scores.at(t):
        k = np.isfinite(s)
        each.append(observed / ((1 - s[k]) @ m[k] / m[k].sum(axis=0)))
    return np.asarray(np.mean(each, axis=0))


def concordance_of_incidence(
    scores: Scores, resamples: Resamples, weights: PairWeights, *, weighted: bool
) -> Floats:
    """C of F₁: those who died of another cause count as if they lived for ever (Wolbers et al. 2009), [B].

    Parameters
    ----------
    scores : Scores
        With F₁(τ) as the risk.
    resamples : Resamples
    weights : PairWeights
        Of the pairs whose later member outlived the earlier.
    weighted : bool
        Whether pairs are weighted by the inverse probability of having been observed (Wolbers et al. 2014).
    """
    data, m = resamples.data, resamples.m
    g = np.where(resamples.g_own > 0, resamples.g_own, np.inf) if weighted else np.ones(m.shape)
    own = np.sqrt(weights.event) if weighted else np.broadcast_to(weights.event, m.shape)
    precluded = np.zeros(len(data), bool) if data.competing is None else data.competing
    # at a tie a pair is counted once, as precluded
    time = np.where(precluded, np.nextafter(data.time, -np.inf), data.time)
    each = []
    for pairs in repeat_pairs(scores, replace(data, time=time, cause=None), weights):
        outliving = pairs.counts(m)
        others = precluded_counts(data, pairs.risk, np.asarray(pairs.group), own, 1 / g, m)
        with np.errstate(invalid="ignore", divide="ignore"):
            each.append((outliving[0] + others[0]) / (outliving[1] + others[1]))
    return np.asarray(np.mean(each, axis=0))


def precluded_counts(
    data: Outcome, risk: Floats, group: Ints, own: Floats, other: Floats, multiplicity: Floats
) -> tuple[Floats, Floats]:
    """Weighted concordant and comparable pairs of one with the event at t and one who died of another cause by t.

    The latter never has the event, so that it should have the lower score (Wolbers et al. 2009, Epidemiology
    20:555; with weights 1/{G(T_i−) G(T_j−)} Wolbers et al. 2014, Biostatistics 15:526).

    Parameters
    ----------
    data : Outcome
        With competing deaths.
    risk : array of float, shape (n,)
    group : array of int, shape (n,)
        Pairs are counted within a group only; −1 leaves the row out.
    own, other : array of float, shape (n, B)
        Weights of the two; 0 drops the row.
    multiplicity : array of float, shape (n, B)
    """
    concordant, comparable = np.zeros((2, multiplicity.shape[1]))
    precluded = np.zeros(len(risk), bool) if data.competing is None else data.competing
    for k in np.unique(group[group >= 0]):
        rows = np.flatnonzero(data.event & (group == k) & (own > 0).any(axis=1))
        cols = np.flatnonzero(precluded & (group == k))
        mine, theirs = multiplicity[rows] * own[rows], multiplicity[cols] * other[cols]
        earlier = (data.time[cols] <= data.time[rows][:, None]).astype(float)
        score = (risk[cols] < risk[rows][:, None]) + 0.5 * (risk[cols] == risk[rows][:, None])
        concordant += np.einsum("rb,rb->b", mine, (earlier * score) @ theirs)
        comparable += np.einsum("rb,rb->b", mine, earlier @ theirs)
    return concordant, comparable
