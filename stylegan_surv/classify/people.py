"""The table of a case-control study of faces: one photograph per person, cases and a pool of controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stylegan_surv._photos import locate, photo_ids, relative_name
from stylegan_surv._table import Faults, blank, identity, numbers, present, read_table
from stylegan_surv._types import Bools
from stylegan_surv.errors import InputError

REQUIRED = ("patient_id", "photo", "group", "age", "sex")
SOURCES = ("site", "camera")  # columns that say where a photograph comes from
LABELS = ("patient_id", "photo", "group", "sex", *SOURCES)  # never read as numbers
CASE, CONTROL = "case", "control"
OLDEST = 125.0  # years


@dataclass(frozen=True, eq=False)
class People:
    """Cases and controls with their photographs.

    Attributes
    ----------
    table : DataFrame
        One row per person: ``patient_id, photo, photo_id, path`` (None without a folder), ``group`` ("case" or
        "control"), ``age`` (years), ``sex``, then every further column; numbers are floats, the rest is text.
    source : str
        What messages call the table.
    """

    table: pd.DataFrame
    source: str = "The table"

    @property
    def case(self) -> Bools:
        """Who is a case."""
        return np.asarray(self.table["group"] == CASE)

    def __len__(self) -> int:
        """Number of people."""
        return len(self.table)

    def covariates(self) -> list[str]:
        """Names of the numeric columns beside age, such as BMI and year."""
        known = (*REQUIRED, "photo_id", "path")
        kept = self.table.drop(columns=[name for name in known if name in self.table])
        return [str(name) for name in kept.select_dtypes("number").columns]

    def rows(self, keep: Bools) -> People:
        """The people for whom ``keep`` holds."""
        return People(self.table[np.asarray(keep)].reset_index(drop=True), self.source)


def read_people(
    table: str | Path | pd.DataFrame,
    photos: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    case: str = CASE,
    control: str = CONTROL,
) -> People:
    """Read and check a table of cases and controls.

    Parameters
    ----------
    table : str, Path or DataFrame
        CSV, Excel, Parquet or a frame with ``patient_id, photo, group, age, sex`` and, where they are known,
        ``site, camera, year, bmi`` and any other column.
    photos : str or Path, optional
        Folder that the names in ``photo`` are relative to.
    columns : mapping of str to str, optional
        Our name → the table's name, for columns that are called otherwise.
    case, control : str
        How ``group`` calls the two classes.

    Returns
    -------
    People

    Raises
    ------
    InputError
        If a column is missing, a value is wrong (all of them are listed), one class is empty, or a person or a
        photograph stands in both groups or twice.
    """
    raw = read_table(table, labels=LABELS)
    frame = raw.frame.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    if missing := [name for name in REQUIRED if name not in frame]:
        raise InputError(
            f"{raw.source} has no column {', '.join(missing)}; it has {', '.join(frame.columns)}. Expected "
            f"{', '.join(REQUIRED)}; other names can be mapped:",
            python="columns={'group': 'diagnosis'}.",
            command="--column group=diagnosis.",
        )
    faults = Faults(raw)
    folder = None if photos is None else Path(photos).absolute()
    made = frame[[]].copy()
    made["patient_id"] = identity(frame["patient_id"], faults)
    photo = present(frame["photo"], faults)
    made["photo"] = photo.map(lambda name: None if name is None else relative_name(name, folder)).astype(
        object
    )
    faults.add(
        photo.notna() & made["photo"].isna(), "photo", photo, "a name relative to the folder, inside it"
    )
    given = frame["group"].astype("string").str.casefold()
    made["group"] = given.map({case.casefold(): CASE, control.casefold(): CONTROL}).astype(object)
    faults.add(made["group"].isna(), "group", frame["group"], f"'{case}' or '{control}'")
    made["age"] = numbers(frame["age"]).astype(float)
    faults.add(~made["age"].between(0, OLDEST), "age", frame["age"], f"years, a number from 0 to {OLDEST:g}")
    made["sex"] = blank(frame["sex"])
    faults.add(made["sex"].isna(), "sex", frame["sex"], "a value")
    _once(made, frame, faults)
    for name in frame.columns.difference([*REQUIRED, "photo_id", "path"], sort=False):
        made[name] = _typed(frame[name])
    _find(made, folder, faults)
    faults.report()
    people = People(made.reset_index(drop=True), raw.source)
    _both_classes(people, case, control)
    return people


def _once(made: pd.DataFrame, frame: pd.DataFrame, faults: Faults) -> None:
    """Every person and every photograph stands in the table once, and so in one group."""
    for name, what in (("patient_id", "person"), ("photo", "photograph")):
        groups = made.groupby(name)["group"].transform("nunique")
        twice = made[name].duplicated() & made[name].notna()
        faults.add(twice & (groups > 1), name, frame[name], f"each {what} in one group, not in both")
        faults.add(twice & ~(groups > 1), name, frame[name], f"each {what} once")


def _typed(text: pd.Series) -> pd.Series:
    """A column as floats if all its cells are numbers, else as text."""
    cells = blank(text)
    values = numbers(cells).astype(float)
    whole = str(text.name) not in LABELS and bool((values.notna() | cells.isna()).all())
    return values if whole and values.notna().any() else cells


def _find(made: pd.DataFrame, folder: Path | None, faults: Faults) -> None:
    if folder is None:
        made["photo_id"] = photo_ids(list(made["photo"].fillna("")))
        made["path"] = None
        return
    places, absent = locate(made["photo"], folder)
    made["photo_id"], made["path"] = places["photo_id"], places["path"]
    for position, expected in absent.items():
        faults.add_one(position, "photo", made["photo"].iloc[position], expected)


def _both_classes(people: People, case: str, control: str) -> None:
    cases = int(people.case.sum())
    if 0 < cases < len(people):
        return
    lacking = case if cases == 0 else control
    raise InputError(
        f"{people.source} has {len(people)} people of one class and no '{lacking}' in the column group; "
        "expected cases and controls."
    )
