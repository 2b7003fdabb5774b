"""A user's table as text cells, wherever it comes from, and the collector of everything that is wrong with it."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stylegan_surv._files import composed, unescaped
from stylegan_surv._numbers import MISSING, Number, settle_marks
from stylegan_surv._types import Bools
from stylegan_surv._workbook import is_workbook, not_a_table, read_workbook
from stylegan_surv.errors import InputError

NO_NAME = MISSING | {
    "none",
    "#n/a",
    "-",
    "–",
    "—",
    "?",
}  # of a patient or photograph
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # Unicode: control, format, surrogate, private, unassigned
SHOWN = 20  # faults that one message lists
SEPARATOR_LINE = re.compile(r"sep=([,;\t])", re.IGNORECASE)  # the first line that Excel writes and reads
LONGEST_CELL = 100_000  # below the limit of the csv module, which other packages move
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # what Excel calls "Unicode text"
IN_FILE = "rows are counted as in the file, the header is row 1"


@dataclass(frozen=True)
class RawTable:
    """A table as text.

    Attributes
    ----------
    frame : DataFrame
        Cells are str, stripped and in NFC, or None where nothing stands; numbers have a decimal point.
    rows : list of int
        The numbers of the rows that the user sees.
    source : str
        What the messages call the table.
    counted : str
        How the rows are counted.
    separator : str
        What stood between the fields; a comma where the table is no file of text.
    """

    frame: pd.DataFrame
    rows: list[int]
    source: str
    counted: str
    separator: str = ","


def read_table(table: str | Path | pd.DataFrame, labels: Collection[str] = ()) -> RawTable:
    """Read CSV (separated by commas, semicolons or tabs), Excel, Parquet or a frame.

    What a file is follows from its content, not from its name.

    Parameters
    ----------
    table : str, Path or DataFrame
    labels : collection of str
        Columns that hold names, dates or labels: no number is looked for in them.

    Returns
    -------
    RawTable

    Raises
    ------
    InputError
        If it cannot be read, has no header, or writes its numbers in two ways.
    """
    raw = _from_frame(table, "The table") if isinstance(table, pd.DataFrame) else _from_path(Path(table))
    settle_marks(raw.frame, raw.rows, raw.source, set(raw.frame.columns) - set(labels), raw.separator)
    return raw


def _from_path(path: Path) -> RawTable:
    expected = "expected a CSV, Excel (.xlsx) or Parquet file"
    if path.is_dir():
        if not any(path.glob("**/*.parquet")):
            raise InputError(f"{path} is a folder without Parquet files; {expected}.")
        return _from_parquet(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"There is no table {path}; {expected}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {expected}.") from error
    if data[:4] == b"PAR1" or path.suffix.lower() in {".parquet", ".pq"}:
        return _from_parquet(path)
    if is_workbook(data):
        return _from_rows(path.name, *read_workbook(data, path.name))
    if what := not_a_table(data):
        raise InputError(f"{path.name} is {what}; {expected}.")
    return _from_csv(path.name, data)


def _from_parquet(path: Path) -> RawTable:
    import pyarrow as pa

    try:
        return _from_frame(pd.read_parquet(path), path.name)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path.name} is not a readable Parquet file: {error}") from error


def _from_frame(frame: pd.DataFrame, source: str) -> RawTable:
    names = [str(name).strip() for name in frame.columns]
    lines = [list(cells) for cells in zip(*(frame.iloc[:, i] for i in range(len(names))))]
    return _from_rows(source, names, lines, list(range(len(frame))), "rows are counted from 0")


def _from_csv(source: str, data: bytes) -> RawTable:
    try:
        text = data.decode("utf-16" if data[:2] in UTF16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text ({error}); save it as 'CSV UTF-8'.") from error
    lines = io.StringIO(text, newline="").readlines()
    skipped, separator = 0, ""
    if lines and (said := SEPARATOR_LINE.fullmatch(lines[0].strip("\r\n"))):
        skipped, separator = 1, said[1]
    head = lines[skipped] if len(lines) > skipped else ""
    separator = separator or max(",;\t", key=head.count)
    reader = csv.reader(lines[skipped:], delimiter=separator)
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for cells in reader:
            if max(map(len, cells), default=0) > LONGEST_CELL:
                raise csv.Error("field limit")
            if any(cell.strip() for cell in cells):
                rows.append(cells)
                numbers.append(reader.line_num + skipped)
    except csv.Error as error:
        row = numbers[-1] + 1 if numbers else skipped + 1
        fault = f"a cell is longer than {LONGEST_CELL} characters" if "field limit" in str(error) else error
        raise InputError(
            f"{source}, row {row}: {fault}; a quotation mark was probably not closed."
        ) from error
    header = [unescaped(name.strip()) for name in rows[0]] if rows else []
    lines_of_text = [[unescaped(cell) for cell in line] for line in rows[1:]]
    return _from_rows(source, header, lines_of_text, numbers[1:], IN_FILE, separator)


def _from_rows(
    source: str,
    header: Sequence[str],
    lines: Sequence[Sequence[Any]],
    rows: list[int],
    counted: str = IN_FILE,
    separator: str = ",",
) -> RawTable:
    """The table of a header and its lines; blank cells beyond the header (trailing separators) do not count."""
    names = [composed(name) for name in header]
    width = len(names)
    texts = [[_text(cell) for cell in line] for line in lines]
    ragged = [
        k
        for k, line in enumerate(texts)
        if len(line) < width or any(cell is not None for cell in line[width:])
    ]
    if ragged:
        raise InputError(
            f"{source}, row {rows[ragged[0]]}: {len(texts[ragged[0]])} fields where the header has {width} "
            f"({len(ragged)} such rows); a field that holds a '{separator}' needs quotation marks."
        )
    columns = {i: [line[i] for line in texts] for i in range(width)}
    for i in [i for i, name in enumerate(names) if not name or name.startswith("Unnamed: ")]:
        if not _says_nothing(columns[i]):
            raise InputError(
                f"{source}: column {i + 1} has no name in the header; give it one, or remove it."
            )
        del columns[i]
    kept = [names[i] for i in columns]
    if not kept:
        raise InputError(f"{source} is empty; expected a header with the names of the columns.")
    if twice := [name for name, n in Counter(kept).items() if n > 1]:
        raise InputError(f"{source} has the column '{twice[0]}' more than once; every name must be unique.")
    frame = pd.DataFrame({names[i]: cells for i, cells in columns.items()}, dtype=object)
    return RawTable(frame, rows, source, counted, separator)


def _says_nothing(cells: Sequence[str | None]) -> bool:
    """Whether a column without a name is empty, or counts the rows (an index that was saved with the table)."""
    if all(cell is None for cell in cells):
        return True
    return any(list(cells) == [str(k) for k in range(first, first + len(cells))] for first in (0, 1))


def _text(cell: Any) -> str | None:
    if cell is None or cell is pd.NaT or cell is pd.NA:
        return None
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating):
        if np.isnan(cell):
            return None
        return Number(
            str(int(cell) if float(cell).is_integer() else cell)
        )  # codes that pandas has turned into floats
    if isinstance(cell, int | np.integer):
        return Number(str(cell))
    return composed(str(cell).strip()) or None


def blank(text: pd.Series, marks: Collection[str] = MISSING) -> pd.Series:
    """A column with None where a cell holds a mark for a missing value, such as NA."""
    return text.where(~text.astype("string").str.casefold().isin(list(marks)).fillna(True).astype(bool), None)


def identifiers(text: pd.Series) -> pd.Series:
    """Names of patients, equal wherever they come from: ``123.0``, a number that a program made a float, is ``123``."""
    return text.where(
        text.isna(), text.astype("string").str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    ).astype(object)


@dataclass
class Faults:
    """Collects what is wrong with a table, to say it all at once."""

    raw: RawTable
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, wrong: pd.Series | Bools, column: str, values: pd.Series, expected: str) -> None:
        """Record the rows where the mask ``wrong`` holds."""
        for position in np.flatnonzero(np.asarray(wrong, dtype=bool)):
            self.add_one(int(position), column, values.iloc[position], expected)

    def add_one(self, position: int, column: str, value: object, expected: str) -> None:
        """Record the row at a position, counted from 0."""
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


def numbers(text: pd.Series) -> pd.Series:
    """Cells as numbers, NaN where a cell is none."""
    return pd.to_numeric(text.astype(object), errors="coerce")


def identity(given: pd.Series, faults: Faults) -> pd.Series:
    """Identifiers of patients; those that a spreadsheet takes for a formula, or nobody can see, are faults."""
    ids = identifiers(present(given, faults))
    formula = ids.astype("string").str.match(r"[=+@-]").fillna(False).astype(bool)
    faults.add(
        formula, str(given.name), given, "a name that does not begin with =, +, - or @, as formulas do"
    )
    return ids


def present(given: pd.Series, faults: Faults) -> pd.Series:
    """A column of names; marks for missing values, and characters that nobody sees, are faults."""
    name = str(given.name)
    values = blank(given, NO_NAME)
    mark = values.isna() & given.notna()
    faults.add(values.isna() & ~mark, name, given, "a value")
    faults.add(mark, name, given, "a value; this stands for a missing one")
    unseen = values.map(lambda text: text is not None and has_invisible(text)).astype(bool)
    faults.add(
        unseen,
        name,
        given.map(lambda text: None if text is None else ascii(text)[1:-1]),
        "visible characters",
    )
    return values


def has_invisible(name: str) -> bool:
    """Whether a name holds characters that nobody sees, or that no text file can hold.

    >>> has_invisible("a\\u200bb.jpg"), has_invisible("Müller 1.jpg")
    (True, False)
    """
    return any(unicodedata.category(character) in INVISIBLE for character in name)
