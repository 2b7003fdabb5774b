"""Division of patients into folds: by group, balanced in events and strata."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from stylegan_surv.errors import InputError

Array = npt.NDArray[Any]


def deal_folds(
    event: Array, folds: int, *, strata: Array | None = None, groups: Array | None = None, seed: int = 0
) -> Array:
    """Fold (0 .. folds - 1) of each patient, shape (n,).

    Sorted by event and stratum in random order, patients are dealt round: each fold gets the same number of
    every kind, to within one. With `groups` (a family, a centre) whole groups stay together, which leaves the
    balance to a greedy choice (scikit-learn's StratifiedGroupKFold).
    """
    n = len(event)
    units = n if groups is None else len(np.unique(groups))
    if folds < 2 or units < folds:
        raise InputError(
            f"folds: {folds} folds for {units} {'patients' if groups is None else 'groups'}; "
            "expected between 2 and as many as there are. Use fewer folds."
        )
    if (events := int(np.sum(event))) < folds:
        raise InputError(
            f"folds: {events} events among {n} patients cannot be spread over {folds} folds; "
            "expected at least one event for each. Use fewer folds."
        )
    kind = np.asarray(event, int)
    if strata is not None:
        kind = kind + 2 * np.unique(strata, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    fold = np.empty(n, int)
    if groups is None:
        fold[np.lexsort((rng.random(n), kind))] = rng.permutation(folds)[np.arange(n) % folds]
        return fold
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for k, (_, test) in enumerate(splitter.split(np.zeros((n, 1)), kind, groups)):
        fold[test] = k
    return fold


def as_folds(
    cv: Any, event: Array, *, strata: Array | None = None, groups: Array | None = None, seed: int = 0
) -> list[tuple[Array, Array]]:
    """(train, test) indices from a number of folds, an array of fold numbers or a scikit-learn splitter."""
    if isinstance(cv, (int, np.integer)):
        cv = deal_folds(event, int(cv), strata=strata, groups=groups, seed=seed)
    if isinstance(cv, np.ndarray):
        return [(np.flatnonzero(cv != k), np.flatnonzero(cv == k)) for k in np.unique(cv)]
    if hasattr(cv, "split"):
        return list(cv.split(np.zeros((len(event), 1)), event, groups))
    return [(np.asarray(a), np.asarray(b)) for a, b in cv]
