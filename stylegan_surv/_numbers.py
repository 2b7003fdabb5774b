"""Which mark is the decimal one: decided once for a table, from all its numbers, and never guessed cell by cell.

``1.234`` is one and a bit or more than a thousand. ``987,5`` in the same table says which; where nothing does, or
where two cells contradict each other, the table is refused with both readings.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from stylegan_surv.errors import InputError

DIGITS = r"(?:\d+(?:[.,]\d*)?|[.,]\d+|\d{1,3}(?:\.\d{3})+(?:,\d*)?|\d{1,3}(?:,\d{3})+(?:\.\d*)?)"
NUMBER = re.compile(rf"[+-]?{DIGITS}(?:[eE][+-]?\d+)?")
BLANKS = " \u00a0\u202f'’"  # between thousands, as ISO 80000 and the Swiss write them
SPACES = re.compile(rf"(?<=\d)[{BLANKS}](?=\d{{3}}(?:\D|$))")
GROUPS = re.compile(r"[+-]?\d{1,3}(?:([.,])\d{3})(?:\1\d{3})*")
LIMIT = re.compile(r"([<>≤≥]=?)\s*(.*)")  # beyond what a laboratory can measure: <0.3
MISSING = {"", "na", "n/a", "nan", "nat", "null", "<na>", "."}  # cells that say that nothing is known
NAMES = {".": "point", ",": "comma"}
OTHER = {".": ",", ",": "."}


@dataclass(frozen=True)
class _Cell:
    """A number with a mark in it, and where it stands."""

    text: str
    row: int
    column: str

    @property
    def decimal(self) -> str | None:
        """The decimal mark that this number proves, or None if it can be read both ways."""
        marks = [c for c in self.text if c in ".,"]
        if len(set(marks)) == 2:
            return marks[-1]
        if len(marks) > 1:  # thousands, more than once
            return OTHER[marks[0]]
        return (
            None if GROUPS.fullmatch(self.text) and not self.text.lstrip("+-").startswith("0") else marks[0]
        )

    def __str__(self) -> str:
        return f"row {self.row}, {self.column} '{self.text}'"


def settle_marks(
    frame: pd.DataFrame, rows: list[int], source: str, columns: Collection[str], separator: str
) -> None:
    """Write the numbers in a frame of text with a decimal point and without marks between thousands.

    Parameters
    ----------
    frame : DataFrame
        Cells are str or None; changed in place. A :class:`Number` stays as it is.
    rows : list of int
        The numbers of the rows that the user sees.
    source : str
        What the messages call the table.
    columns : collection of str
        The columns in which numbers are looked for; only those that are numbers for the most part count.
    separator : str
        Between the fields of the file: a comma (or a table that is no file of text) speaks for a decimal point.

    Raises
    ------
    InputError
        If the table writes its numbers in two ways, or none of them says which way it is.
    """
    numeric = [name for name in frame.columns if name in columns and _holds_numbers(frame[name])]
    for name in numeric:
        frame[name] = frame[name].map(lambda cell: SPACES.sub("", cell) if _is_text(cell) else cell)
    marked = [
        _Cell(_bare(cell), rows[k], name)
        for name in numeric
        for k, cell in enumerate(frame[name])
        if _has_mark(cell)
    ]
    if marked:
        decimal = _decide(marked, source, separator)
        for name in numeric:
            frame[name] = frame[name].map(lambda cell: _settled(cell, decimal) if _has_mark(cell) else cell)
    for name in frame.columns:
        frame[name] = [None if cell is None else str(cell) for cell in frame[name]]


def beside_limit(cell: str) -> tuple[bool, float] | None:
    """Whether a value lies below (rather than above) a limit, and that limit; None where the cell says no such thing.

    >>> beside_limit("< 0.3"), beside_limit(">100"), beside_limit("0.3")
    ((True, 0.3), (False, 100.0), None)
    """
    found = LIMIT.fullmatch(cell)
    if found is None or NUMBER.fullmatch(found[2]) is None or "," in found[2]:
        return None
    return found[1][0] in "<≤", float(found[2])


class Number(str):
    """A cell that was a number already: its point is a decimal point, whatever the texts of the table say."""

    __slots__ = ()


def _is_text(cell: str | None) -> bool:
    return type(cell) is str


def _bare(cell: str) -> str:
    """The number of a cell, without a mark for a limit before it."""
    found = LIMIT.fullmatch(cell)
    return found[2] if found else cell


def _settled(cell: str, decimal: str) -> str:
    number = _bare(cell)
    read = _read(number, decimal)
    return cell if read is None else cell[: len(cell) - len(number)] + read


def _holds_numbers(cells: pd.Series) -> bool:
    """Whether a column is numbers for the most part, and some of them are written with a mark."""
    given = [cell for cell in cells if cell is not None and cell.casefold() not in MISSING]
    if not any(_is_text(cell) and any(mark in cell for mark in f".,{BLANKS}") for cell in given):
        return False
    return 2 * sum(NUMBER.fullmatch(SPACES.sub("", _bare(cell))) is not None for cell in given) > len(given)


def _has_mark(cell: str | None) -> bool:
    return type(cell) is str and ("." in cell or "," in cell) and NUMBER.fullmatch(_bare(cell)) is not None


def _decide(marked: list[_Cell], source: str, separator: str) -> str:
    """The decimal mark of a table."""
    proof = {mark: next((cell for cell in marked if cell.decimal == mark), None) for mark in ".,"}
    point, comma = proof["."], proof[","]
    if point and comma:
        raise InputError(
            f"{source} writes its numbers in two ways: {point} has a decimal point, {comma} a decimal comma. With a "
            f"decimal point they are {_both(point, comma, '.')}, with a decimal comma {_both(point, comma, ',')}. "
            "Write all of them in one way."
        )
    if point or comma:
        return "." if point else ","
    unclear = next((cell for cell in marked if "," in cell.text or separator != ","), None)
    if unclear is not None:
        raise InputError(
            f"{source}: {unclear} is {_read(unclear.text, '.')} with a decimal point and {_read(unclear.text, ',')} "
            "with a decimal comma, and no other number of the table says which. Write the numbers without marks "
            "between thousands, and separate the fields by commas."
        )
    return "."


def _both(first: _Cell, second: _Cell, decimal: str) -> str:
    return " and ".join(_read(cell.text, decimal) or "no number" for cell in (first, second))


def _read(text: str, decimal: str) -> str | None:
    """A number with a decimal point and no other mark; None if it is none by this decimal mark."""
    thousands = OTHER[decimal]
    whole, _, fraction = text.partition(decimal)
    if decimal in fraction or thousands in fraction or (thousands in whole and not GROUPS.fullmatch(whole)):
        return None
    return whole.replace(thousands, "") + (f".{fraction}" if decimal in text else "")
