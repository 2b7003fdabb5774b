"""A clinical column as what it is: numbers, limits of detection, dates or labels; nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from stylegan_surv._numbers import beside_limit
from stylegan_surv._table import Faults, numbers

ISO_DATE = r"^(\d{4}-\d{2}-\d{2})(?:[T ].*)?$"
OTHER_DATE = (
    r"^(?:\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4})$"
)
SEVERAL = 12  # distinct numbers above which a column is one of measurements, and a text in it is a fault
OLDEST = 120.0  # years; nobody has been older for certain but one (Jeanne Calment, 122)
Kind = Literal["number", "label", "date"]


@dataclass(frozen=True)
class Reading:
    """How a column was read.

    Attributes
    ----------
    kind : {"number", "label", "date"}
        Dates stay text, YYYY-MM-DD, until a model asks for the years since time zero.
    flag : str
        What a reader of the report must know; "" where there is nothing.
    fault : str
        Why the column cannot stand in a model as it is; "" where it can.
    """

    kind: Kind
    flag: str = ""
    fault: str = ""


def read_covariate(
    text: pd.Series, faults: Faults, *, nominal: Collection[str], numeric: Collection[str]
) -> tuple[pd.Series, Reading]:
    """A column's values, and how they were read.

    Parameters
    ----------
    text : Series of str or None
        Cells without marks for missing values; numbers have a decimal point.
    faults : Faults
        Collects what is wrong whatever the column is used for.
    nominal, numeric : collection of str
        Columns that are labels even where they are coded as numbers, and such that must be numbers.

    Returns
    -------
    values : Series
        Numbers, or text and None.
    reading : Reading
    """
    name = str(text.name)
    values = numbers(text).astype(float)
    odd = text.notna() & ~np.isfinite(values)
    if name in numeric:
        faults.add(odd, name, text, "a number")
        return numbers(text), Reading("number")
    if name in nominal:
        return text, Reading("label")
    if not odd.any():
        return numbers(text), Reading("number")
    limits = text.where(odd).map(beside_limit, na_action="ignore")
    if limits[odd].notna().all():
        return _with_limits(values, limits, text, odd)
    if (date := _dates(text)) is not None:
        return text, date
    return text, _labels(text, odd)


def _with_limits(
    values: pd.Series, limits: pd.Series, text: pd.Series, odd: pd.Series
) -> tuple[pd.Series, Reading]:
    """Values beyond a limit of detection: half the lower limit (Hornung & Reed 1990), the upper limit itself."""
    filled = values.copy()
    flags = []
    for below, what, taken in ((True, "below", "half the limit"), (False, "above", "the limit")):
        these = [i for i in limits.index[odd] if limits[i][0] is below]
        filled[these] = [limits[i][1] * (0.5 if below else 1.0) for i in these]
        if these:
            flags.append(f"{len(these)} values {what} a limit, such as '{text[these[0]]}', count as {taken}")
    return filled, Reading("number", f"'{text.name}': {'; '.join(flags)}.")


def _dates(text: pd.Series) -> Reading | None:
    """How a column of dates was read; None where it is none."""
    given = text.dropna().astype("string")
    iso = given.str.extract(ISO_DATE)[0]
    if iso.notna().all() and pd.to_datetime(iso, format="%Y-%m-%d", errors="coerce").notna().all():
        return Reading("date")
    other = iso.notna() | given.str.match(OTHER_DATE)
    if 2 * int(other.sum()) <= len(given):
        return None
    wrong = given[iso.isna()]
    example = wrong.iloc[0] if len(wrong) else given.iloc[0]
    return Reading("label", fault=f"it holds dates such as '{example}'; expected YYYY-MM-DD in every row")


def _labels(text: pd.Series, odd: pd.Series) -> Reading:
    known = int(text.notna().sum())
    flag = fault = ""
    if odd.sum() < 0.1 * known:  # probably slips of the pen: worth a word in the report
        flag = f"'{text.name}' is read as text because of {odd.sum()} values like '{text[odd].iloc[0]}'."
    if text[text.notna() & ~odd].nunique() > SEVERAL:
        fault = (
            f"{known - odd.sum()} of its {known} values are numbers and {odd.sum()} are not, such as "
            f"'{text[odd].iloc[0]}'; expected one kind (leave a cell empty where nothing was measured)"
        )
    return Reading("label", flag, fault)


def check_ages(age: pd.Series, faults: Faults) -> None:
    """Ages of nobody are faults: below 0, above 120, codes for missing ones."""
    faults.add(
        (age < 0) | (age > OLDEST), "age", age,
        f"an age in years, from 0 to {OLDEST:.0f}; leave the cell empty where it is not known",
    )  # fmt: skip
