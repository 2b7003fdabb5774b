"""Accuracy of predicted survival: AUC(t), Brier score, net benefit, each on all resamples at once.

Every function returns one value per resample, averaged over the repeats of the cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.survival.metrics.kaplan_meier import event_free
from stylegan_surv.survival.metrics.resamples import Resamples
from stylegan_surv.survival.validation.out_of_fold import Scores


def auc(scores: Scores, resamples: Resamples, t: float, weights: Floats) -> Floats:
    """Cumulative/dynamic AUC(t), pairs within a fold, [B].

    AUC(t) = P(risk of a patient dead by t > risk of a patient alive at t), with inverse-probability weights
    (Uno et al. 2007; Hung & Chiang 2010).
    """
    dead, alive = resamples.status(t)
    each = []
    for risk, fold in zip(scores.risk, scores.fold):
        right = total = np.zeros(weights.shape[1])
        for k in np.unique(fold[fold >= 0]):
            cases, controls = np.flatnonzero(dead & (fold == k)), np.flatnonzero(alive & (fold == k))
            mine, theirs = risk[cases][:, None], risk[controls]
            score = (theirs < mine) + 0.5 * (theirs == mine)
            w = weights[cases]
            right = right + np.einsum("ib,ib->b", w, score @ weights[controls])
            total = total + w.sum(axis=0) * weights[controls].sum(axis=0)
        each.append(_ratio(right, total))
    return _mean(each)


def brier(survival: Floats, resamples: Resamples, t: float, weights: Floats) -> Floats:
    """Brier score at t with inverse-probability weights (Graf et al. 1999), [B].

    Parameters
    ----------
    survival : array, shape (R, n)
        Predicted S(t); NaN where a repeat did not score the patient.
    weights : array, shape (n, B)
        ``resamples.status_weights(t)``.
    """
    _, alive = resamples.status(t)
    error = np.square(alive - survival)
    scored = np.isfinite(error)
    return _mean(_ratio(np.where(scored, error, 0.0) @ weights, scored @ resamples.m))


def integrated(values: Floats, times: Floats) -> Floats:
    """Mean over [times[0], times[-1]] by the trapezoid rule; `values` [T, B]."""
    if len(times) == 1:
        return np.asarray(values[0])
    return np.asarray(np.trapezoid(values, times, axis=0) / (times[-1] - times[0]))


def out_of_fold_kaplan_meier(scores: Scores, resamples: Resamples, times: Floats) -> Floats:
    """What a curve without any predictor would have said: KM of the other folds' patients, [R, n, T]."""
    d = resamples.data
    out = np.full((*scores.fold.shape, len(times)), np.nan)
    for r, fold in enumerate(scores.fold):
        for k in np.unique(fold[fold >= 0]):
            train = (fold >= 0) & (fold != k)
            train = train if train.any() else fold >= 0
            out[r, fold == k] = event_free(d, train).at(times)[:, 0]
    return out


def net_benefit(survival: Floats, resamples: Resamples, t: float, threshold: float) -> Floats:
    """Net benefit of treating those with predicted risk 1 − S(t) above `threshold`, [B].

    NB = P(x = 1) [1 − S(t | x = 1) − S(t | x = 1) p/(1 − p)], S(t | x = 1) by Kaplan–Meier among those above
    the threshold (Vickers et al. 2008, section "time-to-event data").
    """
    odds = threshold / (1 - threshold)
    each: list[Floats] = []
    for s in survival:
        scored, treated = np.isfinite(s), (1 - s) > threshold
        if not treated.any():
            each.append(np.zeros(resamples.m.shape[1]))
            continue
        share = _ratio(resamples.m[treated].sum(axis=0), resamples.m[scored].sum(axis=0))
        alive = resamples.survival(treated).at(np.array([t]))[0]
        each.append(share * (1 - alive * (1 + odds)))
    return _mean(each)


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=np.asarray(b) > 0))


def _mean(repeats: Floats | Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(np.asarray(repeats), axis=0))
