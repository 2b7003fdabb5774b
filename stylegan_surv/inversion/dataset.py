"""The latents dataset on disk: a folder of Parquet shards with one row per photograph, and how it is read.

A shard appears by renaming, so it is either whole or absent. Everything in the folder that is not a shard starts with
``_``, which pandas, R arrow and DuckDB pass over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stylegan_surv._records import check_format
from stylegan_surv.errors import InputError
from stylegan_surv.inversion.origin import FORMAT, Origin

METADATA_FILE = "_latents.json"
SHARDS = "part-*.parquet"
TEXT = ("photo_id", "patient_id", "source_path", "source_sha256", "status", "error")
NUMBERS = ("lpips", "mse", "identity", "distance", "steps", "seed")
INTEGERS = ("steps", "seed")
Metadata = dict[str, Any]
Row = Mapping[str, Any]


def schema(num_ws: int, w_dim: int, noise: int = 0) -> pa.Schema:
    """Columns of a shard.

    Parameters
    ----------
    num_ws, w_dim : int
        ``w_plus`` is the [num_ws, w_dim] array by rows, null where the photograph failed.
    noise : int
        Numbers of optimised noise maps of a photograph, kept in half precision; 0 for none.
    """
    return pa.schema(
        [(name, pa.string()) for name in TEXT]
        + [("w_plus", pa.list_(pa.float32(), num_ws * w_dim))]
        + [(name, pa.int64() if name in INTEGERS else pa.float32()) for name in NUMBERS]
        + ([("noise", pa.list_(pa.float16(), noise))] if noise else [])
    )


def schema_of(metadata: Mapping[str, Any]) -> pa.Schema:
    """Columns of a dataset with this metadata, which names the further ones with their types."""
    columns = schema(metadata["num_ws"], metadata["w_dim"], metadata.get("noise", 0))
    for name, kind in metadata.get("columns", {}).items():
        try:
            columns = columns.append(pa.field(name, pa.type_for_alias(kind)))
        except ValueError as unknown:
            raise InputError(
                f"{METADATA_FILE} gives columns.{name} the type {kind!r}; expected the name of an Arrow type. Restore "
                "the file from a copy."
            ) from unknown
    return columns


def table_columns(metadata: Mapping[str, Any]) -> list[str]:
    """Names of a dataset's columns without the noise maps, which stay on disk."""
    return [name for name in schema_of(metadata).names if name != "noise"]


def shards(folder: Path) -> list[Path]:
    """The dataset's shards, in the order in which they were written."""
    return sorted(folder.glob(SHARDS))


def read_metadata(folder: str | Path) -> Metadata:
    """The dataset's metadata, checked.

    Raises
    ------
    InputError
        If the folder is no latents dataset, its metadata are damaged, or of another format version.
    """
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        raise InputError(f"{folder} is not a latents folder (it has no {METADATA_FILE}); `embed` writes one.")
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{path} is damaged ({fault}); restore it from a copy, or embed the photographs again."
        ) from fault
    if isinstance(metadata, dict):
        check_format(metadata.get("format"), FORMAT, path, "Embed the photographs again.")
    Origin.from_metadata(metadata, str(path))
    known: Metadata = metadata
    return known


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One shard as an Arrow table; a damaged one is an InputError that names it."""
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (OSError, pa.ArrowInvalid) as fault:
        raise InputError(
            f"{path.name} is damaged ({fault}); delete it and run `embed` again: only its photographs are redone."
        ) from fault


def iterate(folder: str | Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The dataset shard by shard, for what does not fit in memory."""
    for path in shards(Path(folder)):
        yield read_shard(path, columns)


def read_rows(folder: Path, metadata: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Shard by shard as the metadata say, without noise maps.

    Raises
    ------
    InputError
        If a column is missing or of another type, such as latents of another length.
    """
    expected = schema_of(metadata)
    columns = table_columns(metadata)
    for path in shards(folder):
        table = read_shard(path, columns)
        for name in columns:
            field = expected.field(name)
            if name not in table.column_names or table.schema.field(name).type != field.type:
                got = table.schema.field(name).type if name in table.column_names else "no such column"
                raise InputError(
                    f"{path.name} has {got} under {name!r}; expected {field.type}, as {METADATA_FILE} says. Delete "
                    "the file and run `embed` again: only its photographs are redone."
                )
        yield table


def read_latent(folder: Path, photo_id: str) -> NDArray[np.float32]:
    """The latent [num_ws, w_dim] of one photograph; the others are not read.

    Raises
    ------
    InputError
        If the photograph has none.
    """
    metadata = read_metadata(folder)
    for path in shards(folder):
        here = read_shard(path, ["photo_id", "status"])
        good = pa.compute.and_(
            pa.compute.equal(here["photo_id"], photo_id), pa.compute.equal(here["status"], "ok")
        )
        if pa.compute.any(good).as_py():
            row = read_shard(path, ["w_plus"]).filter(good)["w_plus"].combine_chunks()[:1].flatten()
            found: NDArray[np.float32] = row.to_numpy(zero_copy_only=False)
            return found.reshape(metadata["num_ws"], metadata["w_dim"])
    raise InputError(f"{photo_id!r} has no latent in {folder}.")


def read_noise(folder: str | Path, photo_ids: Sequence[str]) -> NDArray[np.float16]:
    """Optimised noise maps [n, total] of these photographs, side by side as `NoiseMaps.draw` takes them.

    Raises
    ------
    InputError
        If the run kept the generator's own maps, or a photograph has no latent.
    """
    total = read_metadata(folder).get("noise", 0)
    if not total:
        raise InputError(
            f"{folder} holds no noise maps: they were not optimised, the generator's own belong to it."
        )
    row = {name: i for i, name in enumerate(photo_ids)}
    maps, found = np.empty((len(photo_ids), total), np.float16), np.zeros(len(photo_ids), bool)
    for table in iterate(folder, ["photo_id", "status", "noise"]):
        table = table.filter(pa.compute.equal(table["status"], "ok"))
        numbers = table["noise"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, total)
        for name, values in zip(table["photo_id"].to_pylist(), numbers):
            if name in row:
                maps[row[name]], found[row[name]] = values, True
    if not found.all():
        raise InputError(f"{photo_ids[int(np.argmin(found))]!r} has no latent in {folder}.")
    return maps


def to_table(rows: Sequence[Row], columns: pa.Schema) -> pa.Table:
    """Rows as an Arrow table with these columns."""
    arrays = []
    for item in columns:
        values = [row.get(item.name) for row in rows]
        vectors = pa.types.is_fixed_size_list(item.type)
        arrays.append(
            _vectors(values, item.type) if vectors else pa.array(values, item.type, from_pandas=True)
        )
    return pa.Table.from_arrays(arrays, schema=columns)


def _vectors(values: Sequence[Any], kind: pa.FixedSizeListType) -> pa.Array:
    """Arrays of one length, or None, as a column."""
    dtype, size = kind.value_type.to_pandas_dtype(), kind.list_size
    missing = np.array([value is None for value in values])
    blank = np.zeros(size, dtype)
    flat = np.concatenate([blank if value is None else np.asarray(value, dtype).ravel() for value in values])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), size, mask=pa.array(missing))


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Tables of one schema as one Parquet file, a row group each."""
    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
