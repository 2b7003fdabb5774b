"""Checks of a latents dataset as a whole, and the removal of what is no longer of the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from stylegan_surv._types import Bools
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError
from stylegan_surv.inversion.dataset import read_metadata, read_shard, schema_of, shards
from stylegan_surv.inversion.sources import Photo, Photographs, open_source
from stylegan_surv.inversion.writer import LatentsWriter


def verify(folder: str | Path, photos: Photographs | None = None, cohort: Cohort | None = None) -> list[str]:
    """Everything that is wrong with a dataset, in words; empty if nothing is.

    Parameters
    ----------
    folder : path
        The latents dataset.
    photos : Chips or folder of chips, optional
        What was embedded, to find photographs that are missing or have changed.
    cohort : Cohort, optional
        Says which of them belong to the run.
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


def prune(folder: str | Path, photos: Photographs, cohort: Cohort | None = None) -> list[str]:
    """Remove the rows of photographs that are not (or no longer) of the run; returns their names.

    Parameters
    ----------
    folder : path
        The latents dataset.
    photos : Chips, folder of chips or Cohort
        What is to be kept.
    cohort : Cohort, optional
        Says which of them belong to the run.
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


def _state(vectors: pa.FixedSizeListArray) -> tuple[Bools, Bools]:
    """Which rows are null, and which hold nothing but finite numbers (or nothing)."""
    empty = np.asarray(vectors.is_null())
    finite = np.ones(len(empty), dtype=bool)
    numbers = vectors.drop_null().flatten().to_numpy(zero_copy_only=False)
    finite[~empty] = np.isfinite(numbers).reshape(-1, vectors.type.list_size).all(axis=1)
    return empty, finite


def _against(photos: Sequence[Photo], hashes: dict[str, str | None]) -> Iterator[str]:
    for photo in photos:
        if photo.photo_id not in hashes:
            yield f"{photo.photo_id} has not been embedded"
        elif photo.source_sha256 not in (None, hashes[photo.photo_id]):
            yield f"{photo.photo_id} has changed since it was embedded; run `embed` again"
    for name in sorted(hashes.keys() - {photo.photo_id for photo in photos}):
        yield f"{name} is stored and not among the photographs of the run; `latents prune` removes it"
