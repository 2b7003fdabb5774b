"""A user's table as text cells, and the collector of everything that is wrong with it."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stylegan_surv.errors import InputError

MISSING = {"", "na", "n/a", "nan", "nat", "null", "<na>", "."}
SHOWN = 20  # faults that one message lists


@dataclass(frozen=True)
class RawTable:
    """A table as text: cells are str or None; `rows` are the numbers that the user sees."""

    frame: pd.DataFrame
    rows: list[int]
    source: str
    counted: str
    decimal: str = "."


def read_table(table: str | Path | pd.DataFrame) -> RawTable:
    """Read CSV (comma; or semicolon or tab, then with decimal comma), Parquet or a frame."""
    if isinstance(table, pd.DataFrame):
        return _from_frame(table, "The table")
    path = Path(table)
    if not path.is_file():
        raise InputError(f"There is no table {path}; expected a CSV or Parquet file.")
    if path.suffix.lower() in {".parquet", ".pq"}:
        try:
            return _from_frame(pd.read_parquet(path), path.name)
        except (OSError, ValueError) as error:
            raise InputError(f"{path.name} is not a readable Parquet file: {error}") from error
    return _from_csv(path)


def _from_frame(frame: pd.DataFrame, source: str) -> RawTable:
    names = [str(name) for name in frame.columns]
    _check_header(names, source)
    text = {name: [_text(cell) for cell in frame.iloc[:, i]] for i, name in enumerate(names)}
    cells = pd.DataFrame(text, dtype=object)
    return RawTable(cells, list(range(len(cells))), source, "rows are counted from 0")


def _from_csv(path: Path) -> RawTable:
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.split("\n", 1)[0].count)
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error}); save it as 'CSV UTF-8'.") from error
    _check_header(header, path.name)
    ragged = [(number, len(cells)) for number, cells in lines if len(cells) != len(header)]
    if ragged:
        number, width = ragged[0]
        raise InputError(
            f"{path.name}, row {number}: {width} fields where the header has {len(header)} "
            f"({len(ragged)} such rows); a field that holds a '{separator}' needs quotation marks."
        )
    cells = pd.DataFrame([[_text(cell) for cell in line] for _, line in lines], columns=header, dtype=object)
    counted = "rows are counted as in the file, the header is row 1"
    decimal = "." if separator == "," else ","
    return RawTable(cells, [number for number, _ in lines], path.name, counted, decimal)


def _check_header(names: list[str], source: str) -> None:
    if not names:
        raise InputError(f"{source} is empty; expected a header with the names of the columns.")
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise InputError(f"{source} has the column '{twice[0]}' more than once; every name must be unique.")


def _text(cell: Any) -> str | None:
    if cell is None or cell is pd.NaT or cell is pd.NA:
        return None
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))  # identifiers and codes that pandas has turned into floats
    text = str(cell).strip()
    return None if text.casefold() in MISSING else text


@dataclass
class Faults:
    """Collects what is wrong with a table, to say it all at once."""

    raw: RawTable
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, wrong: pd.Series | np.ndarray, column: str, values: pd.Series, expected: str) -> None:
        """Record the rows where the mask `wrong` holds."""
        for position in np.flatnonzero(np.asarray(wrong, dtype=bool)):
            self.add_one(int(position), column, values.iloc[position], expected)

    def add_one(self, position: int, column: str, value: object, expected: str) -> None:
        got = "nothing" if value is None or value is pd.NaT or value != value else f"'{value}'"
        row = self.raw.rows[position]
        self.found.append((row, f"row {row}, {column}: {got}; expected {expected}"))

    def report(self) -> None:
        """Raise one InputError that lists everything, in the order of the rows; nothing if all is well."""
        if not self.found:
            return
        lines = [text for _, text in sorted(self.found, key=lambda fault: fault[0])]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        plural = "fault" if len(lines) == 1 else "faults"
        head = f"{self.raw.source} has {len(lines)} {plural} ({self.raw.counted}):"
        raise InputError("\n  ".join([head, *lines[:SHOWN], *more]))


def numbers(text: pd.Series, raw: RawTable) -> pd.Series:
    """Cells as numbers, NaN where a cell is none."""
    if raw.decimal == ",":
        text = text.astype("string").str.replace(",", ".", regex=False)
    return pd.to_numeric(text.astype(object), errors="coerce")
