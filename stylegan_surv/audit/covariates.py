"""What the clinical columns are, before anything is fitted: their coding, and whether they can be believed.

A clinical baseline that has lost its columns flatters the photograph, and one that knows the future makes it look
useless. A named column that contributes nothing is therefore an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import chi2

from stylegan_surv._covariates import OLDEST, SEVERAL, Reading
from stylegan_surv._types import Bools, Floats
from stylegan_surv.cohort import DAYS
from stylegan_surv.errors import InputError
from stylegan_surv.survival.design import ClinicalDesign
from stylegan_surv.survival.metrics.concordance import concordance
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, breslow
from stylegan_surv.survival.outcome import Outcome

SENTINELS = (-9999.0, -999.0, -99.0, -9.0, -1.0, 9.0, 99.0, 999.0, 9999.0)  # what stands for "not known"
AGE_SLACK = 5.0  # years: ages are often of another day than time zero
COPY = 1e-9  # 1 - |correlation| of two columns that are one
PILE = 3  # patients with one sentinel
APART = 0.5  # least gap between a sentinel and all other values, in their interquartile range
LEAST_MISSING = 5  # patients without, and with, a value for a test of missingness
# words of columns that are known only when the follow-up has run
LATER = {
    "death", "died", "dead", "deceased", "relapse", "relapsed", "recurrence", "recurrent", "progression", "followup",
    "autopsy", "survival", "os", "pfs", "dfs", "outcome", "event", "censored", "response", "remission", "metachronous",
}  # fmt: skip
LATER_PAIRS = {
    ("follow", "up"),
    ("vital", "status"),
    ("last", "seen"),
    ("last", "contact"),
    ("last", "visit"),
}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


@dataclass(frozen=True)
class Covariate:
    """One clinical column as the models take it; its numbers are learnt anew in every fold.

    Attributes
    ----------
    name : str
    kind : {"number", "levels", "date"}
    coding : str
        In words.
    levels : tuple of str
        That are told apart; empty for numbers.
    reference : str or None
        The level that the others are compared with.
    missing : float
        Share of the patients without a value.
    columns : tuple of str
        What it contributes to the design matrix on all patients.
    """

    name: str
    kind: str
    coding: str
    levels: tuple[str, ...]
    reference: str | None
    missing: float
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Sentinel:
    """A number that piles up apart from all others, which reach from `low` to `high`."""

    name: str
    value: float
    patients: int
    low: float
    high: float


@dataclass(frozen=True)
class Missingness:
    """Whether patients without a value fare otherwise: log-rank test, p after Holm (1979) over the columns."""

    name: str
    patients: int
    p: float


@dataclass(frozen=True)
class CovariateAudit:
    """Section of ``metrics.json``.

    Attributes
    ----------
    table : tuple of Covariate
    alone : dict of float
        C of each column by itself.
    knows_event : dict of float
        Correlation of a yes/no column, or of a column's gaps, with having the event.
    sentinels : tuple of Sentinel
    spelt_twice : dict of tuple of str
        Levels that differ by capitals and blanks alone.
    named_later : tuple of str
        Columns whose names say that they are known later than time zero.
    missing : tuple of Missingness
    """

    table: tuple[Covariate, ...] = ()
    alone: Mapping[str, float] = field(default_factory=dict)
    knows_event: Mapping[str, float] = field(default_factory=dict)
    sentinels: tuple[Sentinel, ...] = ()
    spelt_twice: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    named_later: tuple[str, ...] = ()
    missing: tuple[Missingness, ...] = ()


# before anything is fitted ----------------------------------------------------------------------------------


def usable_columns(
    table: pd.DataFrame,
    clinical: Sequence[str],
    readings: Mapping[str, Reading],
    origin: pd.Series | None = None,
) -> pd.DataFrame:
    """The table with its clinical columns as a model takes them: dates become years since time zero.

    Parameters
    ----------
    table : DataFrame
        One row per patient.
    clinical : sequence of str
        Columns of it.
    readings : mapping of str to Reading
        How the columns were read.
    origin : Series of datetime, optional
        Time zero of every patient.

    Raises
    ------
    InputError
        One message that lists every column that would contribute nothing, or not what it says.
    """
    out, faults = table.copy(), []
    for name in clinical:
        reading = readings.get(name, Reading("number"))
        fault = reading.fault
        if list(clinical).count(name) > 1:
            fault = "it is named twice"
        elif reading.kind == "date" and origin is None:
            fault = "it holds dates, and the table has no origin_date from which the years could be counted"
        elif reading.kind == "date" and origin is not None:
            days = pd.to_datetime(table[name].astype("string").str[:10]) - origin.reset_index(drop=True)
            out[name] = days.dt.days / DAYS["years"]
        if fault := fault or _nothing(out[name]):
            faults.append(f"'{name}': {fault}")
    faults += _copies(out[list(dict.fromkeys(clinical))])
    if faults:
        lines = "\n  ".join(dict.fromkeys(faults))
        raise InputError(
            f"{len(faults)} of the clinical columns cannot be used as they are:\n  {lines}\n"
            "Correct the table, or leave the columns out of the clinical variables."
        )
    return out


def _nothing(column: pd.Series) -> str:
    """Why a column contributes nothing to the design matrix; "" where it does contribute."""
    design = ClinicalDesign([str(column.name)]).fit(column.to_frame())
    if any(kind != "missing" for kind, *_ in design.plan_):
        return ""
    values = column.dropna().astype(str).value_counts()
    if values.empty:
        return "nobody has a value, so that it contributes nothing"
    if len(values) == 1:
        return f"all {values.iloc[0]} patients with a value have {values.index[0]}, so that it contributes nothing"
    shown = ", ".join(f"'{value}'" for value in values.index[:3])
    return (
        f"it is read as text, and contributes nothing: {len(values)} different ones such as {shown}, at most one of "
        f"them seen {design.min_count} times; expected numbers, or levels that patients share"
    )


def _copies(columns: pd.DataFrame) -> list[str]:
    """Columns that say the same as an earlier one: no model can tell them apart."""
    names = list(columns)
    found = []
    for k, name in enumerate(names):
        same = [other for other in names[:k] if _same(columns[other], columns[name])]
        if same:
            found.append(f"'{name}': it says the same as '{same[0]}', patient by patient")
    return found


def _same(a: pd.Series, b: pd.Series) -> bool:
    """Whether two columns are the same numbers, in any unit, or the same levels under any names."""
    numeric = [pd.api.types.is_numeric_dtype(column) and column.nunique() > 2 for column in (a, b)]
    if not all(numeric):
        return not any(numeric) and np.array_equal(pd.factorize(a)[0], pd.factorize(b)[0])
    known = (a.notna() & b.notna()).to_numpy()
    if not np.array_equal(a.isna(), b.isna()) or known.sum() < 2:
        return False
    x, y = (column.to_numpy(float)[known] for column in (a, b))
    return bool(x.std() > 0 and y.std() > 0 and abs(np.corrcoef(x, y)[0, 1]) > 1 - COPY)


def check_times(table: pd.DataFrame, unit: str) -> None:
    """Refuse follow-up that no life has room for: its unit is another one.

    Raises
    ------
    InputError
        A patient is followed for more than 120 years, or to an age of more than 125.
    """
    years = table["time"].astype(float) * DAYS[unit] / DAYS["years"]
    ages = table["age"].astype(float).fillna(0.0) if "age" in table else 0.0
    wrong = (years > OLDEST) | (years + ages > OLDEST + AGE_SLACK)
    if not wrong.any():
        return
    k = int(years.to_numpy().argmax())
    longest = float(table["time"].iloc[k])
    fits = [u for u, days in DAYS.items() if days < DAYS[unit] and longest * days / DAYS["years"] <= OLDEST]
    example = f"{longest:g} {unit} of follow-up (patient {table['patient_id'].iloc[k]})"
    raise InputError(
        f"time: {int(wrong.sum())} of {len(table)} patients would be followed beyond any lifetime, the longest for "
        f"{example}. The unit is probably {' or '.join(fits) or 'another one'}; say which:",
        python=f"time_unit='{(fits or ['days'])[0]}'.",
        command=f"--time-unit {(fits or ['days'])[0]}.",
    )


# what they say ----------------------------------------------------------------------------------------------


def audit_covariates(
    table: pd.DataFrame, clinical: Sequence[str], readings: Mapping[str, Reading], outcome: Outcome
) -> CovariateAudit:
    """Coding of the clinical columns, and what makes one doubt them.

    Parameters
    ----------
    table : DataFrame
        As `usable_columns` returned it, in the order of the outcome.
    clinical : sequence of str
    readings : mapping of str to Reading
    outcome : Outcome
    """
    columns = {name: table[name].reset_index(drop=True) for name in clinical}
    rows = tuple(_row(column, readings.get(name)) for name, column in columns.items())
    knows = {name: _event_phi(column, outcome.event) for name, column in columns.items()}
    twice = {row.name: _spelt_twice(columns[row.name]) for row in rows if row.kind == "levels"}
    return CovariateAudit(
        table=rows,
        alone={name: c_alone(column, outcome) for name, column in columns.items()},
        knows_event={name: phi for name, phi in knows.items() if phi is not None},
        sentinels=tuple(found for column in columns.values() if (found := sentinel(column))),
        spelt_twice={name: levels for name, levels in twice.items() if levels},
        named_later=tuple(name for name in clinical if is_named_later(name)),
        missing=missingness(columns, outcome),
    )


def _row(column: pd.Series, reading: Reading | None) -> Covariate:
    name = str(column.name)
    design = ClinicalDesign([name]).fit(column.to_frame())
    levels = design.levels_.get(name, ())
    if levels:
        kind, coding = "levels", f"an indicator for each level but the reference, {levels[0]}"
        pooled = sorted(set(column.dropna().astype(str)) - set(levels))
        if pooled:
            coding += f"; pooled: {', '.join(pooled[:SEVERAL])}{', …' if len(pooled) > SEVERAL else ''}"
    elif reading is not None and reading.kind == "date":
        kind, coding = "date", "years since time zero, standardised"
    else:
        few = column.nunique()
        kind = "number"
        coding = "standardised" if few > SEVERAL else f"standardised: one slope over its {few} values"
    if column.isna().any():
        coding += "; missing values are those of an average patient"
        coding += ", with an indicator" if f"{name}=missing" in design.feature_names_out_ else ""
    return Covariate(
        name, kind, coding, levels, levels[0] if levels else None, float(column.isna().mean()),
        tuple(design.feature_names_out_),
    )  # fmt: skip


def c_alone(column: pd.Series, outcome: Outcome) -> float:
    """C of one column by itself: of the number, or of the observed over the expected events of its levels."""
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > 2:
        values = column.astype(float)
        risk = values.fillna(values.mean()).to_numpy()
    else:
        times = np.unique(outcome.time)
        hazard = dict(
            zip(times, breslow(np.zeros(len(outcome)), outcome.time, outcome.event, times, outcome.entry))
        )
        expected = pd.Series([hazard[t] for t in outcome.time])
        if outcome.entry is not None:
            expected -= breslow(
                np.zeros(len(outcome)), outcome.time, outcome.event, outcome.entry, outcome.entry
            )
        level = column.astype(object).map(str, na_action="ignore").fillna("missing")
        sums = pd.DataFrame({"o": outcome.event.astype(float), "e": expected}).groupby(level.to_numpy()).sum()
        risk = level.map((sums["o"] + 0.5) / (sums["e"] + 0.5)).to_numpy(float)
    return concordance(outcome.time, outcome.event, risk, entry=outcome.entry).estimate


def _event_phi(column: pd.Series, event: Bools) -> float | None:
    """Correlation of a column of two levels, or of its gaps, with the event; None where it has neither."""
    masks = [column.isna()] + ([column == column.mode().iloc[0]] if column.nunique() == 2 else [])
    found = [
        abs(float(np.corrcoef(mask.to_numpy(float), event.astype(float))[0, 1]))
        for mask in masks
        if 0 < int(mask.sum()) < len(mask) and 0 < event.sum() < len(event)
    ]
    return max(found, default=None)


def sentinel(column: pd.Series) -> Sentinel | None:
    """A number that stands for "not known": at one end, several times, and apart from all others."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return None
    values = column.dropna().astype(float)
    for value in SENTINELS:
        count, rest = int((values == value).sum()), values[values != value]
        if count < PILE or rest.nunique() < 2:
            continue
        low, high = float(rest.min()), float(rest.max())
        gap = max(low - value, value - high)
        if gap > max(1.0, APART * float(np.subtract(*np.quantile(rest, [0.75, 0.25])))):
            return Sentinel(str(column.name), value, count, low, high)
    return None


def _spelt_twice(column: pd.Series) -> tuple[str, ...]:
    """Levels that are one but for capitals and blanks."""
    levels = pd.Series(sorted(column.dropna().astype(str).unique()))
    plain = levels.str.casefold().str.replace(r"[\s_-]+", "", regex=True)
    return tuple(levels[plain.duplicated(keep=False)])


def is_named_later(name: str) -> bool:
    """Whether a column is named after something that is known only later than time zero.

    >>> [is_named_later(n) for n in ("relapse_date", "vitalStatus", "follow_up", "progesterone", "nodal_status")]
    [True, True, True, False, False]
    """
    words = [word.lower() for word in WORDS.findall(name)]
    return bool(LATER & set(words)) or bool(LATER_PAIRS & set(pairwise(words)))


def missingness(columns: Mapping[str, pd.Series], outcome: Outcome) -> tuple[Missingness, ...]:
    """Does it go with the outcome that a value is missing? Log-rank tests, adjusted over the columns (Holm 1979)."""
    gaps = {name: column.isna().to_numpy() for name, column in columns.items()}
    tested = {
        name: gap for name, gap in gaps.items() if LEAST_MISSING <= gap.sum() <= len(gap) - LEAST_MISSING
    }
    p = {name: log_rank(gap, outcome) for name, gap in tested.items()}
    found, least = [], 0.0
    for k, name in enumerate(sorted(p, key=p.__getitem__)):
        least = max(least, min(1.0, p[name] * (len(p) - k)))
        found.append(Missingness(name, int(tested[name].sum()), least))
    return tuple(found)


def log_rank(member: Bools, outcome: Outcome) -> float:
    """p of the log-rank test of two groups, with delayed entry (Mantel 1966)."""
    times = np.unique(outcome.time[outcome.event])
    weight = np.column_stack([np.ones(len(outcome)), member]).astype(float)
    n, m = at_risk(outcome.time, outcome.entry, weight, times).T
    deaths, theirs = (
        _at(times, outcome.time[outcome.event & k]) for k in (np.full(len(member), True), member)
    )
    share = m / n
    spread = deaths * share * (1 - share) * (n - deaths) / np.maximum(n - 1, 1)
    if not spread.sum() > 0:
        return 1.0
    return float(chi2.sf((theirs - deaths * share).sum() ** 2 / spread.sum(), 1))


def _at(times: Floats, observed: Floats) -> Floats:
    """How many of the observed times fall on each of `times`."""
    return np.bincount(np.searchsorted(times, observed), minlength=len(times)).astype(float)
