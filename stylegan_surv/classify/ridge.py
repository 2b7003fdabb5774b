"""The arms that are linear: logistic ridge on any numbers, cross-validated on the folds of the study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.classify.folds import set_folds
from stylegan_surv.classify.logistic import fit_ridge
from stylegan_surv.classify.measures import best_threshold

INNER_FOLDS = 4


@dataclass(frozen=True, eq=False)
class Scored:
    """Out-of-fold results of one arm.

    Attributes
    ----------
    logit : array of float, shape (n,)
        Log odds; NaN for people who were never tested.
    positive : array of bool, shape (n,)
        Whether it exceeds the threshold that was chosen within the training rows.
    """

    logit: Floats
    positive: Bools


def cross_validated(x: Floats, case: Bools, sets: Ints, fold: Ints, *, scale: bool, seed: int = 0) -> Scored:
    """Logistic ridge on given folds; penalty and threshold are chosen within the training rows.

    Parameters
    ----------
    x : array of float, shape (n, p)
    case : array of bool, shape (n,)
    sets, fold : array of int, shape (n,)
        Matched sets, and folds by set; below 0: never tested.
    scale : bool
        As for :func:`fit_ridge`.
    seed : int
    """
    logit, positive = np.full(len(case), np.nan), np.zeros(len(case), bool)
    for k in np.unique(fold[fold >= 0]):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if not case[train].any() or case[train].all():
            continue
        fitted = fit_ridge(x[train], case[train], scale=scale)
        logit[test] = fitted.logit(x[test])
        positive[test] = logit[test] > _inner_threshold(x, case, sets, train, fitted.penalty, scale, seed)
    return Scored(logit, positive)


def _inner_threshold(
    x: Floats, case: Bools, sets: Ints, train: Ints, penalty: float, scale: bool, seed: int
) -> float:
    """Threshold from scores of inner folds at the penalty of the outer fit."""
    inner = set_folds(sets[train], min(INNER_FOLDS, len(np.unique(sets[train]))), seed)
    score = np.full(len(train), np.nan)
    for k in np.unique(inner):
        rows, rest = train[inner != k], train[inner == k]
        if case[rows].any() and not case[rows].all():
            score[inner == k] = fit_ridge(x[rows], case[rows], scale=scale, penalty=penalty).logit(x[rest])
    known = np.isfinite(score)
    return best_threshold(case[train][known], score[known])
