"""Division of patients into folds: by group, balanced in events and strata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.outcome import Outcome

NEVER = -1  # fold of a patient who is trained on only


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


def make_folds(
    outcome: Outcome, folds: Any = 5, *, repeats: int = 1, groups: Array | None = None, seed: int = 0
) -> Array:
    """Fold number of every patient in every repeat, shape (repeats, n); -1 for those never tested."""
    if isinstance(folds, pd.DataFrame):
        return _folds_from_frame(outcome, folds)
    if isinstance(folds, (int, np.integer)):
        outcome.require_events(int(folds), f"{folds}-fold cross-validation")
        deal = [
            deal_folds(outcome.event, int(folds), strata=outcome.strata, groups=groups, seed=seed + 1000 * r)
            for r in range(repeats)
        ]
        return np.array(deal)
    if isinstance(folds, np.ndarray) and folds.ndim <= 2 and folds.shape[-1:] == (len(outcome),):
        return np.atleast_2d(folds.astype(int))
    division = np.full(len(outcome), NEVER)
    for k, (_, test) in enumerate(as_folds(folds, outcome.event, groups=groups)):
        division[test] = k
    return division[None]


def _folds_from_frame(outcome: Outcome, frame: pd.DataFrame) -> Array:
    rows = []
    for _, part in frame.groupby("repeat", sort=True):
        known = pd.Series(part["fold"].to_numpy(), index=part["patient_id"].astype(str))
        absent = ~np.isin(outcome.patient_id, known.index)
        if absent.any():
            raise InputError(
                f"folds: {absent.sum()} patients have no fold (for example {str(outcome.patient_id[absent][0])!r}); "
                "expected one row per patient and repeat."
            )
        rows.append(known.loc[outcome.patient_id].to_numpy(int))
    return np.array(rows)


def leave_group_out(groups: Array) -> Array:
    """Fold numbers that leave one group (site, camera) out at a time, for `nested_cv(folds=...)`."""
    return np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]


def temporal_split(when: Array, cut: Any) -> Array:
    """Train on patients before `cut`, test on those from `cut` on (fold 0; the others are never tested)."""
    late = np.asarray(when) >= cut
    if late.all() or not late.any():
        raise InputError(
            f"temporal split: {late.sum()} of {len(late)} patients are from {cut} on; expected both kinds."
        )
    return np.where(late, 0, NEVER)
