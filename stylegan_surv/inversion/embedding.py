"""A cohort's photographs into W+: reading, inverting, grading and storing, in batches of one fixed shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cuda_ops import tune_allocator
from stylegan_surv._types import Progress
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.cluster import Job, cluster_stream
from stylegan_surv.inversion.dataset import METADATA_FILE, read_metadata, shards
from stylegan_surv.inversion.inverter import Inverter, Start, networks
from stylegan_surv.inversion.latents import Latents
from stylegan_surv.inversion.memory import choose_batch
from stylegan_surv.inversion.origin import Network, Origin
from stylegan_surv.inversion.settings import GENERATOR, EmbedSettings, Method
from stylegan_surv.inversion.sources import (
    NOT_ALIGNED,
    Photo,
    Photographs,
    Pictures,
    Source,
    chip_side,
    count,
    open_source,
)
from stylegan_surv.inversion.writer import LatentsWriter

BATCHES_PER_CHUNK = 8  # photographs in memory at a time, and the rows of a shard
CHUNK_SECONDS = 20  # a chunk that would take longer is made smaller, of one batch at least
KEEP_SECONDS = (
    30  # rows wait no longer for their shard to fill: a kill loses less than a minute, or the batch in work
)
FEW = 64  # photographs of which each may take a minute
CHIPS = "_chips"  # where raw photographs are aligned to, inside the dataset
Rows = list[dict[str, Any]]
Advanced = Callable[[int, int], None]  # called with (photographs that ended, projector steps done or spared)


def embed(
    photos: Photographs,
    *,
    cohort: Cohort | None = None,
    generator: Generator | str | Path = GENERATOR,
    encoder: Encoder | str | Path | None = None,
    out: str | Path | None = None,
    method: Method | None = None,
    settings: EmbedSettings | None = None,
    cluster: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Latents:
    """Invert photographs into the generator's W+ space.

    Parameters
    ----------
    photos : Chips, folder of chips, folder of raw photographs, Cohort, Pictures, or array of shape (n, 3, h, w)
        Arrays are in [−1, 1]. Raw photographs are aligned first, into ``out/_chips``.
    cohort : Cohort, optional
        Gives every photograph its patient and says which photographs are wanted. Without it each photograph
        is its own patient.
    generator : Generator, path or zoo name
    encoder : Encoder, path or zoo name, optional
        By default the one that lies with the generator.
    out : path, optional
        Folder of the latents dataset. A run that was interrupted goes on there; photographs that have
        changed since are redone; another generator, other settings and chips of another cut are refused.
        Without it nothing is written, and optimised noise maps are not kept.
    method : {"hybrid", "encoder", "projector"}, optional
        Short for ``settings=EmbedSettings(method=…)``, and before it.
    settings : EmbedSettings, optional
        Everything else that decides what a latent is: schedule, preset, seed, batch, image distance, start.
    cluster : str, optional
        "local", "local:N", "slurm:N" or the address of a Dask scheduler; needs `out`, and networks given by name or
        file.
    device : str
        Of networks that are given by name or file.
    progress : callable, optional
        Called with (photographs done, total).

    Returns
    -------
    Latents
        In the order of the photographs. Those that could not be inverted are in ``.failed``, with the reason.

    Raises
    ------
    InputError
        If something is missing, unreadable or out of range; :class:`Refused` if the folder holds latents of another
        origin.

    Examples
    --------
    >>> embed(Pictures(faces, names), method="encoder")  # doctest: +SKIP
    """
    asked = settings or EmbedSettings()
    if method is not None:
        asked = replace(asked, method=method)
    run = prepare(Request(photos, cohort, generator, encoder, out, asked, cluster, device))
    if out is None:
        return run.in_memory(progress)
    names = run.to_disk(progress)
    return Latents.open(out).select(names)


@dataclass(frozen=True, eq=False)
class Request:
    """What `embed` is asked for; see there."""

    photos: Photographs
    cohort: Cohort | None = None
    generator: Generator | str | Path = GENERATOR
    encoder: Encoder | str | Path | None = None
    out: str | Path | None = None
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    cluster: str | None = None
    device: str = "cpu"


def prepare(request: Request) -> Run:
    """Load the networks and decide what is open; no photograph is looked at."""
    tune_allocator()
    asked, here = request.settings, request.device if request.cluster is None else "cpu"
    settings = asked.decide()
    net, partner = networks(request.generator, request.encoder, settings, here)
    settings = replace(settings, label=net.label)
    notes = [] if net.label_note is None else [net.label_note]
    if asked.batch is None:
        batch, note = _batch(request, net)
        settings = replace(settings, batch=batch)
        notes.append(note)
    own = None if asked.perceptual is None or isinstance(asked.perceptual, str) else asked.perceptual
    start = None if asked.start is None else _first(asked.start, net)
    inverter = Inverter(net, partner, settings, own, start)
    origin = inverter.origin()
    if asked.start is not None:  # what the networks behind the earlier latents had seen stays seen
        before = asked.start.metadata.get("provenance") or {"networks": None}
        seen = {**(origin.provenance or {}), "start": {"kind": "synthetic", "base": list(before.values())}}
        origin = replace(origin, provenance=seen)
    if request.cluster is not None and (request.out is None or own is not None or start is not None):
        raise InputError(
            "On a cluster `out` is needed, and neither `start` nor a `perceptual` of your own can be sent."
        )
    return Run(request, inverter, origin, tuple(notes))


def _batch(request: Request, net: Generator) -> tuple[int, str]:
    """A dataset goes on with its own batch; a new one gets what suits generator, photographs and memory; and why."""
    if (
        request.out is not None
        and (Path(request.out) / METADATA_FILE).is_file()
        and shards(Path(request.out))
    ):
        stored = Origin.from_metadata(read_metadata(request.out), str(request.out)).settings
        if stored is not None:
            return (
                stored.batch,
                f"the folder was begun with {stored.batch} photographs at a time, and goes on so",
            )
    photographs = count(request.photos, request.cohort)
    batch = choose_batch(net.config, photographs, net.mapping.w_avg.device)
    side = net.config.resolution
    return (
        batch,
        f"computing {batch} at a time, for {photographs} photographs at {side} px and the free memory",
    )


def _first(latents: Latents, net: Generator) -> Start:
    """Latents to start from, by name; those of another generator are refused."""
    shape = (net.config.num_ws, net.config.w_dim)
    mine = replace(latents.origin, num_ws=shape[0], w_dim=shape[1], generator=Network.of(net))
    latents.origin.check_same(
        mine,
        "The latents to start from are of another generator:",
        "Start from latents of the generator that is given.",
        lenient=True,
        names=("generator_sha256", "num_ws", "w_dim"),
    )
    return dict(zip(latents.ids, latents.w_plus))


@dataclass(frozen=True, eq=False)
class Run:
    """A run whose every setting is decided.

    Attributes
    ----------
    request : Request
    inverter : Inverter
    origin : Origin
        What the dataset will say of itself, but for the cut of the chips.
    notes : tuple of str
        What was decided where nothing was asked for: the label of a conditional generator, the batch.
    """

    request: Request
    inverter: Inverter
    origin: Origin
    notes: tuple[str, ...] = ()

    @property
    def few(self) -> bool:
        """Whether there are so few photographs that only the steps of the projector show progress."""
        here = self.request.cluster is None and self.inverter.settings.schedule is not None
        return here and count(self.request.photos, self.request.cohort) <= FEW

    def in_memory(self, progress: Progress | None = None) -> Latents:
        """Invert all photographs; nothing is written."""
        source = self._source()
        rows: Rows = []
        for part in inverter_stream(self.inverter, source, source.photos):
            rows += part
            _tell(progress, len(rows), len(source.photos))
        return Latents.from_rows(rows, self.origin.with_cut(source.cut).to_metadata())

    def to_disk(self, progress: Progress | None = None, steps: Progress | None = None) -> list[str]:
        """Invert what the dataset does not hold yet; memory does not grow with the cohort.

        Parameters
        ----------
        progress : callable, optional
            Called with (photographs done, total).
        steps : callable, optional
            Called with (projector steps done, at most so many in all), after every step of this process.

        Returns
        -------
        list of str
            ``photo_id`` of the photographs, in their order.
        """
        assert self.request.out is not None
        with LatentsWriter(
            self.request.out, self.origin.to_metadata()
        ) as writer:  # before photographs are aligned
            source = self._source()
            writer.settle_cut(source.cut)
            self._store(source, writer, progress, steps)
        return [photo.photo_id for photo in source.photos]

    def _source(self) -> Source:
        request, side = self.request, chip_side(self.inverter.resolution)
        aligned_to = None if request.out is None else Path(request.out) / CHIPS
        return open_source(request.photos, request.cohort, aligned_to=aligned_to, size=side)

    def _store(
        self, source: Source, writer: LatentsWriter, progress: Progress | None, steps: Progress | None
    ) -> None:
        photos = source.photos
        writer.discard(photo.photo_id for photo in photos if _stale(photo, writer))
        if self._named():
            writer.assign({photo.photo_id: photo.patient_id for photo in photos})
        pending = {photo.photo_id for photo in photos} - writer.present.keys()
        done = len(photos) - len(pending)
        _tell(progress, done, len(photos))
        due = self._due(photos, pending) if pending else []
        size = self.inverter.settings.batch * BATCHES_PER_CHUNK
        with _Shelf(writer, size) as shelf:
            for rows in self._work(source, due, steps):
                fresh = [row for row in rows if row["photo_id"] in pending]
                shelf.add(fresh)
                done += len(fresh)
                _tell(progress, done, len(photos))

    def _named(self) -> bool:
        """Whether somebody says whose photographs they are."""
        photos = self.request.photos
        told = isinstance(photos, Pictures) and photos.patient_ids is not None
        return told or isinstance(photos, Cohort) or self.request.cohort is not None

    def _due(self, photos: Sequence[Photo], pending: set[str]) -> list[Photo]:
        """Photographs to compute: what is pending; where the place in the batch counts, with all of its batch."""
        if self.inverter.exchangeable:
            return [photo for photo in photos if photo.photo_id in pending]
        size = self.inverter.settings.batch
        batches = (photos[first : first + size] for first in range(0, len(photos), size))
        return [photo for batch in batches if any(p.photo_id in pending for p in batch) for photo in batch]

    def _work(self, source: Source, due: Sequence[Photo], steps: Progress | None) -> Iterator[Rows]:
        request, settings = self.request, self.inverter.settings
        if request.cluster is not None:
            partner = self.origin.encoder
            hashes = (self.origin.generator.sha256, None if partner is None else partner.sha256)
            job = Job.of(request.generator, request.encoder, settings, request.device, hashes)
            return cluster_stream(request.cluster, job, source, due)
        advanced = None
        if steps is not None and settings.schedule is not None:
            advanced = _Steps(steps, len(due) * settings.schedule.steps)
        return inverter_stream(self.inverter, source, due, advanced)


class _Steps:
    """Adds up projector steps for a progress bar."""

    def __init__(self, report: Progress, total: int) -> None:
        self.report, self.total, self.done = report, total, 0
        report(0, total)

    def __call__(self, _ended: int, steps: int) -> None:
        self.done += steps
        self.report(self.done, self.total)


class _Shelf:
    """Rows on their way to the disk: a shard is written when it is full, or its rows have waited long enough.

    What is finished is also written when the work ends in an error or is interrupted.
    """

    def __init__(self, writer: LatentsWriter, size: int) -> None:
        self.writer, self.size = writer, size
        self.rows: Rows = []
        self.written = time.monotonic()

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, rows: Rows) -> None:
        self.rows += rows
        if len(self.rows) >= self.size or time.monotonic() - self.written >= KEEP_SECONDS:
            self._write()

    def _write(self) -> None:
        rows, self.rows = self.rows, []  # a write that failed is not tried again
        self.writer.write(rows)
        self.written = time.monotonic()


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _stale(photo: Photo, writer: LatentsWriter) -> bool:
    """Whether a stored row is no longer this photograph's."""
    if photo.error == NOT_ALIGNED:  # it is not here: nobody knows whether it has changed
        return False
    has_a_chip_by_now = photo.photo_id in writer.failed and photo.error is None
    return has_a_chip_by_now or photo.source_sha256 != writer.present.get(photo.photo_id)


def inverter_stream(
    inverter: Inverter, source: Source, photos: Sequence[Photo], advanced: Advanced | None = None
) -> Iterator[Rows]:
    """Rows chunk by chunk, in this process; the next chunk is read while one is computed.

    A chunk is as many whole batches as take :data:`CHUNK_SECONDS`, so that every photograph has the slot that it would
    have in any other division.
    """
    batch, batches, first = inverter.settings.batch, 1, 0
    with ThreadPoolExecutor(1) as reader:

        def ahead() -> Sequence[Photo]:
            nonlocal first
            chunk = photos[first : first + batch * batches]
            first += len(chunk)
            return chunk

        following = reader.submit(inverter.load, source, chunk) if (chunk := ahead()) else None
        while following is not None:
            loaded = following.result()
            following = reader.submit(inverter.load, source, chunk) if (chunk := ahead()) else None
            begun = time.monotonic()
            yield inverter.rows(loaded, advanced)
            seconds = (time.monotonic() - begun) / -(-len(loaded.photos) // batch)
            batches = max(1, min(BATCHES_PER_CHUNK, int(CHUNK_SECONDS / max(seconds, 1e-3))))
