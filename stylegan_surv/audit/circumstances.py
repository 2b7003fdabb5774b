"""How, where and when a photograph was taken: the columns that tell, found by what they are and not by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stylegan_surv._covariates import Reading
from stylegan_surv.audit.covariates import is_named_later
from stylegan_surv.errors import InputError

ROLES = ("site", "camera", "year")  # that a column may be given, and that are missed where none is
USUAL = {
    "site": ("site",),
    "camera": ("camera",),
    "era": ("era",),
    "year": ("photo_year", "entry_year", "year"),
}
DATES = {"photo_date": "photo_year", "origin_date": "origin_year"}
CALENDAR = (1850, 2100)  # numbers that are all whole and between these are years
ONE_YEAR = 0.99  # correlation above which two columns of years tell the same
BIRTH = ("birth", "born", "dob", "geburt")  # years of birth are ages, which the clinic knows
# what a patient is or has: no circumstance of a photograph, though it may go with one
OF_THE_PATIENT = {"sex", "gender", "entity", "stage", "grade", "ethnicity", "race", "skin_tone"}
MOST_LEVELS = 12  # of a text column that is tried as a site
LEAST_PATIENTS = 10  # of its second largest level


@dataclass(frozen=True)
class Circumstances:
    """Columns of the patients' table by what they tell of the photographs.

    Attributes
    ----------
    site, camera, era, year : tuple of str
        Where, by what, and when; the first year is that of the photograph, where it is known.
    tried : tuple of str
        Text columns of few levels that nobody has named: a site may hide in them.
    """

    site: tuple[str, ...] = ()
    camera: tuple[str, ...] = ()
    era: tuple[str, ...] = ()
    year: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """All but those that are only tried."""
        return (*self.site, *self.camera, *self.era, *self.year)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What no column tells."""
        told = {"site": self.site, "camera": self.camera, "year": self.year + self.era}
        return tuple(role for role in ROLES if not told[role])

    def record(self) -> dict[str, Any]:
        """As ``metrics.json`` holds it."""
        return {**vars(self), "unchecked": self.unchecked}


def with_years(table: pd.DataFrame, dates: Mapping[str, pd.Series]) -> pd.DataFrame:
    """The table with the calendar year of every date, where it has no such column yet.

    Parameters
    ----------
    table : DataFrame
        One row per patient.
    dates : mapping of str to Series
        Dates of the patients by column, as text or datetime; ``diagnosis_date`` gives ``diagnosis_year``.
    """
    found = {}
    for name, values in dates.items():
        year = DATES.get(name, f"{name.removesuffix('_date')}_year")
        if year not in table and _may_tell(name):
            days = pd.to_datetime(values.astype("string").str[:10], errors="coerce")
            found[year] = days.dt.year.astype(float).to_numpy()
    return table.assign(**found)


def circumstances(
    table: pd.DataFrame,
    covariates: Sequence[str],
    clinical: Sequence[str] = (),
    readings: Mapping[str, Reading] | None = None,
    named: Mapping[str, str] | None = None,
) -> Circumstances:
    """Find them: by `named`, by the usual names, by values that are years, and by having few levels.

    Parameters
    ----------
    table : DataFrame
        As `with_years` returned it.
    covariates, clinical : sequence of str
        Columns of the cohort, and those of them that the clinic knows.
    readings : mapping of str to Reading, optional
        How the columns were read.
    named : mapping of str to str, optional
        ``{"year": column, "site": column, "camera": column}``, any of them.

    Raises
    ------
    InputError
        `named` has another role, names no column of the table, or a year that is none.
    """
    named, readings = dict(named or {}), readings or {}
    _check(named, table, covariates)
    roles = {
        role: _unique([*([named[role]] if role in named else []), *(c for c in usual if c in table)])
        for role, usual in USUAL.items()
    }
    years = [_year_of(name, table) for name in roles["year"]]
    years += [name for name in map(str, table) if name not in years and _is_year(table[name])]
    known = {name for role in ("site", "camera", "era") for name in roles[role]}
    tried = [
        name
        for name in covariates
        if name not in known and name not in clinical and name not in OF_THE_PATIENT
        and readings.get(name, Reading("label")).kind == "label" and _may_hide_a_site(table[name])
    ]  # fmt: skip
    return Circumstances(
        site=tuple(roles["site"]),
        camera=tuple(roles["camera"]),
        era=tuple(roles["era"]),
        year=_distinct([name for name in years if name in table and _varies(table[name])], table),
        tried=tuple(tried),
    )


def _check(named: Mapping[str, str], table: pd.DataFrame, covariates: Sequence[str]) -> None:
    for role, name in named.items():
        if role not in ROLES:
            raise InputError(
                f"nuisance: got {role!r}; expected {', '.join(ROLES)}, each with a column: year=COLUMN."
            )
        if name not in covariates:
            raise InputError(
                f"nuisance: there is no column {name!r} for the {role}; the table has "
                f"{', '.join(covariates) or 'no covariates'}. Correct the name."
            )
    if "year" in named and not _varies(table[_year_of(named["year"], table)]):
        raise InputError(
            f"nuisance: {named['year']!r} for the year holds no numbers, or one only; expected calendar years or dates."
        )


def _year_of(name: str, table: pd.DataFrame) -> str:
    """The column of years that was made of a column of dates."""
    made = f"{name.removesuffix('_date')}_year"
    return made if name.endswith("_date") or (made in table and not _numeric(table[name])) else name


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _varies(column: pd.Series) -> bool:
    return _numeric(column) and column.nunique() > 1


def _may_tell(name: str) -> bool:
    """Not a date of birth, and nothing that is known only later."""
    return not any(part in name.lower() for part in BIRTH) and not is_named_later(name)


def _is_year(column: pd.Series) -> bool:
    if not _varies(column) or not _may_tell(str(column.name)):
        return False
    values = column.dropna().to_numpy(float)
    return bool(((values >= CALENDAR[0]) & (values <= CALENDAR[1]) & (values == np.floor(values))).all())


def _distinct(years: Sequence[str], table: pd.DataFrame) -> tuple[str, ...]:
    """Without those that tell the same as an earlier one."""
    kept: list[str] = []
    for name in years:
        if not any(abs(table[name].corr(table[other])) > ONE_YEAR for other in kept):
            kept.append(name)
    return tuple(kept)


def _may_hide_a_site(column: pd.Series) -> bool:
    counts = column.astype(object).value_counts()
    return (
        not _numeric(column)
        and 2 <= len(counts) <= MOST_LEVELS
        and int(counts.iloc[1]) >= LEAST_PATIENTS
        and _may_tell(str(column.name))
    )
