"""A cohort's photographs into W+: reading, inverting, grading and storing, in batches of one fixed shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from cuda_ops import tune_allocator
from stylegan_surv import __version__
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.inverter import Inverter, Method, Settings, Start, fingerprint, networks, plan
from stylegan_surv.inversion.latents import Latents, LatentsWriter
from stylegan_surv.inversion.projector import Perceptual, Schedule
from stylegan_surv.inversion.sources import NOT_ALIGNED, Photo, Source, open_source

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort

BATCHES_PER_CHUNK = 8  # photographs in memory at a time, and the rows of a shard
Progress = Callable[[int, int], None]
Rows = list[dict[str, Any]]
Work = Callable[[Source, Sequence[Photo]], Iterator[Rows]]
CHIPS = "_chips"  # where raw photographs are aligned to, inside the dataset


def embed(
    photos: Any,
    *,
    cohort: Cohort | None = None,
    generator: Generator | str | Path = "synthetic-64",
    encoder: Encoder | str | Path | None = None,
    out: str | Path | None = None,
    method: Method | None = None,
    preset: str | None = None,
    schedule: Schedule | Mapping[str, Any] | None = None,
    batch: int = 16,
    seed: int = 0,
    passes: int = 0,
    identity: bool = False,
    perceptual: str | Perceptual | None = None,
    start: Latents | None = None,
    photo_ids: Sequence[str] | None = None,
    patient_ids: Sequence[str] | None = None,
    cluster: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Latents:
    """Invert photographs into the generator's W+ space.

    Parameters
    ----------
    photos : Chips, folder of chips, folder of raw photographs, Cohort, or array [n, 3, h, w] in [−1, 1]
        Raw photographs are aligned first, into ``out/_chips``.
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
    method : {"hybrid", "encoder", "projector"}
        Encoder and as many projector steps as each photograph needs (default); encoder alone; projector from the mean.
    preset : {"reference", "reference-w+"}, optional
        The published protocol, for comparison: 1,000 steps from the mean, in W or W+.
    schedule : Schedule or mapping, optional
        Replaces the method's own, or some of its values: ``{"penalty": 1.0}``.
    batch : int
        The one batch shape of the run. Results are the same to the last bit whatever else is in the batch.
    seed : int
        Keys every photograph's random numbers, together with its name.
    passes : int
        Encoder refinement passes, see :func:`stylegan_surv.inversion.encode.encode`.
    identity : bool
        Grade the identity similarity too (slower).
    perceptual : {"alex", "vgg"} or callable
        The projector's image distance: LPIPS on AlexNet or VGG16 (`stylegan-surv fetch-weights lpips-vgg`), or your
        own function of two batches of images. By default AlexNet; VGG16, as published, with a preset.
    start : Latents, optional
        Where ``Schedule(start="previous")`` begins, latents of the same generator; photographs that are not in it
        begin at the mean.
    photo_ids, patient_ids : sequences of str, optional
        Names of an array's rows.
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
    """
    options: dict[str, Any] = {"cohort": cohort, "generator": generator, "encoder": encoder, "device": device}
    options |= {
        "method": method,
        "preset": preset,
        "schedule": schedule,
        "perceptual": perceptual,
        "start": start,
    }
    options |= {"photo_ids": photo_ids, "patient_ids": patient_ids, "cluster": cluster}
    options |= {"batch": batch, "seed": seed, "passes": passes, "identity": identity}
    if out is not None:
        order = embed_to(out, photos, progress=progress, **options)
        return Latents.open(out).select(order)
    task = _prepare(None, **options)
    source = task.source(photos)
    rows: Rows = []
    for part in task.work(source, source.photos):
        rows += part
        _tell(progress, len(rows), len(source.photos))
    return Latents.from_rows(rows, {"version": __version__, **task.metadata})


def embed_to(out: str | Path, photos: Any, *, progress: Progress | None = None, **options: Any) -> list[str]:
    """As `embed`, without reading the result: memory does not grow with the cohort.

    Returns
    -------
    list of str
        ``photo_id`` of the photographs, in their order.
    """
    task = _prepare(Path(out), **options)
    with LatentsWriter(out, task.metadata) as writer:  # before photographs are aligned into the folder
        source = task.source(photos)
        writer.settle("chips", source.cut)
        to_disk(task, source, writer, progress)
    return [photo.photo_id for photo in source.photos]


@dataclass(frozen=True)
class _Task:
    work: Work
    source: Callable[[Any], Source]
    metadata: dict[str, Any]
    inverter: Inverter
    named: bool  # whether a table says whose photographs they are


def _prepare(
    out: Path | None,
    *,
    cohort: Cohort | None = None,
    generator: Generator | str | Path = "synthetic-64",
    encoder: Encoder | str | Path | None = None,
    method: Method | None = None,
    preset: str | None = None,
    schedule: Schedule | Mapping[str, Any] | None = None,
    perceptual: str | Perceptual | None = None,
    start: Latents | None = None,
    photo_ids: Sequence[str] | None = None,
    patient_ids: Sequence[str] | None = None,
    cluster: str | None = None,
    device: str = "cpu",
    **others: Any,
) -> _Task:
    tune_allocator()
    own = None if perceptual is None or isinstance(perceptual, str) else perceptual
    known = perceptual if perceptual is None or isinstance(perceptual, str) else _name(perceptual)
    settings = plan(method, preset, schedule, perceptual=known, **others)
    here = "cpu" if cluster is not None else device  # the machine that hands out work may have no GPU
    net, partner = networks(generator, encoder, settings, here)
    inverter = Inverter(net, partner, settings, own, None if start is None else _first(start, net))
    source = partial(
        open_source,
        cohort=cohort,
        photo_ids=photo_ids,
        patient_ids=patient_ids,
        aligned_to=None if out is None else out / CHIPS,
        size=max(256, net.config.resolution),
    )
    work = inverter_stream(inverter)
    if cluster is not None:
        from stylegan_surv.inversion.cluster import cluster_stream

        if out is None or own is not None or start is not None:
            raise InputError(
                "On a cluster `out` is needed, and neither `start` nor a `perceptual` of your own can be sent."
            )
        size = settings.batch * BATCHES_PER_CHUNK
        work = cluster_stream(cluster, generator, encoder, settings, size, device, inverter.metadata())
    metadata = inverter.metadata()
    if start is not None:  # what the networks behind the earlier latents had seen stays seen
        before = start.metadata.get("provenance") or {"networks": None}
        metadata["provenance"]["start"] = {"kind": "synthetic", "base": list(before.values())}
    named = cohort is not None or patient_ids is not None
    return _Task(work, source, metadata, inverter, named)


def _name(perceptual: Any) -> str:
    """A distance's name and, of a function, a digest of what it does: another one makes another dataset."""
    name = str(getattr(perceptual, "__qualname__", type(perceptual).__qualname__))
    code = getattr(perceptual, "__code__", None)
    return name if code is None else f"{name} {hashlib.sha256(_does(code)).hexdigest()[:12]}"


def _does(code: CodeType) -> bytes:
    """What a function does, the same in every process."""
    parts = [_does(part) if isinstance(part, CodeType) else part for part in code.co_consts]
    return code.co_code + repr((parts, code.co_names)).encode()


def _first(latents: Latents, net: Generator) -> Start:
    shape = (net.config.num_ws, net.config.w_dim)
    known = latents.metadata.get("generator_sha256")
    if latents.w_plus.shape[1:] != shape or known not in (None, fingerprint(net)):
        raise Refused(
            f"The latents to start from are of another generator (SHA-256 {known}, num_ws and w_dim "
            f"{latents.w_plus.shape[1:]}; expected {fingerprint(net)}, {shape})."
        )
    return dict(zip(latents.ids, latents.w_plus))


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def chunks(photos: Sequence[Photo], settings: Settings) -> Iterator[Sequence[Photo]]:
    """The units of work: photographs that are in memory together and are stored together."""
    size = settings.batch * BATCHES_PER_CHUNK
    for start in range(0, len(photos), size):
        yield photos[start : start + size]


def _due(task: _Task, photos: Sequence[Photo], pending: set[str]) -> list[Photo]:
    """Photographs to compute: what is pending; where the place in the batch counts, with all of its chunk."""
    if task.inverter.exchangeable:
        return [photo for photo in photos if photo.photo_id in pending]
    whole = [
        chunk for chunk in chunks(photos, task.inverter.settings) if any(p.photo_id in pending for p in chunk)
    ]
    return [photo for chunk in whole for photo in chunk]


def inverter_stream(inverter: Inverter) -> Work:
    """Work in this process; the next chunk is read while this one is computed."""

    def stream(source: Source, photos: Sequence[Photo]) -> Iterator[Rows]:
        with ThreadPoolExecutor(1) as reader:
            waiting = iter(chunks(photos, inverter.settings))
            ahead = (reader.submit(inverter.load, source, chunk) for chunk in waiting)
            following = next(ahead, None)
            while following is not None:
                loaded = following.result()
                following = next(ahead, None)
                yield inverter.rows(loaded)

    return stream


def to_disk(task: _Task, source: Source, writer: LatentsWriter, progress: Progress | None) -> None:
    """Invert what is not stored yet, and store it chunk by chunk."""
    photos = source.photos

    def stale(photo: Photo) -> bool:
        if photo.error == NOT_ALIGNED:  # it is not here: nobody knows whether it has changed
            return False
        has_a_chip_by_now = photo.photo_id in writer.failed and photo.error is None
        return has_a_chip_by_now or photo.source_sha256 != writer.present.get(photo.photo_id)

    writer.discard(photo.photo_id for photo in photos if stale(photo))
    if task.named:
        writer.assign({photo.photo_id: photo.patient_id for photo in photos})
    pending = {photo.photo_id for photo in photos} - writer.present.keys()
    done = len(photos) - len(pending)
    _tell(progress, done, len(photos))
    for rows in task.work(source, _due(task, photos, pending) if pending else []):
        fresh = [row for row in rows if row["photo_id"] in pending]
        writer.write(fresh)
        done += len(fresh)
        _tell(progress, done, len(photos))
