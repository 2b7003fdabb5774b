"""A patient who withdraws: what is kept of the photographs is removed, and what has learnt from them is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from safetensors import SafetensorError, safe_open

from stylegan_surv._files import composed
from stylegan_surv._photos import MANIFEST
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import JOURNAL, Chips, read_chip, read_rows, write_manifest
from stylegan_surv.faces.duplicates import perceptual_hash
from stylegan_surv.gan.formats.checkpoint import read_card
from stylegan_surv.gan.formats.provenance import intersect
from stylegan_surv.inversion.dataset import METADATA_FILE, iterate, read_metadata
from stylegan_surv.inversion.faithful import picture_sha256
from stylegan_surv.inversion.sources import chip_tensor
from stylegan_surv.inversion.writer import LatentsWriter
from stylegan_surv.study.result import FACTS, OOF

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort

SIDES = (32, 64, 128, 256, 512, 1024)  # px; at which generators draw, and weights are tuned to one photograph


@dataclass
class Withdrawn:
    """What was removed of a patient, and what still rests on the photographs.

    Attributes
    ----------
    chips, latents : dict of str to list of str
        Folder → ``photo_id`` of what was removed there.
    tuned : list of str
        Files of weights that were tuned to one of the photographs, removed.
    studies, networks : list of str
        Studies whose results and networks whose weights rest on the patient: to be made again without.
    unread : dict of str to str
        Files that could not be looked into → the reason.
    """

    chips: dict[str, list[str]] = field(default_factory=dict)
    latents: dict[str, list[str]] = field(default_factory=dict)
    tuned: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether there was anything of the patient."""
        return any((self.chips, self.latents, self.tuned, self.studies, self.networks))


@dataclass
class _Traces:
    """By what a patient's photographs are known."""

    patient: str
    names: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    looks: dict[str, str] = field(default_factory=dict)  # photo_id → perceptual hash
    pictures: set[str] = field(default_factory=set)  # SHA-256 of what networks were shown


def forget(
    patient_id: str, folders: Sequence[str | Path], cohort: Cohort | None = None, *, dry_run: bool = False
) -> Withdrawn:
    """Remove what is kept of a patient's photographs, and name what rests on them.

    Chips, latents with their noise maps, and weights tuned to one photograph are removed. Photographs, clinical
    tables, reports and copies elsewhere are the user's own and stay.

    Parameters
    ----------
    patient_id : str
    folders : sequence of path
        Folders that are searched, with everything beneath.
    cohort : Cohort, optional
        Says which photographs are the patient's; without it the latents do.
    dry_run : bool, default False
        Look only.

    Returns
    -------
    Withdrawn

    Raises
    ------
    InputError
        If a folder does not exist, or a dataset cannot be written.
    """
    roots = [Path(folder) for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"There is no folder {root}.")
    traces, result = _Traces(composed(str(patient_id))), Withdrawn()
    if cohort is not None:
        own = cohort.table[cohort.table["patient_id"] == traces.patient]
        traces.names |= set(own["photo"].map(str)) | {Path(str(name)).name for name in own["photo"]}
    datasets = [path.parent for path in _files(roots, METADATA_FILE)]
    for folder in datasets:
        _latents(folder, traces, result, dry_run)
    for path in _files(roots, MANIFEST):
        _chips(path.parent, traces, result, dry_run)
    for path in _files(roots, "*.safetensors"):
        _network(path, traces, result, dry_run)
    for path in _files(roots, FACTS):
        _study(path.parent, traces, result)
    return result


def _files(roots: Iterable[Path], pattern: str) -> Iterator[Path]:
    """Files of this name in the folders, each once."""
    yield from sorted({path.resolve() for root in roots for path in root.rglob(pattern) if path.is_file()})


def _latents(folder: Path, traces: _Traces, result: Withdrawn, dry_run: bool) -> None:
    columns = ["photo_id", "patient_id", "source_path", "source_sha256"]
    gone: list[str] = []
    for table in iterate(folder, columns):
        for row in table.to_pylist():
            name = Path(row["source_path"] or "").name
            if row["patient_id"] == traces.patient or (name and name in traces.names):
                gone.append(row["photo_id"])
                traces.names |= {name} - {""}
                traces.hashes |= {row["source_sha256"]} - {None}
    if not gone:
        return
    result.latents[str(folder)] = gone
    if not dry_run:
        with LatentsWriter(folder, read_metadata(folder)) as writer:
            writer.discard(gone)


def _chips(folder: Path, traces: _Traces, result: Withdrawn, dry_run: bool) -> None:
    rows = read_rows(folder)
    gone = {name for name, row in rows.items() if _is_of(row, traces)}
    if not gone:
        return
    chips = Chips(folder, pd.DataFrame(list(rows.values())))
    for name in sorted(gone):
        if rows[name]["status"] == "ok" and chips.path(name).exists():
            pixels = read_chip(chips.path(name))
            traces.looks[name] = perceptual_hash(pixels)
            traces.pictures |= {
                picture_sha256(chip_tensor(Image.fromarray(pixels), side))
                for side in SIDES
                if side <= len(pixels)
            }
    result.chips[str(folder)] = sorted(gone)
    if dry_run:
        return
    write_manifest(folder, [row for name, row in rows.items() if name not in gone])
    (folder / JOURNAL).unlink(missing_ok=True)  # its rows are in the manifest now
    for name in gone:
        chips.path(name).unlink(missing_ok=True)


def _is_of(row: dict[str, Any], traces: _Traces) -> bool:
    names = {row["source_name"], Path(row["source_name"]).name}
    return (
        bool(names & traces.names)
        or row["source_sha256"] in traces.hashes
        or row["photo_id"] == traces.patient
    )


def _network(path: Path, traces: _Traces, result: Withdrawn, dry_run: bool) -> None:
    try:
        with safe_open(path, "np") as file:
            about = file.metadata() or {}
        if about.get("photograph_sha256", "") in traces.pictures:
            result.tuned.append(str(path))
            if not dry_run:
                path.unlink()
            return
        if "card" not in about:
            return
        card = read_card(path)
    except (OSError, ValueError, SafetensorError) as fault:
        result.unread[str(path)] = str(fault)
        return
    names = list(traces.looks) or [traces.patient]
    frame = pd.DataFrame({"patient_id": traces.patient, "photo_id": names})
    if intersect(frame, card, traces.looks).patients:
        result.networks.append(str(path))


def _study(folder: Path, traces: _Traces, result: Withdrawn) -> None:
    path = folder / OOF
    try:
        patients = pq.read_table(path, columns=["patient_id"])["patient_id"].to_numpy()
    except (OSError, ValueError, KeyError) as fault:
        if path.exists():
            result.unread[str(path)] = str(fault)
        return
    if np.any(patients == traces.patient):
        result.studies.append(str(folder))
