"""The same work on many machines, by Dask: chunks go out, rows come back, one process writes.

A worker loads the networks once and keeps them. When a worker dies, Dask gives its chunks to others; as only the
rows of finished chunks are ever stored, nothing is stored twice.
"""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from types import FrameType
from typing import Any

from cuda_ops import tune_allocator
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.inverter import Inverter, networks
from stylegan_surv.inversion.origin import check_network
from stylegan_surv.inversion.settings import Settings
from stylegan_surv.inversion.sources import ChipFolder, Photo, Source

CHUNKS_PER_WORKER = 4  # handed out at a time, so that the scheduler's memory does not grow with the cohort
RETRIES = 3
log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
_one_at_a_time = Lock()  # a worker's threads share the networks, and noise maps take turns in their buffers


@dataclass(frozen=True)
class Job:
    """What a worker needs to invert photographs as this process would.

    Attributes
    ----------
    generator, encoder : str, optional
        Names or files; every worker must be able to read them, and the chips.
    settings : Settings
    device : str
        Of the networks, on every worker.
    sha256 : tuple of str
        Hashes of generator and encoder here; a worker that finds others under these names refuses.
    """

    generator: str
    encoder: str | None
    settings: Settings
    device: str
    sha256: tuple[str | None, str | None]

    @classmethod
    def of(
        cls,
        generator: Generator | str | Path,
        encoder: Encoder | str | Path | None,
        settings: Settings,
        device: str,
        sha256: tuple[str | None, str | None],
    ) -> Job:
        """A job with whole paths: a worker's working directory may be another."""
        if isinstance(generator, Generator) or isinstance(encoder, Encoder):
            raise InputError(
                "On a cluster the networks are given by name or file, so that workers can load them."
            )
        partner = None if encoder is None else _absolute(encoder)
        return cls(_absolute(generator), partner, settings, device, sha256)


def cluster_stream(where: str, job: Job, source: Source, photos: Sequence[Photo]) -> Iterator[Rows]:
    """Rows batch by batch, computed on the cluster ``where``.

    Parameters
    ----------
    where : str
        "local", "local:N", "slurm:N" or a scheduler's address.
    job : Job
    source : ChipFolder
        On a disk that every worker can read.
    photos : sequence of Photo

    Raises
    ------
    InputError
        If there is no such cluster, or the photographs are no folder of chips.
    """
    from distributed import as_completed

    if not isinstance(source, ChipFolder):
        raise InputError("On a cluster the photographs come from a folder that every worker can read.")
    size = job.settings.batch
    parts = (list(photos[i : i + size]) for i in range(0, len(photos), size))
    with ExitStack() as stack:
        client = stack.enter_context(_connect(where, stack))
        log.info("Dask dashboard: %s", client.dashboard_link)

        running = as_completed()

        def hand_out() -> None:
            window = max(1, len(client.nthreads())) * CHUNKS_PER_WORKER  # workers come and go
            while running.count() < window and (chunk := next(parts, None)) is not None:
                running.add(client.submit(_work, job, chunk, pure=False, retries=RETRIES))

        hand_out()
        for future in running:
            rows: Rows = future.result()
            hand_out()
            yield rows


def _absolute(network: str | Path) -> str:
    return str(Path(network).resolve()) if Path(network).is_file() else str(network)


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
        _require_main_guard()
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


def _require_main_guard() -> None:
    """Refuse to start processes from a script that each of them would run again from its first line."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name, file = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
        if frame.f_code.co_name == "<module>" and name in ("__main__", "__mp_main__") and file:
            package = Path(file).name == "__main__.py"  # workers do not run it again
            if not package and not _guarded(Path(file), frame.f_lineno):
                raise InputError(
                    f"{Path(file).name}, line {frame.f_lineno}, starts local workers, and each of them runs the script "
                    'again from its first line. Put the call under `if __name__ == "__main__":`.'
                )
            return
        frame = frame.f_back


def _guarded(script: Path, line: int) -> bool:
    """Whether a line of a script is under an ``if`` that asks for ``__name__``."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError):  # a zip file, or none: nothing to be said
        return True
    guards = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.dump(node.test)]
    return any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in guards)


@lru_cache(maxsize=1)
def _inverter(job: Job) -> Inverter:
    import torch
    from distributed import get_worker

    tune_allocator()
    torch.set_num_threads(get_worker().state.nthreads)
    generator, encoder = networks(job.generator, job.encoder, job.settings, job.device)
    said, remedy = "On a worker, there is", "Make all machines read the same file."
    check_network("generator", generator, job.sha256[0], said, remedy)
    if (encoder is None) != (job.sha256[1] is None):
        raise Refused(f"{said} another encoder than where the run began. {remedy}")
    if encoder is not None:
        check_network("encoder", encoder, job.sha256[1], said, remedy)
    return Inverter(generator, encoder, job.settings)


def _work(job: Job, photos: list[Photo]) -> Rows:
    folder = photos[0].folder
    if folder is not None and not folder.is_dir():
        raise InputError(f"A worker sees no folder {folder}; it must be on a disk that all machines share.")
    with _one_at_a_time:
        inverter = _inverter(job)
        return inverter.rows(inverter.load(ChipFolder(photos), photos))
