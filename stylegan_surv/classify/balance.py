"""How alike cases and controls are: standardised mean differences before and after matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Floats

CLOSE = 0.1  # absolute standardised difference below which groups count as balanced (Austin, Stat Med 2009)


@dataclass(frozen=True)
class BalanceRow:
    """One covariate, or one level of one.

    Attributes
    ----------
    name : str
    case : float
        Mean of the cases after matching (a share for levels).
    before, after : float
        Mean of the cases minus mean of the controls, over the SD of both classes' mean variance.
    """

    name: str
    case: float
    before: float
    after: float


def standardised_difference(values: Floats, case: Bools) -> float:
    """Difference of the means over the root of the mean variance of the two groups (Austin 2009).

    >>> round(standardised_difference(np.array([1.0, 3, 2, 4]), np.array([0, 0, 1, 1], bool)), 3)
    0.707
    """
    ours, theirs = values[case], values[~case]
    ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
    if len(ours) < 2 or len(theirs) < 2:
        return float("nan")
    spread = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)
    difference = float(ours.mean() - theirs.mean())
    return difference / float(spread) if spread > 0 else (0.0 if difference == 0 else float("inf"))


def balance(before: pd.DataFrame, after: pd.DataFrame, columns: Sequence[str]) -> tuple[BalanceRow, ...]:
    """One row per number and per level of the columns.

    Parameters
    ----------
    before, after : DataFrame
        With the column ``group``; all candidates, and those that were matched.
    columns : sequence of str
        Numbers or labels; levels that nobody has after matching are left out.
    """
    rows = []
    for name in columns:
        if pd.api.types.is_numeric_dtype(after[name]):
            rows.append(_row(name, before[name].to_numpy(float), after[name].to_numpy(float), before, after))
            continue
        for level in sorted(after[name].dropna().unique()):
            was, now = ((t[name] == level).to_numpy(float) for t in (before, after))
            rows.append(_row(f"{name}: {level}", was, now, before, after))
    return tuple(rows)


def _row(name: str, was: Floats, now: Floats, before: pd.DataFrame, after: pd.DataFrame) -> BalanceRow:
    case_before, case_after = ((t["group"] == "case").to_numpy() for t in (before, after))
    return BalanceRow(
        name,
        float(np.nanmean(now[case_after])),
        standardised_difference(was, case_before),
        standardised_difference(now, case_after),
    )
