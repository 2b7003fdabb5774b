"""The same work on many machines, by Dask: chunks go out, rows come back, one process writes.

A worker loads the networks once and keeps them. When a worker dies, Dask gives its chunks to others; as only the
rows of finished chunks are ever stored, nothing is stored twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from cuda_ops import tune_allocator
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion.inverter import Inverter, Settings, fingerprint, networks
from stylegan_surv.inversion.sources import ChipFolder, Photo, Source

CHUNKS_PER_WORKER = 4  # handed out at a time, so that the scheduler's memory does not grow with the cohort
RETRIES = 3
log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
_one_at_a_time = Lock()  # a worker's threads share the networks, and noise maps take turns in their buffers


def cluster_stream(
    where: str,
    generator: object,
    encoder: object,
    settings: Settings,
    size: int,
    device: str,
    known: Mapping[str, Any],
) -> Callable[[Source, Sequence[Photo]], Iterator[Rows]]:
    """Work on the cluster ``where``: "local", "local:N", "slurm:N" or a scheduler's address.

    Parameters
    ----------
    generator, encoder : names or files; every worker must be able to read them, and the chips.
    size : photographs of one chunk.
    device : of the networks, on every worker.
    known : the dataset's metadata; a worker that finds other networks under these names refuses.
    """
    if not all(isinstance(net, str | Path | None) for net in (generator, encoder)):
        raise InputError(
            "On a cluster the networks are given by name or file, so that workers can load them."
        )

    generator, encoder = _absolute(generator), _absolute(encoder)
    hashes = (known["generator_sha256"], known.get("encoder_sha256"))

    def stream(source: Source, photos: Sequence[Photo]) -> Iterator[Rows]:
        from distributed import as_completed

        if not isinstance(source, ChipFolder):
            raise InputError("On a cluster the photographs come from a folder that every worker can read.")
        parts = (list(photos[i : i + size]) for i in range(0, len(photos), size))
        with ExitStack() as stack:
            client = stack.enter_context(_connect(where, stack))
            log.info("Dask dashboard: %s", client.dashboard_link)

            running = as_completed()

            def hand_out() -> None:
                window = max(1, len(client.nthreads())) * CHUNKS_PER_WORKER  # workers come and go
                while running.count() < window and (chunk := next(parts, None)) is not None:
                    job = (_work, (generator, encoder, settings, device, hashes), chunk)
                    running.add(client.submit(*job, pure=False, retries=RETRIES))

            hand_out()
            for future in running:
                rows: Rows = future.result()
                hand_out()
                yield rows

    return stream


def _absolute(network: Any) -> Any:
    """A file's whole path: a worker's working directory may be another."""
    return str(Path(network).resolve()) if network is not None and Path(network).is_file() else network


def _connect(where: str, stack: ExitStack) -> Any:
    kind, _, count = where.partition(":")
    if kind in ("local", "slurm") and count and not (count.isdecimal() and int(count)):
        raise InputError(f"--cluster is {where!r}; expected {kind}:N with a number of workers.")
    try:
        from distributed import Client, LocalCluster

        if kind == "slurm":
            from dask_jobqueue import SLURMCluster
    except ImportError as missing:
        raise InputError(
            f"--cluster {where} needs Dask ({missing}): pip install 'stylegan-surv[cluster]'."
        ) from missing
    if kind == "local":
        workers = int(count) if count else None
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
        return Client(stack.enter_context(cluster))
    if kind == "slurm":
        cluster = stack.enter_context(
            SLURMCluster()
        )  # queue, cores, memory: the user's own dask configuration
        cluster.scale(jobs=int(count or 1))
        client = Client(cluster)
        client.wait_for_workers(1)
        return client
    try:
        return Client(where, timeout="10s")
    except (OSError, ValueError, TimeoutError) as fault:
        raise InputError(
            f"No Dask scheduler answers at {where!r} ({fault}); expected local, local:N, slurm:N or an address "
            "such as tcp://host:8786."
        ) from fault


@lru_cache(maxsize=1)
def _inverter(
    generator: str | Path,
    encoder: str | Path | None,
    settings: Settings,
    device: str,
    hashes: tuple[str, str | None],
) -> Inverter:
    import torch
    from distributed import get_worker

    tune_allocator()
    torch.set_num_threads(get_worker().state.nthreads)
    found = networks(generator, encoder, settings, device)
    if tuple(None if net is None else fingerprint(net) for net in found) != hashes:
        raise Refused(
            f"On a worker, {generator} (or its encoder) is another network than where the run began."
        )
    return Inverter(*found, settings)


def _work(job: tuple[Any, ...], photos: list[Photo]) -> Rows:
    folder = photos[0].folder
    if folder is not None and not folder.is_dir():
        raise InputError(f"A worker sees no folder {folder}; it must be on a disk that all machines share.")
    with _one_at_a_time:
        inverter = _inverter(*job)
        return inverter.rows(inverter.load(ChipFolder(photos), photos))
