"""Adding rows to a latents dataset, so that no interruption can spoil it.

One process writes at a time (a lock that the operating system releases when the process dies, however it dies).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from stylegan_surv import __version__
from stylegan_surv._files import LEFTOVERS, whole
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion.dataset import (
    METADATA_FILE,
    Metadata,
    Row,
    read_metadata,
    read_shard,
    schema_of,
    shards,
    to_table,
    write_tables,
)
from stylegan_surv.inversion.origin import CUT, FORMAT, IDENTITY, Origin

LOCK_FILE = "_lock"
ROWS_PER_SHARD = 8192  # of a compacted dataset: 84 MB of 10 × 256 latents
REMEDY = "Latents of different origin cannot be mixed: choose another folder, or the same settings."


class LatentsWriter:
    """Adds rows to a dataset; one writer per folder, safe at any moment.

    Parameters
    ----------
    folder : str or Path
        The dataset; created if need be.
    metadata : mapping
        What :meth:`Origin.to_metadata` gives, and anything else worth keeping.

    Attributes
    ----------
    present : dict of str to str
        ``photo_id → source_sha256`` of what is stored already.
    patients : dict of str to str
        ``photo_id → patient_id`` of the same.
    failed : set of str
        ``photo_id`` of the stored rows that have no latent.

    Raises
    ------
    Refused
        If another process writes there, or the folder was begun with another generator or other settings.
    """

    def __init__(self, folder: str | Path, metadata: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.metadata: Metadata = {**metadata, "format": FORMAT}
        self.metadata.setdefault("version", __version__)
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
            for leftover in self.folder.glob(LEFTOVERS):
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
        self._check(stored, self.metadata, IDENTITY)
        self.metadata = stored

    def _check(self, stored: Metadata, wanted: Metadata, names: Sequence[str]) -> None:
        origins = [Origin.from_metadata(record, str(self.folder)) for record in (stored, wanted)]
        origins[0].check_same(origins[1], f"{self.folder} was begun with", REMEDY, names=names)

    def _save_metadata(self) -> None:
        text = json.dumps(self.metadata, indent=1, sort_keys=True)
        self._replace(METADATA_FILE, lambda path: path.write_text(text, encoding="utf-8"))

    def settle_cut(self, cut: Mapping[str, Any] | None) -> None:
        """Add how the faces are cut, once that is known; refused where the dataset's were cut otherwise."""
        wanted = {**self.metadata, CUT: None if cut is None else dict(cut)}
        if CUT in self.metadata:
            self._check(self.metadata, wanted, (CUT,))
        else:
            self.metadata = wanted
            self._save_metadata()

    def _index(self, path: Path) -> None:
        rows = read_shard(path, ["photo_id", "patient_id", "source_sha256", "status"]).to_pylist()
        keep = [row["photo_id"] not in self.present for row in rows]
        if not all(keep):  # spare copies that a killed `compact` has left
            self._rewrite(path, read_shard(path).filter(pa.array(keep)))
        self._note([row for row, first in zip(rows, keep) if first])

    def _rewrite(self, path: Path, table: pa.Table) -> None:
        if table.num_rows:
            self._replace(path.name, lambda partial: write_tables(partial, [table]))
        else:
            path.unlink()

    def _note(self, rows: Sequence[Row]) -> None:
        self.present.update((row["photo_id"], row.get("source_sha256")) for row in rows)
        self.patients.update((row["photo_id"], row["patient_id"]) for row in rows)
        self.failed.update(row["photo_id"] for row in rows if row["status"] != "ok")

    def _replace(self, name: str, write: Callable[[Path], object]) -> None:
        """Let ``write(path)`` fill a file of the folder, whole or not at all."""
        try:
            with whole(self.folder / name) as partial:
                write(partial)
            _sync_folder(self.folder)
        except (InputError, OSError) as wrong:
            fault = wrong.__cause__ or wrong
            raise InputError(
                f"Cannot write to {self.folder} ({getattr(fault, 'strerror', None) or fault}). {len(self.present)} "
                "photographs are saved; the same command goes on from there."
            ) from fault

    def write(self, rows: Sequence[Row]) -> None:
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
