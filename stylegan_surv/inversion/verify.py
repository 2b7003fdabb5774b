"""Checks of a latents dataset as a whole, and its export to other formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stylegan_surv.errors import InputError
from stylegan_surv.inversion.latents import (
    Latents,
    LatentsWriter,
    iterate,
    read_metadata,
    read_noise,
    read_shard,
    schema_of,
    shards,
    table_columns,
)
from stylegan_surv.inversion.sources import open_source

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort


def verify(folder: str | Path, photos: Any = None, cohort: Cohort | None = None) -> list[str]:
    """Everything that is wrong with a dataset, in words; empty if nothing is.

    Parameters
    ----------
    photos : what was embedded (Chips or a folder of chips), to find photographs that are missing or have changed.
    cohort : says which of them belong to the run.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    expected = schema_of(metadata)
    faults: list[str] = []
    seen: Counter[str] = Counter()
    hashes: dict[str, str | None] = {}
    for path in shards(folder):
        try:
            table = read_shard(path)
        except InputError as damaged:
            faults.append(str(damaged))
            continue
        wrong = [field.name for field in expected if field not in list(table.schema)]
        if wrong:
            faults.append(f"{path.name}: column {wrong[0]} is missing or of another type")
            continue
        faults += [f"{path.name}: {fault}" for fault in _row_faults(table)]
        names = table["photo_id"].to_pylist()
        seen.update(names)
        hashes.update(zip(names, table["source_sha256"].to_pylist()))
    faults += [
        f"{name} is stored {count} times; run `latents compact`" for name, count in seen.items() if count > 1
    ]
    if photos is not None:
        faults += _against(open_source(photos, cohort).photos, hashes)
    return faults


def prune(folder: str | Path, photos: Any, cohort: Cohort | None = None) -> list[str]:
    """Remove the rows of photographs that are not (or no longer) of the run; returns their names.

    Parameters
    ----------
    photos : what is to be kept: Chips, a folder of chips, or a Cohort.
    cohort : says which of them belong to the run.
    """
    keep = {photo.photo_id for photo in open_source(photos, cohort).photos}
    with LatentsWriter(folder, read_metadata(folder)) as writer:
        gone = sorted(writer.present.keys() - keep)
        writer.discard(gone)
    return gone


def _row_faults(table: pa.Table) -> Iterator[str]:
    good = np.asarray(table["status"].to_pandas() == "ok")
    names = table["photo_id"].to_pylist()
    for column, what in (("w_plus", "a latent"), ("noise", "noise maps")):
        if column not in table.column_names:
            continue
        for name, ok, missing, sound in zip(names, good, *_state(table[column].combine_chunks())):
            if ok == missing:
                yield f"{name} is {'ok without' if ok else 'failed with'} {what}"
            elif not sound:
                yield f"{name} has {what} that {'is' if column == 'w_plus' else 'are'} not finite"


def _state(vectors: pa.FixedSizeListArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are null, and which hold nothing but finite numbers (or nothing)."""
    empty = np.asarray(vectors.is_null())
    finite = np.ones(len(empty), dtype=bool)
    numbers = vectors.drop_null().flatten().to_numpy(zero_copy_only=False)
    finite[~empty] = np.isfinite(numbers).reshape(-1, vectors.type.list_size).all(axis=1)
    return empty, finite


def _against(photos: list[Any], hashes: dict[str, str | None]) -> Iterator[str]:
    for photo in photos:
        if photo.photo_id not in hashes:
            yield f"{photo.photo_id} has not been embedded"
        elif photo.source_sha256 not in (None, hashes[photo.photo_id]):
            yield f"{photo.photo_id} has changed since it was embedded; run `embed` again"
    for name in sorted(hashes.keys() - {photo.photo_id for photo in photos}):
        yield f"{name} is stored and not among the photographs of the run; `latents prune` removes it"


def export(folder: str | Path, out: str | Path) -> int:
    """Write the successful rows as ``.npz``, ``.csv`` or one ``.parquet`` file; returns how many there are.

    ``.npz`` holds ``w_plus`` [n, num_ws, w_dim], ``photo_id`` and ``patient_id``, and ``noise`` [n, total] where
    maps were optimised; the tables have one column per
    number (``w000_000`` is layer 0, element 0), which R, Stata and SPSS can read.
    """
    out = Path(out)
    if out.suffix not in (".npz", ".csv", ".parquet"):
        raise InputError(f"{out.name} ends in {out.suffix!r}; expected .npz, .csv or .parquet.")
    if not out.parent.is_dir() or Path(folder).resolve() in out.resolve().parents:
        raise InputError(
            f"{out} cannot be written: name a folder that exists and is not in the dataset itself."
        )
    metadata = read_metadata(folder)
    if out.suffix == ".npz":
        return _export_arrays(folder, out)
    names = [f"w{layer:03d}_{i:03d}" for layer in range(metadata["num_ws"]) for i in range(metadata["w_dim"])]
    rows = 0
    partial = out.with_name(f".{out.name}.tmp")
    writer = None
    columns = table_columns(metadata)
    seen: set[str] = set()  # after a killed `compact` a row may stand in two shards
    for table in iterate(folder, columns):
        table = table.filter(pa.compute.equal(table["status"], "ok"))
        names_here = table["photo_id"].to_pylist()
        table = table.filter(pa.array([name not in seen for name in names_here], pa.bool_()))
        seen.update(names_here)
        width = len(names)
        matrix = table["w_plus"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        wide = table.drop_columns(["w_plus"])
        for i, name in enumerate(names):
            wide = wide.append_column(name, pa.array(matrix[:, i]))
        rows += wide.num_rows
        if writer is None:
            writer = (
                pq.ParquetWriter(partial, wide.schema)
                if out.suffix == ".parquet"
                else pa.csv.CSVWriter(partial, wide.schema)
            )
        writer.write_table(wide)
    if writer is None:
        raise InputError(f"{folder} holds no latents yet.")
    writer.close()
    partial.replace(out)
    return rows


def _export_arrays(folder: str | Path, out: Path) -> int:
    latents = Latents.open(folder)
    arrays: dict[str, Any] = {"w_plus": latents.w_plus, "photo_id": latents.ids.astype(str)}
    arrays["patient_id"] = latents.patient_ids.astype(str)
    if latents.metadata.get("noise"):
        arrays["noise"] = read_noise(folder, list(latents.ids))
    np.savez_compressed(out, **arrays)
    return len(latents)
