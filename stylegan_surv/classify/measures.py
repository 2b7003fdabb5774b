"""How well a score tells cases from controls, with intervals over matched sets.

Scores of different folds are not comparable: pairs count within a fold. Intervals resample matched sets and are
conditional on the fitted models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.classify.logistic import newton
from stylegan_surv.survival.metrics.interval import LEVEL, Interval

RESAMPLES = 1000
GRID = 51  # false positive rates at which the curve is drawn
FLAT = 0.1  # SD of log odds below which nothing is predicted that could be calibrated
TWICE = 2.0
"""Cross-validation judges each pair of people twice, once with either in training. For a linear score without signal
the sum over folds is twice a sum over disjoint pairs: its variance is twice what resampling the test people gives."""


def multiplicities(sets: Ints, n: int = RESAMPLES, seed: int = 0) -> Floats:
    """How often each row counts: in the data (first column), then in n resamples of the sets, shape (rows, 1 + n)."""
    names, of = np.unique(sets, return_inverse=True)
    rng = np.random.default_rng([seed, 21])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n).T
    return np.concatenate([np.ones((len(names), 1)), drawn], axis=1)[of]


def auc(case: Bools, score: Floats, fold: Ints, m: Floats) -> Floats:
    """Area under the curve of pairs within a fold, one value per column of ``m``.

    Parameters
    ----------
    case : array of bool, shape (n,)
    score : array of float, shape (n,)
        Rows that are not finite are left out.
    fold : array of int, shape (n,)
        Below 0: not scored.
    m : array of float, shape (n, B)
        As :func:`multiplicities` gives them.

    Examples
    --------
    >>> y, s = np.array([1, 1, 0, 0], bool), np.array([0.9, 0.4, 0.4, 0.1])
    >>> float(auc(y, s, np.zeros(4, int), np.ones((4, 1)))[0])
    0.875
    """
    right = total = np.zeros(m.shape[1])
    for k in np.unique(fold[fold >= 0]):
        here = (fold == k) & np.isfinite(score)
        cases, controls = np.flatnonzero(here & case), np.flatnonzero(here & ~case)
        mine, theirs = score[cases][:, None], score[controls]
        won = (theirs < mine) + 0.5 * (theirs == mine)
        right = right + np.einsum("ib,ib->b", m[cases], won @ m[controls])
        total = total + m[cases].sum(axis=0) * m[controls].sum(axis=0)
    return np.asarray(np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0))


def auc_interval(samples: Floats, crossed: bool, level: float = LEVEL) -> Interval:
    """The interval of an AUC from its resamples.

    Parameters
    ----------
    samples : array of float, shape (1 + B,)
        The estimate first.
    crossed : bool
        Whether the folds were trained on one another. The interval then reaches to .5 unless the estimate differs
        from it by more than chance does under no signal, whose variance is twice that of the resamples (``TWICE``).
    level : float
        Coverage, in (0, 1).
    """
    found = Interval.of_samples(samples, level)
    if not crossed or found.estimate is None or found.low is None or found.high is None:
        return found
    limit = norm.ppf((1 + level) / 2) * np.sqrt(TWICE) * float(np.nanstd(samples[1:]))
    if abs(found.estimate - 0.5) > limit:
        return found
    return Interval(found.estimate, min(found.low, 0.5), max(found.high, 0.5))


@dataclass(frozen=True)
class RocCurve:
    """Mean over folds of the sensitivity at each false positive rate, with a 95 % pointwise band."""

    false_positive: Floats
    sensitivity: Floats
    low: Floats
    high: Floats


def roc(case: Bools, score: Floats, fold: Ints, m: Floats) -> RocCurve:
    """The curve and its band; parameters as for :func:`auc`."""
    grid = np.linspace(0, 1, GRID)
    curve, weight = np.zeros((GRID, m.shape[1])), np.zeros(m.shape[1])
    for k in np.unique(fold[fold >= 0]):
        here = (fold == k) & np.isfinite(score)
        cases, controls = np.flatnonzero(here & case), np.flatnonzero(here & ~case)
        controls = controls[np.argsort(-score[controls])]
        passed = np.cumsum(m[controls], axis=0)
        rate = passed / np.maximum(passed[-1], 1e-9)
        place = np.searchsorted(
            -score[controls], -score[cases], side="right"
        )  # controls to be passed; ties too
        above = np.zeros((len(controls) + 1, m.shape[1]))
        np.add.at(above, place, m[cases])
        above = np.cumsum(above, axis=0)
        for b in range(m.shape[1]):
            at = np.searchsorted(rate[:, b], grid + 1e-12, side="right")
            curve[:, b] += above[at, b]
        weight += m[cases].sum(axis=0)
    curve = curve / np.maximum(weight, 1e-9)
    low, high = np.quantile(curve[:, 1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return RocCurve(grid, curve[:, 0], low, high)


@dataclass(frozen=True)
class Operating:
    """What a threshold that was chosen within the training data does on the test data."""

    accuracy: Interval
    sensitivity: Interval
    specificity: Interval


def operating(case: Bools, positive: Bools, scored: Bools, m: Floats) -> Operating:
    """Accuracy, sensitivity and specificity of decisions, over the people who were scored."""
    right = (positive == case).astype(float)

    def share(of: Bools) -> Interval:
        rows = of & scored
        return Interval.of_samples(right[rows] @ m[rows] / np.maximum(m[rows].sum(axis=0), 1e-9))

    return Operating(share(np.ones_like(case)), share(case), share(~case))


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value where a share ``prevalence`` is ill (Bayes).

    >>> [round(v, 3) for v in predictive_values(0.8, 0.9, 0.05)]
    [0.296, 0.988]
    """
    p = prevalence
    positive = sensitivity * p + (1 - specificity) * (1 - p)
    negative = specificity * (1 - p) + (1 - sensitivity) * p
    return sensitivity * p / max(positive, 1e-12), specificity * (1 - p) / max(negative, 1e-12)


def calibration_slope(case: Bools, logit: Floats, fold: Ints) -> float:
    """Slope of the outcome's log odds on the predicted ones, with an intercept per fold; NaN without spread."""
    here = (fold >= 0) & np.isfinite(logit)
    levels = np.unique(fold[here])
    x = np.column_stack([logit[here], *[(fold[here] == k).astype(float) for k in levels]])
    if logit[here].std() < FLAT:
        return float("nan")
    penalty = np.full(x.shape[1], 1e-8)  # keeps separable data finite
    return float(newton(x, case[here].astype(float), penalty)[0])


def detectable(cases: int, controls: int, crossed: bool, power: float = 0.8) -> float:
    """The smallest AUC that a test at 5 % (two-sided) would find with this power.

    The standard error is that of Hanley & McNeil (Radiology 1982) without signal, √((n + m + 1)/(12 n m)); its
    variance is doubled in cross-validation (``TWICE``).

    >>> round(detectable(124, 124, crossed=False), 3)
    0.603
    """
    variance = (cases + controls + 1) / (12 * cases * controls) * (TWICE if crossed else 1.0)
    return float(0.5 + (norm.ppf(0.975) + norm.ppf(power)) * np.sqrt(variance))


def best_threshold(case: Bools, score: Floats) -> float:
    """The threshold with the largest sensitivity + specificity (Youden 1950), between two neighbouring scores."""
    order = np.argsort(score, kind="stable")
    y, s = case[order], score[order]
    below = np.concatenate([[0], np.cumsum(~y)]) / max((~y).sum(), 1)
    missed = np.concatenate([[0], np.cumsum(y)]) / max(y.sum(), 1)
    edges = np.concatenate([[s[0] - 1], (s[1:] + s[:-1]) / 2, [s[-1] + 1]])
    free = np.concatenate([[True], s[1:] > s[:-1], [True]])  # a cut between equal scores is none
    gain = np.where(free, below - missed, -np.inf)
    return float(np.median(edges[gain >= gain.max() - 1e-12]))
