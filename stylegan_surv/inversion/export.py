"""Latents for other software: one file of arrays, or a table with one column per number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from stylegan_surv._files import check_new, whole
from stylegan_surv.errors import InputError
from stylegan_surv.inversion.dataset import Metadata, read_metadata, read_noise, read_rows, shards
from stylegan_surv.inversion.latents import Latents

SUFFIXES = (".npz", ".csv", ".parquet")
# Spreadsheets take a cell that begins so for a formula, and one that begins with an apostrophe for the text after it.
FORMULA = r"^('*[=+\-−@\t\r])"
ESCAPED = r"^'('*[=+\-−@\t\r])"


def export(folder: str | Path, out: str | Path, *, force: bool = False) -> int:
    """Write the successful rows as ``.npz``, ``.csv`` or one ``.parquet`` file; returns how many there are.

    ``.npz`` holds ``w_plus`` [n, num_ws, w_dim], ``photo_id`` and ``patient_id``, and ``noise`` [n, total] where
    maps were optimised; the tables have one column per number (``w000_000`` is layer 0, element 0), which R, Stata and
    SPSS can read. In CSV, text that a spreadsheet would take for a formula has an apostrophe before it
    (:func:`plain_text` takes it away); numbers stay numbers.

    Parameters
    ----------
    folder : path
        The latents dataset.
    out : path
        The file; its suffix decides.
    force : bool
        Replace a file that is there.

    Raises
    ------
    InputError
        If the file cannot be written, exists already, or the dataset is empty or damaged.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out.name} ends in {out.suffix!r}; expected .npz, .csv or .parquet.")
    if not out.parent.is_dir() or Path(folder).resolve() in out.resolve().parents:
        raise InputError(
            f"{out} cannot be written: name a folder that exists and is not in the dataset itself."
        )
    check_new(out, force)
    metadata = read_metadata(folder)
    if out.suffix == ".npz":
        return _export_arrays(folder, out)
    return _export_table(Path(folder), out, metadata)


def _export_table(folder: Path, out: Path, metadata: Metadata) -> int:
    if not shards(folder):
        raise InputError(f"{folder} holds no latents yet.")
    try:
        with whole(out) as partial:
            return _write_table(partial, out.suffix, read_rows(folder, metadata), metadata)
    except InputError as wrong:
        if isinstance(wrong.__cause__, InputError):  # the dataset is at fault, not the place to write to
            raise wrong.__cause__ from None
        raise


def _write_table(path: Path, suffix: str, tables: Iterable[pa.Table], metadata: Metadata) -> int:
    names = [f"w{layer:03d}_{i:03d}" for layer in range(metadata["num_ws"]) for i in range(metadata["w_dim"])]
    rows, writer = 0, None
    seen: set[str] = set()  # after a killed `compact` a row may stand in two shards
    for table in tables:
        table = table.filter(pa.compute.equal(table["status"], "ok"))
        here = table["photo_id"].to_pylist()
        table = table.filter(pa.array([name not in seen for name in here], pa.bool_()))
        seen.update(here)
        wide = _wide(table, names)
        rows += wide.num_rows
        if suffix == ".csv":
            wide = _escaped(wide)
        if writer is None:
            writer = (pq.ParquetWriter if suffix == ".parquet" else pa.csv.CSVWriter)(path, wide.schema)
        writer.write_table(wide)
    if writer is not None:
        writer.close()
    return rows


def _wide(table: pa.Table, names: list[str]) -> pa.Table:
    """``w_plus`` as one column per number."""
    matrix = table["w_plus"].combine_chunks().flatten().to_numpy().reshape(-1, len(names))
    wide = table.drop_columns(["w_plus"])
    for i, name in enumerate(names):
        wide = wide.append_column(name, pa.array(matrix[:, i]))
    return wide


def _escaped(table: pa.Table) -> pa.Table:
    """Text that no spreadsheet takes for a formula; columns of numbers as they are."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            text = pa.compute.replace_substring_regex(table[field.name], pattern=FORMULA, replacement=r"'\1")
            table = table.set_column(place, field, text)
    return table


def plain_text(text: str) -> str:
    """A text cell of an exported CSV file as it was before.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> plain_text("'=A1"), plain_text("plain")
    ('=A1', 'plain')
    """
    return re.sub(ESCAPED, r"\1", text)


def _export_arrays(folder: str | Path, out: Path) -> int:
    latents = Latents.open(folder)
    arrays: dict[str, Any] = {"w_plus": latents.w_plus, "photo_id": latents.ids.astype(str)}
    arrays["patient_id"] = latents.patient_ids.astype(str)
    if latents.metadata.get("noise"):
        arrays["noise"] = read_noise(folder, list(latents.ids))
    with whole(out) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    return len(latents)
