"""Latents of photographs in memory: W+ with the identity and the quality of every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import ArrayLike, NDArray

from stylegan_surv._notebook import facts_table
from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion.dataset import (
    NUMBERS,
    TEXT,
    Metadata,
    Row,
    read_metadata,
    read_rows,
    schema,
    to_table,
)
from stylegan_surv.inversion.origin import Origin
from stylegan_surv.inversion.writer import ROWS_PER_SHARD, LatentsWriter


@dataclass(frozen=True, eq=False)
class Latents:
    """W+ latents of photographs, with the identity and the quality of every row.

    Attributes
    ----------
    frame : DataFrame
        One row per photograph, failed ones included, without the latents themselves: ``photo_id, patient_id,
        source_path, source_sha256, status`` ("ok" or "failed"), ``error, lpips, mse, identity, distance, steps,
        seed``. Further columns are allowed.
    w_plus : array of float32, shape (n, num_ws, w_dim)
        Latents of the rows whose status is "ok", in the order of `frame`.
    metadata : dict
        Generator and encoder SHA-256, num_ws, w_dim, method, settings, version; see `origin`.
    folder : Path, optional
        The dataset that they were read from.
    """

    frame: pd.DataFrame
    w_plus: NDArray[np.float32]
    metadata: Metadata = field(default_factory=dict)
    folder: Path | None = None

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

    def _repr_html_(self) -> str:
        good = self.rows
        facts: dict[str, object] = {"photographs": len(self), "failed": len(self.failed)}
        facts["shape of W+"] = self.w_plus.shape[1:]
        known = {name: self.metadata.get(name, "unknown") for name in ("generator", "method")}
        graded = {
            f"median {name}": f"{good[name].median():.3f}"
            for name in ("lpips", "identity")
            if name in good and good[name].notna().any()
        }
        return facts_table("Latents", facts | known | graded)

    @property
    def origin(self) -> Origin:
        """Which networks and settings they come from, as far as the metadata tell."""
        num_ws, w_dim = self.w_plus.shape[1:]
        return Origin.from_metadata({"num_ws": num_ws, "w_dim": w_dim, **self.metadata})

    @property
    def codes(self) -> NDArray[np.float32]:
        """What a survival model reads: `w_plus` without the layers that repeat w, shape (n, survival_ws, w_dim)."""
        return self.w_plus[:, : self.metadata.get("survival_ws") or self.w_plus.shape[1]]

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
        return Latents(frame, self.w_plus if same else self.w_plus[chosen], dict(self.metadata), self.folder)

    @classmethod
    def from_arrays(
        cls,
        w_plus: ArrayLike,
        photo_ids: Sequence[str] | None = None,
        patient_ids: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **columns: Floats | pd.Index[Any] | pd.Series[Any] | Sequence[Any],
    ) -> Latents:
        """Latents that are already in memory.

        Parameters
        ----------
        w_plus : array, shape (n, num_ws, w_dim)
        photo_ids : sequence of str, length n, optional
            "0", "1", … by default.
        patient_ids : sequence of str, length n, optional
            Each photograph is its own patient by default.
        metadata : mapping, optional
            What is known of their origin.
        **columns : sequence, length n
            Further columns of `frame`.

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
    def from_rows(cls, rows: Sequence[Row], metadata: Mapping[str, Any]) -> Latents:
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
        frame, w_plus = _from_tables(read_rows(folder, metadata), metadata)
        good = (frame["status"] == "ok").to_numpy()
        row = np.cumsum(good) - 1  # row of w_plus for every good row of the frame
        # a photograph can stand in two shards only after a kill between the two steps of `compact`
        frame = frame.drop_duplicates("photo_id").sort_values("photo_id", kind="stable")
        order = frame.index.to_numpy()
        chosen = row[order][good[order]]
        if not np.array_equal(chosen, np.arange(len(w_plus))):  # else no copy: there may be gigabytes
            w_plus = w_plus[chosen]
        return cls(frame.reset_index(drop=True), w_plus, metadata, folder)

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
        ok = table.filter(pa.compute.equal(table["status"], "ok"))
        if ok["w_plus"].null_count:
            name = ok.filter(pa.compute.is_null(ok["w_plus"]))["photo_id"][0].as_py()
            raise InputError(
                f"{name!r} is marked 'ok' and has no latent; run `latents verify`, and embed it again."
            )
        vectors = ok["w_plus"].combine_chunks().flatten()
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
