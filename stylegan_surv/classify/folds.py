"""Folds and inner splits by matched set: who is compared with whom never stands on two sides."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Ints
from stylegan_surv.errors import InputError

NEVER_TESTED = -1
INNER = 0.2  # share of the training sets on which epoch and threshold are chosen


def set_folds(sets: Ints, k: int, seed: int) -> Ints:
    """Fold of every row, 0 … k − 1, equal within a set.

    Parameters
    ----------
    sets : array of int, shape (n,)
    k : int
        Folds, from 2 to the number of sets.
    seed : int

    Raises
    ------
    InputError
        If there are fewer sets than folds.
    """
    names = np.unique(sets)
    if not 2 <= k <= len(names):
        raise InputError(
            f"{k} folds are asked for with {len(names)} matched sets; expected 2 … {len(names)}."
        )
    order = np.random.default_rng([seed, 11]).permutation(len(names))
    dealt = np.empty(len(names), int)
    dealt[order] = np.arange(len(names)) % k
    return np.asarray(dealt[np.searchsorted(names, sets)])


def holdout(sets: Ints, share: float, seed: int) -> Ints:
    """Fold 0 for a share of the sets that is kept for the test, −1 for all others.

    Raises
    ------
    InputError
        If the share leaves no set on one side.
    """
    names = np.unique(sets)
    kept = round(share * len(names))
    if not 0 < kept < len(names):
        raise InputError(
            f"a hold-out share of {share:g} of {len(names)} matched sets leaves none to train or to test on; "
            "expected a share between 0 and 1."
        )
    chosen = np.random.default_rng([seed, 12]).permutation(names)[:kept]
    return np.where(np.isin(sets, chosen), 0, NEVER_TESTED)


def inner_split(sets: Ints, rows: Bools, seed: int, key: int) -> Bools:
    """Which of the training rows are set aside to choose the epoch and the threshold."""
    names = np.unique(sets[rows])
    count = max(1, round(INNER * len(names)))
    chosen = np.random.default_rng([seed, key, 13]).permutation(names)[:count]
    return np.asarray(rows & np.isin(sets, chosen))


def by_level(column: pd.Series) -> Ints:
    """Fold by the levels of a column, for leave-camera-out; −1 where it is not known."""
    codes, _ = pd.factorize(column, sort=True)
    return np.asarray(codes)
