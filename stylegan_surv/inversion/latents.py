"""The latents dataset: one row per photograph, as a folder of Parquet shards that no interruption can spoil.

A shard appears by renaming, so it is either whole or absent. One process writes at a time (a lock that the
operating system releases when the process dies, however it dies). Everything in the folder that is not a shard
starts with ``_`` or ``.``, which pandas, R arrow and DuckDB pass over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from stylegan_surv import __version__
from stylegan_surv.errors import InputError, Refused

METADATA_FILE = "_latents.json"
LOCK_FILE = "_lock"
FORMAT = 1
# settings that make two runs the same run; anything else in the metadata may differ between sessions
IDENTITY = ("generator_sha256", "encoder_sha256", "start_sha256", "num_ws", "w_dim", "method", "settings")
ROWS_PER_SHARD = 8192  # of a compacted dataset: 84 MB of 10 × 256 latents
TEXT = ("photo_id", "patient_id", "source_path", "source_sha256", "status", "error")
NUMBERS = ("lpips", "mse", "identity", "distance", "steps", "seed")


def schema(num_ws: int, w_dim: int, noise: int = 0) -> pa.Schema:
    """Columns of a shard; ``w_plus`` is the [num_ws, w_dim] array by rows, null where the photograph failed.

    ``noise`` numbers of optimised noise maps, if there are any, are kept in half precision.
    """
    integers = ("steps", "seed")
    return pa.schema(
        [(name, pa.string()) for name in TEXT]
        + [("w_plus", pa.list_(pa.float32(), num_ws * w_dim))]
        + [(name, pa.int64() if name in integers else pa.float32()) for name in NUMBERS]
        + ([("noise", pa.list_(pa.float16(), noise))] if noise else [])
    )


def schema_of(metadata: Mapping[str, Any]) -> pa.Schema:
    """Columns of a dataset with this metadata, which names the further ones with their types."""
    columns = schema(metadata["num_ws"], metadata["w_dim"], metadata.get("noise", 0))
    for name, kind in metadata.get("columns", {}).items():
        columns = columns.append(pa.field(name, pa.type_for_alias(kind)))
    return columns


def table_columns(metadata: Mapping[str, Any]) -> list[str]:
    """Names of a dataset's columns without the noise maps, which stay on disk."""
    return [name for name in schema_of(metadata).names if name != "noise"]


@dataclass(frozen=True, eq=False)
class Latents:
    """W+ latents of photographs, with the identity and the quality of every row.

    Attributes
    ----------
    frame : DataFrame
        One row per photograph, failed ones included, without the latents themselves: ``photo_id, patient_id,
        source_path, source_sha256, status`` ("ok" or "failed"), ``error, lpips, mse, identity, distance, steps,
        seed``. Further columns are allowed.
    w_plus : float32 array [n, num_ws, w_dim]
        Latents of the rows whose status is "ok", in the order of `frame`.
    metadata : dict
        Generator and encoder SHA-256, num_ws, w_dim, method, settings, version.
    """

    frame: pd.DataFrame
    w_plus: NDArray[np.float32]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good = int((self.frame["status"] == "ok").sum())
        if self.w_plus.ndim != 3 or len(self.w_plus) != good:
            raise InputError(
                f"w_plus has shape {list(self.w_plus.shape)}; expected [{good}, num_ws, w_dim], one row for each "
                "photograph whose status is 'ok'."
            )
        ids = self.frame["photo_id"]
        if ids.duplicated().any():
            raise InputError(
                f"photo_id {ids[ids.duplicated()].iloc[0]!r} occurs twice; expected unique names."
            )

    def __len__(self) -> int:
        """Number of photographs that have a latent."""
        return len(self.w_plus)

    @property
    def rows(self) -> pd.DataFrame:
        """Rows of `frame` that have a latent, index 0 … n−1."""
        return self.frame[self.frame["status"] == "ok"].reset_index(drop=True)

    @property
    def failed(self) -> pd.DataFrame:
        """Photographs without a latent, with the reason in ``error``."""
        return self.frame[self.frame["status"] != "ok"].reset_index(drop=True)

    @property
    def ids(self) -> NDArray[np.object_]:
        """``photo_id`` of every row of `w_plus`."""
        return np.asarray(self.rows["photo_id"], dtype=object)

    @property
    def patient_ids(self) -> NDArray[np.object_]:
        """``patient_id`` of every row of `w_plus`."""
        return np.asarray(self.rows["patient_id"], dtype=object)

    def to_frame(self) -> pd.DataFrame:
        """Successful rows with their latents: the columns of `frame` and ``w_plus`` (arrays [num_ws·w_dim])."""
        frame = self.rows
        frame["w_plus"] = pd.Series(list(self.w_plus.reshape(len(self), -1)), index=frame.index, dtype=object)
        return frame

    def select(self, photo_ids: Iterable[str]) -> Latents:
        """These photographs only, in the order asked for; an unknown name is an InputError."""
        wanted = list(photo_ids)
        place = {name: i for i, name in enumerate(self.frame["photo_id"])}
        if unknown := [name for name in wanted if name not in place]:
            raise InputError(
                f"{len(unknown)} photographs are not in these latents, the first is {unknown[0]!r}."
            )
        frame = self.frame.iloc[[place[name] for name in wanted]].reset_index(drop=True)
        row = {name: i for i, name in enumerate(self.ids)}
        chosen = [row[name] for name in frame["photo_id"] if name in row]
        same = chosen == list(range(len(self)))
        return Latents(frame, self.w_plus if same else self.w_plus[chosen], dict(self.metadata))

    @classmethod
    def from_arrays(
        cls,
        w_plus: ArrayLike,
        photo_ids: Sequence[str] | None = None,
        patient_ids: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> Latents:
        """Latents that are already in memory.

        Parameters
        ----------
        w_plus : array [n, num_ws, w_dim]
        photo_ids : n names; "0", "1", … by default.
        patient_ids : n names; each photograph its own patient by default.
        metadata : what is known of their origin.
        **columns : further columns of `frame`, n values each.

        Examples
        --------
        >>> Latents.from_arrays(np.zeros((2, 10, 256)), ["a", "b"]).w_plus.shape
        (2, 10, 256)
        """
        array = np.asarray(w_plus, dtype=np.float32)
        if array.ndim != 3:
            raise InputError(f"w_plus has shape {list(array.shape)}; expected [n, num_ws, w_dim].")
        ids = [str(i) for i in range(len(array))] if photo_ids is None else [str(name) for name in photo_ids]
        patients = ids if patient_ids is None else [str(name) for name in patient_ids]
        if len(ids) != len(array) or len(patients) != len(array):
            raise InputError(
                f"{len(array)} latents, {len(ids)} photo_ids and {len(patients)} patient_ids; expected as many."
            )
        rows = [
            {"photo_id": photo, "patient_id": patient, "status": "ok"}
            for photo, patient in zip(ids, patients)
        ]
        frame = _complete(pd.DataFrame(rows, columns=["photo_id", "patient_id", "status"])).assign(**columns)
        known = {"num_ws": array.shape[1], "w_dim": array.shape[2], **(metadata or {})}
        return cls(frame, array, known)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> Latents:
        """Latents of rows as `LatentsWriter.write` takes them, in their order."""
        known = dict(metadata)
        tables = [to_table(rows, schema(known["num_ws"], known["w_dim"]))] if rows else []
        return cls(*_from_tables(tables, known), known)

    @classmethod
    def open(cls, folder: str | Path) -> Latents:
        """Read a dataset, sorted by ``photo_id``.

        Raises
        ------
        InputError
            If the folder is not a latents dataset, or a shard is damaged (named in the message).
        """
        folder = Path(folder)
        metadata = read_metadata(folder)
        columns = table_columns(metadata)
        frame, w_plus = _from_tables((read_shard(path, columns) for path in shards(folder)), metadata)
        good = (frame["status"] == "ok").to_numpy()
        row = np.cumsum(good) - 1  # row of w_plus for every good row of the frame
        # a photograph can stand in two shards only after a kill between the two steps of `compact`
        frame = frame.drop_duplicates("photo_id").sort_values("photo_id", kind="stable")
        order = frame.index.to_numpy()
        chosen = row[order][good[order]]
        if not np.array_equal(chosen, np.arange(len(w_plus))):  # else no copy: there may be gigabytes
            w_plus = w_plus[chosen]
        return cls(frame.reset_index(drop=True), w_plus, metadata)

    def save(self, folder: str | Path) -> None:
        """Write as a new dataset, with the frame's further columns; a folder that holds other latents is refused."""
        known = {name: value for name, value in self.metadata.items() if name != "noise"}  # maps stay on disk
        known |= {"columns": further} if (further := _further(self.frame)) else {}
        with LatentsWriter(folder, known) as writer:
            if writer.present:
                raise Refused(f"{folder} holds latents already; choose another folder or delete it.")
            array = iter(self.w_plus.reshape(len(self), -1))
            rows = [
                {**row, "w_plus": next(array) if row["status"] == "ok" else None}
                for row in _records(self.frame)
            ]
            for start in range(0, len(rows), ROWS_PER_SHARD):
                writer.write(rows[start : start + ROWS_PER_SHARD])


def _from_tables(
    tables: Iterable[pa.Table], metadata: Mapping[str, Any]
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Rows without latents, and the latents [n, num_ws, w_dim] of the good ones."""
    shape = (-1, metadata["num_ws"], metadata["w_dim"])
    frames, arrays = [], []
    for table in tables:
        good = pa.compute.equal(table["status"], "ok")
        vectors = table.filter(good)["w_plus"].combine_chunks().flatten()
        arrays.append(vectors.to_numpy(zero_copy_only=False).reshape(shape))
        frames.append(table.drop_columns(["w_plus"]).to_pandas())
    if not frames:
        return _complete(pd.DataFrame(columns=list(TEXT))), np.empty((0, *shape[1:]), np.float32)
    return pd.concat(frames, ignore_index=True), np.concatenate(arrays)


def _further(frame: pd.DataFrame) -> dict[str, str]:
    """The columns beyond the contract's, with the names of their Arrow types."""
    found = {}
    for name in frame.columns.difference([*TEXT, *NUMBERS], sort=False):
        try:
            kind = str(pa.Array.from_pandas(frame[name]).type)
            pa.type_for_alias(kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as fault:
            raise InputError(
                f"The frame's column {name!r} cannot be stored ({fault}); expected numbers, text, booleans or dates. "
                "Convert or drop it."
            ) from fault
        found[str(name)] = kind
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    clean = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in clean.to_dict("records")]


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the contract's columns that are missing, empty."""
    for name in (*TEXT, *NUMBERS):
        if name not in frame:
            frame[name] = None if name in TEXT else np.nan
    return frame


# ------------------------------------------------------------------------------------------------ the folder


def shards(folder: Path) -> list[Path]:
    """The dataset's shards, in the order in which they were written."""
    return sorted(folder.glob("part-*.parquet"))


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """The dataset's metadata."""
    path = Path(folder) / METADATA_FILE
    if not path.is_file():
        raise InputError(f"{folder} is not a latents folder (it has no {METADATA_FILE}); `embed` writes one.")
    metadata: dict[str, Any] = json.loads(path.read_text())
    if metadata.get("format", FORMAT) > FORMAT:
        raise InputError(
            f"{folder} was written by a newer version ({metadata.get('version')}); please upgrade."
        )
    return metadata


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One shard as an Arrow table; a damaged one is an InputError that names it."""
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (OSError, pa.ArrowInvalid) as fault:
        raise InputError(
            f"{path.name} is damaged ({fault}); delete it and run `embed` again: only its photographs are redone."
        ) from fault


class LatentsWriter:
    """Adds rows to a dataset; one writer per folder, safe at any moment.

    Parameters
    ----------
    folder : the dataset; created if need be.
    metadata : what :data:`IDENTITY` names and anything else worth keeping.

    Attributes
    ----------
    present : dict
        ``photo_id → source_sha256`` of what is stored already.
    patients : dict
        ``photo_id → patient_id`` of the same.
    failed : set
        ``photo_id`` of the stored rows that have no latent.

    Raises
    ------
    Refused
        If another process writes there, or the folder was begun with another generator or other settings.
    """

    def __init__(self, folder: str | Path, metadata: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.metadata = {"format": FORMAT, "version": __version__, **metadata}
        self.present: dict[str, str | None] = {}
        self.patients: dict[str, str] = {}
        self.failed: set[str] = set()
        self._lock: int | None = None

    def __enter__(self) -> LatentsWriter:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; expected a folder for the latents.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _acquire(self.folder)
        except OSError as fault:
            raise InputError(
                f"Cannot lock {self.folder} for writing ({fault.strerror or fault}); choose a folder that you may "
                "write to, on a file system that has file locks (flock)."
            ) from fault
        try:
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            self._settle_metadata()
            for path in shards(self.folder):
                self._index(path)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)  # releases it
            self._lock = None

    def _settle_metadata(self) -> None:
        begun = (self.folder / METADATA_FILE).exists()
        if not begun or not shards(self.folder):  # a run that stored nothing binds nobody
            if not begun and any(self.folder.glob("*.parquet")):
                raise Refused(
                    f"{self.folder} holds Parquet files that are not latents; choose another folder."
                )
            self._save_metadata()
            return
        stored = read_metadata(self.folder)
        plain = json.loads(json.dumps(self.metadata))
        for name in IDENTITY:
            self._compare(name, stored.get(name), plain.get(name))
        self.metadata = stored

    def _compare(self, name: str, stored: Any, wanted: Any) -> None:
        if stored != wanted:
            raise Refused(
                f"{self.folder} was begun with {_difference(name, stored, wanted)}. "
                "Latents of different origin cannot be mixed: choose another folder, or the same settings."
            )

    def _save_metadata(self) -> None:
        text = json.dumps(self.metadata, indent=1, sort_keys=True)
        self._replace(METADATA_FILE, lambda path: path.write_text(text))

    def settle(self, name: str, value: Any) -> None:
        """Add what was not known of the run when it began; refused where the dataset says otherwise."""
        if name in self.metadata:
            self._compare(name, self.metadata[name], value)
        else:
            self.metadata = {**self.metadata, name: value}
            self._save_metadata()

    def _index(self, path: Path) -> None:
        rows = read_shard(path, ["photo_id", "patient_id", "source_sha256", "status"]).to_pylist()
        keep = [row["photo_id"] not in self.present for row in rows]
        if not all(keep):  # spare copies that a killed `compact` has left
            self._rewrite(path, read_shard(path).filter(pa.array(keep)))
        self._note([row for row, first in zip(rows, keep) if first])

    def _rewrite(self, path: Path, table: pa.Table) -> None:
        if table.num_rows:
            self._replace(path.name, lambda temporary: write_tables(temporary, [table]))
        else:
            path.unlink()

    def _note(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.present.update((row["photo_id"], row.get("source_sha256")) for row in rows)
        self.patients.update((row["photo_id"], row["patient_id"]) for row in rows)
        self.failed.update(row["photo_id"] for row in rows if row["status"] != "ok")

    def _replace(self, name: str, write: Any) -> None:
        """Let ``write(path)`` fill a temporary file, then rename it to ``name``; leaves nothing on failure."""
        temporary = self.folder / f".{name}.tmp"
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
            _sync_folder(self.folder)
        except OSError as fault:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"Cannot write to {self.folder} ({fault.strerror or fault}). {len(self.present)} photographs are "
                "saved; the same command goes on from there."
            ) from fault

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows (the contract's columns; ``w_plus`` flat or None) as one shard, all of them or none."""
        if not rows:
            return
        again = [row["photo_id"] for row in rows if row["photo_id"] in self.present]
        if again:
            raise ValueError(f"{again[0]!r} is in the dataset already")
        self._add_shard([to_table(rows, schema_of(self.metadata))])
        self._note(rows)

    def _add_shard(self, tables: Iterable[pa.Table]) -> None:
        existing = shards(self.folder)
        number = 1 + max((int(path.stem.split("-")[-1]) for path in existing), default=-1)
        self._replace(f"part-{number:06d}.parquet", lambda path: write_tables(path, tables))

    def discard(self, photo_ids: Iterable[str]) -> None:
        """Forget these rows (they are to be made anew); shards are rewritten without them."""
        gone = set(photo_ids) & self.present.keys()
        for path in shards(self.folder) if gone else []:
            table = read_shard(path)
            keep = [name not in gone for name in table["photo_id"].to_pylist()]
            if not all(keep):
                self._rewrite(path, table.filter(pa.array(keep)))
        for name in gone:
            del self.present[name], self.patients[name]
        self.failed -= gone

    def assign(self, patients: Mapping[str, str]) -> None:
        """Say anew whose photographs these are, ``photo_id → patient_id``; latents stay as they are."""
        changed = {
            name: patient
            for name, patient in patients.items()
            if name in self.patients and self.patients[name] != patient
        }
        for path in shards(self.folder) if changed else []:
            table = read_shard(path)
            names, owners = table["photo_id"].to_pylist(), table["patient_id"].to_pylist()
            if changed.keys().isdisjoint(names):
                continue
            owners = [changed.get(name, owner) for name, owner in zip(names, owners)]
            place = table.schema.get_field_index("patient_id")
            self._rewrite(path, table.set_column(place, "patient_id", pa.array(owners, pa.string())))
        self.patients.update(changed)

    def compact(self, rows_per_shard: int = ROWS_PER_SHARD) -> int:
        """Merge shards into few files; returns how many remain.

        The merged file appears before its parts go. A kill in between leaves rows in two files, with equal
        content: `Latents.open` reads each once, and the next writer's `compact` removes the spare copy.
        """
        queue: list[Path] = []
        seen: set[str] = set()
        waiting = 0
        for path in [*shards(self.folder), None]:
            count = 0
            if path is not None:
                table = read_shard(path, ["photo_id"])
                count = table.num_rows
            if queue and (path is None or waiting + count > rows_per_shard):
                self._merge(queue, seen)
                queue, waiting = [], 0
            if path is not None:
                queue.append(path)
                waiting += count
        return len(shards(self.folder))

    def _merge(self, paths: list[Path], seen: set[str]) -> None:
        fresh: list[list[bool]] = []
        for path in paths:
            names = read_shard(path, ["photo_id"])["photo_id"].to_pylist()
            fresh.append([name not in seen for name in names])
            seen.update(names)
        if len(paths) == 1 and all(fresh[0]):
            return
        if any(map(any, fresh)):  # one part in memory at a time: noise maps are large
            self._add_shard(read_shard(path).filter(pa.array(keep)) for path, keep in zip(paths, fresh))
        for path in paths:
            path.unlink()


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


def to_table(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
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


def _difference(name: str, stored: Any, wanted: Any) -> str:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        keys = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
        return ", ".join(f"{key} = {stored.get(key)}, not {wanted.get(key)}" for key in keys)
    return f"{name} = {stored}, not {wanted}"


def _acquire(folder: Path) -> int:
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as busy:
        owner = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise Refused(
            f"Process {owner} is writing to {folder}; wait for it, or choose another folder."
        ) from busy
    except OSError:  # a file system without locks
        os.close(handle)
        raise
    with suppress(OSError):  # the number is a courtesy; on a full disk there is none
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def iterate(folder: str | Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The dataset shard by shard, for what does not fit in memory."""
    for path in shards(Path(folder)):
        yield read_shard(path, columns)


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
