"""Excel workbooks as rows of cells, and files that are called tables and are something else."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from typing import Any

from stylegan_surv.errors import InputError

MAX_UNPACKED = 500_000_000  # bytes of a workbook's parts; a table of a million cells takes some 50 MB
ZIP = b"PK\x03\x04"
FOREIGN = (  # how a file begins, and what it then is
    (b"\x1f\x8b", "compressed by gzip: unpack it first (gunzip)"),
    (b"BZh", "compressed by bzip2: unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (unzstd)"),
    (ZIP, "a ZIP archive and no Excel workbook: unpack it first"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls): save it as .xlsx or as 'CSV UTF-8'"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "a document in rich text"),
    (b"SQLite format 3", "an SQLite database: export the table as CSV"),
    (b"$FL2", "an SPSS file: export the table as CSV"),
    (b"RDX3", "an R data file: write the table as CSV or Parquet"),
    (b"<", "a web page or XML, whatever its name: save the table itself as CSV or .xlsx"),
)


def is_workbook(data: bytes) -> bool:
    """Whether the bytes are an Excel workbook (.xlsx or .xlsm)."""
    if not data.startswith(ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            return "xl/workbook.xml" in parts.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return False


def not_a_table(data: bytes) -> str | None:
    """What a file is that is no table of text, in words; None if it may be one."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((what for magic, what in FOREIGN if data.startswith(magic) or start.startswith(magic)), None)


def read_workbook(data: bytes, source: str) -> tuple[list[str], list[list[Any]], list[int]]:
    """Header, cells and row numbers of the one sheet of a workbook that holds anything.

    Dates become ``YYYY-MM-DD``; of formulas the value counts that Excel has stored.

    Raises
    ------
    InputError
        If openpyxl is not installed, the workbook is damaged, or several sheets hold data.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{source} is an Excel workbook; reading it needs openpyxl: pip install 'stylegan-surv[excel]', or save "
            "the table as 'CSV UTF-8'."
        ) from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
        if unpacked > MAX_UNPACKED:
            raise InputError(
                f"{source} would unpack to {unpacked // 10**6} MB; at most {MAX_UNPACKED // 10**6} are read. Save the "
                "table as 'CSV UTF-8'."
            )
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        full = {sheet.title: rows for sheet in book.worksheets if (rows := _filled_rows(sheet))}
    except InputError:
        raise
    except Exception as error:  # a damaged workbook fails anywhere in openpyxl or its XML parser
        raise InputError(f"{source} is a damaged Excel workbook: {error}") from error
    if len(full) > 1:
        raise InputError(
            f"{source} has {len(full)} sheets with data ({', '.join(full)}); leave only the table in it, or save the "
            "sheet as 'CSV UTF-8'."
        )
    numbered = next(iter(full.values()), [])
    if not numbered:
        return [], [], []
    header = ["" if cell is None else str(cell).strip() for cell in numbered[0][1]]
    while header and not header[-1]:  # a sheet is as wide as its widest row
        header.pop()
    cells = [[_plain(cell) for cell in row] + [None] * (len(header) - len(row)) for _, row in numbered[1:]]
    return header, cells, [k for k, _ in numbered[1:]]


def _filled_rows(sheet: Any) -> list[tuple[int, tuple[Any, ...]]]:
    """Rows of a sheet that hold anything, with their numbers; a sheet may claim a million that are empty."""
    sheet.reset_dimensions()  # what the file says of its size may be wrong
    rows = enumerate(sheet.iter_rows(values_only=True), start=1)
    return [(k, row) for k, row in rows if any(cell is not None and str(cell).strip() for cell in row)]


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == datetime.min.time() else cell.isoformat(sep=" ")
    return cell.isoformat() if isinstance(cell, date) else cell
