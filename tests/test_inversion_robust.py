"""What can happen to a run from outside: kill −9, a full disk, a second process, a worker that dies."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces.chips import Chips
from stylegan_surv.gan import (
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
    load_encoder,
    load_generator,
    save_network,
)
from stylegan_surv.inversion import EmbedSettings, Latents, Schedule, cluster, embed
from stylegan_surv.inversion.cluster import Job
from stylegan_surv.inversion.dataset import iterate, read_metadata, shards
from stylegan_surv.inversion.embedding import Request, prepare
from stylegan_surv.inversion.inverter import Inverter
from stylegan_surv.inversion.origin import network_sha256
from stylegan_surv.inversion.settings import Settings
from stylegan_surv.inversion.sources import open_source
from stylegan_surv.inversion.writer import LatentsWriter

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
SHAPE = EncoderConfig(32, CONFIG.num_ws, CONFIG.w_dim, channel_base=256, channel_max=8)
PHOTOS = 45
OPTIONS: dict[str, Any] = {"settings": EmbedSettings(batch=3, schedule=Schedule(steps=4))}
SCRIPT = """
import sys
from importlib import import_module
from stylegan_surv.errors import InputError
from stylegan_surv.inversion import EmbedSettings, Schedule, embed
import_module("stylegan_surv.inversion.embedding").BATCHES_PER_CHUNK = 1
folder, out = sys.argv[1:]
try:
    embed(f"{folder}/chips", generator=f"{folder}/tiny.safetensors", out=out,
          settings=EmbedSettings(batch=3, schedule=Schedule(steps=4)),
          progress=lambda done, total: print(done, flush=True))
except InputError as wrong:
    sys.exit(str(wrong))
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that a run has many moments."""
    monkeypatch.setattr(import_module("stylegan_surv.inversion.embedding"), "BATCHES_PER_CHUNK", 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("place"), PHOTOS)


def study(folder: Path, photos: int) -> Path:
    """A tiny generator, its encoder, and chips of noise."""
    torch.manual_seed(0)
    save_network(Generator(CONFIG), folder / "tiny.safetensors", {"name": "tiny"})
    save_network(Encoder(SHAPE), folder / "tiny.encoder.safetensors", {"name": "tiny"})
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(photos)]
    Chips.create(folder / "chips", pictures, [f"p{i:03d}" for i in range(photos)])
    return folder


@pytest.fixture(scope="module")
def undisturbed(place) -> Latents:
    return run(place, place / "undisturbed")


def run(place: Path, out: Path) -> Latents:
    return embed(place / "chips", generator=place / "tiny.safetensors", out=out, **OPTIONS)


def start(place: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(place), str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


def same(a: Latents, b: Latents) -> bool:
    return a.frame.equals(b.frame) and a.w_plus.tobytes() == b.w_plus.tobytes()


def killed_at_random(place: Path, out: Path, times: int, photos: int) -> Latents:
    """Kill −9 a run under way so many times, then let it end."""
    rng = np.random.default_rng(times)
    for _ in range(times):
        process = start(place, out)
        process.stdout.readline()  # the run has begun
        time.sleep(rng.uniform(0, 0.04))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert sum(table.num_rows for table in iterate(out)) < photos
    return run(place, out)


def test_a_killed_run_loses_nothing_and_repeats_nothing(place, undisturbed):
    assert same(killed_at_random(place, place / "killed", 1, PHOTOS), undisturbed)


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path):
    """Every one of them hits a run that is under way."""
    many = study(tmp_path, 450)
    assert same(killed_at_random(many, many / "killed", 20, 450), run(many, many / "undisturbed"))


def test_a_full_disk_stops_with_a_message_and_the_run_goes_on(place, undisturbed):
    """A limit on the size of files stands for the full disk: the system breaks off a write in the same way."""
    out = place / "full"
    first = run_some(place, out, 9)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"Cannot write to .*\. 9 photographs are saved.*goes on from there"
        ):
            run(place, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not [path for path in out.iterdir() if path.suffix == ".tmp"]
    assert len(Latents.open(out)) == first
    assert same(run(place, out), undisturbed)


def run_some(place: Path, out: Path, photos: int) -> int:
    def stop(done: int, total: int) -> None:
        if done >= photos:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(place / "chips", generator=place / "tiny.safetensors", out=out, progress=stop, **OPTIONS)
    return len(Latents.open(out))


def test_a_second_process_on_one_output_is_refused(place, undisturbed):
    out = place / "undisturbed"
    with LatentsWriter(out, read_metadata(out)):
        message = start(place, out).communicate()[1]
    assert f"Process {os.getpid()} is writing" in message
    assert "Traceback" not in message
    assert same(Latents.open(out), undisturbed)


def test_two_threads_of_a_worker_keep_their_noise_maps_apart(place, monkeypatch):
    """Maps are swapped in the generator's buffers, which the threads share."""
    generator, encoder = load_generator(place / "tiny.safetensors"), load_encoder(place / "tiny.safetensors")
    for name, strength in generator.named_parameters():
        if name.endswith("noise_strength"):
            strength.fill_(0.5)
    settings = Settings("hybrid", batch=2, schedule=Schedule(steps=4, noise=True, noise_weight=0.0))
    inverter = Inverter(generator, encoder, settings)
    monkeypatch.setattr(cluster, "_inverter", lambda *_: inverter)
    photos = open_source(place / "chips").photos
    chunks = [photos[:2], photos[2:4]]

    def work(chunk):
        job = Job("g", "e", settings, "cpu", ("", None))
        return np.stack([row["w_plus"] for row in cluster._work(job, chunk)])

    alone = [work(chunk) for chunk in chunks]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(work, chunks))
    assert np.array_equal(alone, together)


def test_a_worker_that_finds_another_network_under_the_name_refuses(place, monkeypatch):
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(state=SimpleNamespace(nthreads=1)))
    name, settings = str(place / "tiny.safetensors"), Settings("encoder")
    mine = tuple(network_sha256(net) for net in (load_generator(name), load_encoder(name)))
    assert cluster._inverter(Job(name, name, settings, "cpu", mine)).settings == settings
    with pytest.raises(Refused, match="another encoder"):
        cluster._inverter(Job(name, name, settings, "cpu", (mine[0], "another")))


@pytest.mark.parametrize(
    ("where", "said"), [("local:x", "expected local:N"), ("slurm:0", "expected slurm:N")]
)
def test_a_cluster_is_named_rightly(place, where, said):
    here = {"generator": place / "tiny.safetensors", "out": place / "never"}
    with pytest.raises(InputError, match=said):
        embed(place / "chips", cluster=where, **here, **OPTIONS)


def test_workers_that_come_later_get_work_too_and_all_get_the_device(place, monkeypatch):
    class Completed(list):
        """Stands for `distributed.as_completed`."""

        add, count = list.append, list.__len__

        def __iter__(self):
            while self:
                yield self.pop(0)

    class Client:
        dashboard_link, workers, sent = "", 1, []

        def nthreads(self):
            return {str(i): 2 for i in range(self.workers)}

        def submit(self, *job, **_):
            self.sent.append(job)
            return SimpleNamespace(result=list)

    client = Client()
    monkeypatch.setattr("distributed.as_completed", Completed)
    monkeypatch.setattr(cluster, "_connect", lambda *_: nullcontext(client))
    source = open_source(place / "chips")
    job = Job("g", "e", Settings(batch=1), "cuda", ("", None))
    done = cluster.cluster_stream("slurm:20", job, source, source.photos)
    next(done)
    assert len(client.sent) == 1 + 4
    client.workers = 3
    next(done)
    assert len(client.sent) == 2 + 12
    assert len(list(done)) == PHOTOS - 2
    where = {"generator": place / "tiny.safetensors", "cluster": "slurm:20", "device": "cuda"}
    prepare(Request(place / "chips", out=place / "sent", **where, **OPTIONS)).to_disk()
    assert {job[1].device for job in client.sent} == {"cuda"}


@pytest.mark.slow
def test_a_dask_worker_killed_mid_run_changes_nothing(place, undisturbed):
    distributed = pytest.importorskip("distributed")
    out = place / "dask"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        killed = []

        def kill_one(done: int, total: int) -> None:
            if not killed and done >= 24:
                killed.append(next(iter(cluster.workers.values())).process.pid)
                os.kill(killed[0], signal.SIGKILL)

        where = {"generator": place / "tiny.safetensors", "cluster": cluster.scheduler_address}
        made = embed(place / "chips", out=out, progress=kill_one, **where, **OPTIONS)
    assert killed
    assert same(made, undisturbed)
    assert len(shards(out)) == PHOTOS / 3


MEMORY = """
import resource, sys
from stylegan_surv.inversion import EmbedSettings
from stylegan_surv.inversion.embedding import Request, prepare
from stylegan_surv.inversion.quality import summarise
folder, chips, out = sys.argv[1:]
settings = EmbedSettings("encoder", batch=50)
prepare(Request(chips, generator=f"{folder}/tiny.safetensors", out=out, settings=settings)).to_disk()
assert not summarise(out).failed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_cohort(place):
    """Peak memory of a run over ten times the photographs; every name is a link to the same few pictures."""
    peak = {}
    for n in (1_000, 10_000):
        folder = place / f"chips{n}"
        folder.mkdir()
        table = pd.read_parquet(place / "chips" / "_chips.parquet")
        table = table.iloc[np.arange(n) % PHOTOS].reset_index(drop=True)
        source = [str(name) for name in table["photo_id"]]
        table["photo_id"] = [f"q{i:06d}" for i in range(n)]
        table.to_parquet(folder / "_chips.parquet")
        for name, target in zip(table["photo_id"], source):
            os.link(place / "chips" / f"{target}.png", folder / f"{name}.png")
        command = [sys.executable, "-c", MEMORY, str(place), str(folder), str(place / f"latents{n}")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peak[n] = int(done.stdout)
    assert peak[10_000] < 1.1 * peak[1_000]
