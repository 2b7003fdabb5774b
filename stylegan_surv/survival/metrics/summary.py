"""Who was studied, in numbers: covariates, follow-up, late entries, patients at risk by third of the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, kaplan_meier
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

MOST_LEVELS = 12  # of a column that are listed
THIRDS = ("Lowest third", "Middle third", "Highest third")
CONTINUOUS = 6  # distinct numbers above which a column is described by its quartiles
FOLLOWED = 0.98  # quantile of the times to which the axis of a survival curve reaches


@dataclass(frozen=True)
class Quartiles:
    """A column of numbers: how many values are missing, the median and the outer quartiles."""

    name: str
    missing: int
    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Level:
    """One level of a column: its patients, their share of all, and how many of them have the event."""

    level: str
    patients: int
    share: float
    events: int


@dataclass(frozen=True)
class Counts:
    """A column of levels: the most frequent ones, and how many there are beyond these."""

    name: str
    missing: int
    levels: tuple[Level, ...]
    further_levels: int


@dataclass(frozen=True)
class Description:
    """Who was studied.

    Attributes
    ----------
    median_follow_up : float
        By the reverse Kaplan–Meier curve, in the cohort's time unit.
    late_entries : int
        Patients who come under observation after time zero.
    characteristics : tuple of Quartiles or Counts
    """

    median_follow_up: float
    late_entries: int
    characteristics: tuple[Quartiles | Counts, ...]


@dataclass(frozen=True)
class Third:
    """A third of the patients by risk; `at_risk` by time as text."""

    patients: int
    events: int
    at_risk: Mapping[str, int]


def describe(table: pd.DataFrame, outcome: Outcome, columns: Sequence[str]) -> Description:
    """Follow-up and covariates of the patients.

    Parameters
    ----------
    table : DataFrame
        Patients in the order of the outcome.
    outcome : Outcome
    columns : sequence of str
        Covariates to describe, as far as the table has them.
    """
    rows = (characteristic(table[c].reset_index(drop=True), outcome.event) for c in columns if c in table)
    return Description(median_follow_up(outcome), late_entries(outcome), tuple(rows))


def characteristic(values: pd.Series, event: Bools) -> Quartiles | Counts:
    """One column: median and quartiles of a number, counts and events of levels."""
    name, missing = str(values.name), int(values.isna().sum())
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > CONTINUOUS:
        q1, median, q3 = (float(q) for q in np.nanquantile(values.astype(float), [0.25, 0.5, 0.75]))
        return Quartiles(name, missing, median, q1, q3)
    levels = values.astype(object).map(str, na_action="ignore")
    counts = levels.value_counts()
    shown = (
        Level(
            str(level), int(count), float(count / len(values)), int(event[(levels == level).to_numpy()].sum())
        )
        for level, count in counts.head(MOST_LEVELS).items()
    )
    return Counts(name, missing, tuple(shown), max(0, len(counts) - MOST_LEVELS))


def median_follow_up(outcome: Outcome) -> float:
    """Median time to censoring, deaths of any cause counting as censored (Schemper & Smith 1996); with late entries."""
    curve = kaplan_meier(outcome.time, ~outcome.observed, entry=outcome.entry)
    below = np.flatnonzero(curve.values[1:, 0] <= 0.5)
    return float(curve.times[below[0]]) if len(below) else float(outcome.time.max())


def late_entries(outcome: Outcome) -> int:
    """Patients who come under observation after time zero."""
    return 0 if outcome.entry is None else int((np.asarray(outcome.entry) > 0).sum())


def risk_thirds(oof: pd.DataFrame, outcome: Outcome) -> dict[str, dict[str, Third]]:
    """Patients, events and numbers at risk by third of each model's out-of-fold risk, ``[model][third]``."""
    found = {}
    for model, rows in oof.groupby("model", sort=False):
        third = thirds_within_fold(scores_of(rows, outcome))
        found[str(model)] = {
            name: Third(
                int((third == k).sum()),
                int(outcome.event[third == k].sum()),
                numbers_at_risk(outcome, third == k, round_ticks(outcome.time)),
            )
            for k, name in enumerate(THIRDS)
        }
    return found


def numbers_at_risk(outcome: Outcome, members: Bools, times: Floats) -> dict[str, int]:
    """Patients under observation at each of the times, by the time as text."""
    entry = None if outcome.entry is None else outcome.entry[members]
    counts = at_risk(outcome.time[members], entry, np.ones((members.sum(), 1)), times)[:, 0]
    return {f"{t:g}": int(n) for t, n in zip(times, counts)}


def thirds_within_fold(scores: Scores) -> Ints:
    """Third of each patient (0 = lowest risk), from ranks within the fold averaged over repeats; −1 unscored."""
    rank = np.zeros(scores.risk.shape)
    for r, (risk, fold) in enumerate(zip(scores.risk, scores.fold)):
        rank[r] = np.where(fold >= 0, pd.Series(risk).groupby(fold).rank(pct=True), 0.0)
    times = (scores.fold >= 0).sum(axis=0)
    mean = np.divide(rank.sum(axis=0), times, out=np.full(len(times), np.nan), where=times > 0)
    third = np.full(len(mean), -1)
    scored = np.flatnonzero(~np.isnan(mean))
    third[scored] = np.floor(3 * (pd.Series(mean[scored]).rank(method="first").to_numpy() - 1) / len(scored))
    return third


def round_ticks(time: Floats, about: int = 6) -> Floats:
    """Round times from 0 over nearly the whole follow-up."""
    end = float(np.quantile(time, FOLLOWED))
    step = end / about
    size = 10.0 ** np.floor(np.log10(step))
    step = size * next(k for k in (1, 2, 2.5, 5, 10) if k * size >= step)
    return np.asarray(np.arange(0, end + 1e-9, step))
