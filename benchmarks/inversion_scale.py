"""Does it scale? Memory against the number of photographs, two Dask workers against one, and a model for a million.

``python -m benchmarks.inversion_scale memory|workers|million [--figure PNG] [--json]``. All three embed small pictures
of noise with a tiny generator of random weights (32 px), so that what is measured is the handling, not the network.
The chips are made here: every name is a link to one of a few pictures, with a full manifest. ``million`` embeds
100,000 and divides time, memory and files into what a run costs once and what each photograph adds; `network_ms`, the
time of a real network per photograph, is to be added (``python -m benchmarks.inversion … --time speed``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from cuda_ops import tune_allocator
from stylegan_surv.faces.chips import COLUMNS, Chips
from stylegan_surv.faces.points import MESH468
from stylegan_surv.gan import Encoder, EncoderConfig, Generator, GeneratorConfig, save_network
from stylegan_surv.inversion import EmbedSettings, Schedule
from stylegan_surv.inversion.embedding import Request, prepare

TINY = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
SHAPE = EncoderConfig(32, TINY.num_ws, TINY.w_dim, channel_base=256, channel_max=8)
PICTURES, BATCH = 64, 64
SIZES = (1_000, 5_000, 20_000, 50_000)
MILLION = 1_000_000

RUN = """
import json, sys, time
from pathlib import Path
begun = time.perf_counter()
from stylegan_surv.inversion import EmbedSettings
from stylegan_surv.inversion.dataset import read_metadata, shards
from stylegan_surv.inversion.embedding import Request, prepare
from stylegan_surv.inversion.quality import summarise
from stylegan_surv.inversion.writer import LatentsWriter
place, chips, out, batch, method = sys.argv[1:]
first = []
def peak():  # of this program alone: a child's getrusage begins with its parent's peak
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
def report(done, total):
    if done and not first: first.append((time.perf_counter(), done))
asked = EmbedSettings(method, batch=int(batch))
prepare(Request(chips, generator=f"{place}/tiny.safetensors", out=out, settings=asked)).to_disk(report)
embedded = time.perf_counter()
summary = summarise(out)
assert not summary.failed
before = peak()
files = len(shards(Path(out)))
with LatentsWriter(out, read_metadata(out)) as writer:
    begun_compact = time.perf_counter()
    compacted = writer.compact()
compact = time.perf_counter() - begun_compact
print(json.dumps({"photos": summary.photos, "start_s": first[0][0] - begun, "embed_s": embedded - begun,
    "compact_s": compact, "peak_mb": before, "files": files, "compacted_files": compacted,
    "peak_with_compact_mb": peak()}))
"""


def networks(place: Path) -> None:
    """A tiny generator and its encoder, of random weights, and a few pictures."""
    torch.manual_seed(0)
    save_network(Generator(TINY), place / "tiny.safetensors", {"name": "tiny"})
    save_network(Encoder(SHAPE), place / "tiny.encoder.safetensors", {"name": "tiny"})
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(PICTURES)]
    Chips.create(place / "few", pictures, [f"p{i:02d}" for i in range(PICTURES)])


def chips_of(place: Path, n: int) -> Path:
    """A folder of ``n`` chips with a manifest as `align` writes it, landmarks included."""
    folder = place / f"chips{n}"
    folder.mkdir()
    few = pd.read_parquet(place / "few" / "_chips.parquet")
    table = few.iloc[np.arange(n) % PICTURES].reset_index(drop=True)
    links = [str(name) for name in table["photo_id"]]
    table["photo_id"] = [f"q{i:07d}" for i in range(n)]
    table["source_name"] = table["photo_id"] + ".jpg"
    table["source_path"] = "/archive/photographs/" + table["source_name"]
    table["source_sha256"] = [f"{i:064x}" for i in range(n)]
    marks = [np.arange(2 * MESH468.count) + 0.25 * i for i in range(PICTURES)]
    table["scheme"] = MESH468.name
    table["landmarks"] = [marks[i % PICTURES] for i in range(n)]
    table[list(COLUMNS)].to_parquet(folder / "_chips.parquet", index=False)
    for name, target in zip(table["photo_id"], links):
        os.link(place / "few" / f"{target}.png", folder / f"{name}.png")
    return folder


def one_run(place: Path, n: int, method: str = "encoder") -> dict[str, Any]:
    """Embed ``n`` photographs in a process of its own, with one thread."""
    command = [sys.executable, "-c", RUN, str(place), str(chips_of(place, n)), str(place / f"latents{n}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(BATCH), method], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"embedding {n} photographs ended with {done.returncode}: {done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def memory(place: Path, figure: Path | None) -> dict[str, Any]:
    """Peak memory in MB by number of photographs."""
    rows = [one_run(place, n) for n in SIZES]
    peak = {str(row["photos"]): row["peak_mb"] for row in rows}
    if figure is not None:
        draw(rows, figure)
    first, last = rows[0]["peak_mb"], rows[-1]["peak_mb"]
    return {"peak_mb": peak, "runs": rows, "ratio": {f"{SIZES[-1]} / {SIZES[0]}": last / first}}


def draw(rows: list[dict[str, Any]], figure: Path) -> None:
    """Memory over photographs, with the band of ±10 % around the smallest run."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(figsize=(5.5, 3))
    first = rows[0]["peak_mb"]
    axes.axhspan(0.9 * first, 1.1 * first, color="#dddddd", label="±10 % of the smallest run")
    axes.plot([row["photos"] for row in rows], [row["peak_mb"] for row in rows], "o-", color="#1f4e79")
    axes.set(
        xscale="log", xlabel="photographs", ylabel="peak memory of the process, MB", ylim=(0, 1.3 * first)
    )
    axes.legend(frameon=False, loc="lower right")
    fig.tight_layout()
    fig.savefig(figure, dpi=110)


def workers(place: Path, n: int, steps: int) -> dict[str, Any]:
    """Photographs a second with one and with two workers of one thread, networks loaded beforehand."""
    from distributed import LocalCluster

    warm, chips = chips_of(place, 4 * 8 * BATCH), chips_of(place, n)
    rate = {}
    for count in (1, 2):
        with LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0") as cluster:
            options: dict[str, Any] = {
                "generator": str(place / "tiny.safetensors"),
                "cluster": cluster.scheduler_address,
            }
            options["settings"] = EmbedSettings(batch=BATCH, schedule=Schedule(steps=steps))
            prepare(Request(warm, out=place / f"warm{count}", **options)).to_disk()
            begun = time.perf_counter()
            prepare(Request(chips, out=place / f"out{count}", **options)).to_disk()
            rate[count] = n / (time.perf_counter() - begun)
    return {"photos_per_second": rate, "ratio": {"2 workers / 1": rate[2] / rate[1]}}


def million(place: Path, n: int) -> dict[str, Any]:
    """What a run costs once and what each photograph adds, from a small and a large run."""
    small, large = one_run(place, n // 10), one_run(place, n)
    more = large["photos"] - small["photos"]
    each = {key: (large[key] - small[key]) / more for key in ("embed_s", "compact_s", "peak_mb", "files")}
    once = {key: small[key] - each[key] * small["photos"] for key in ("embed_s", "peak_mb")}
    model = {
        "minutes_without_network": (once["embed_s"] + each["embed_s"] * MILLION) / 60,
        "compact_minutes": each["compact_s"] * MILLION / 60,
        "peak_mb": once["peak_mb"] + each["peak_mb"] * MILLION,
        "files_batch_16": MILLION / (16 * 8),
        "compacted_files": MILLION / 8192,
    }
    return {"runs": [small, large], "once": once, "each_photo": each, "million": model}


@click.command()
@click.argument("what", type=click.Choice(["memory", "workers", "million"]))
@click.option("--n", default=None, type=int, help="Photographs of `workers` (6,144) or `million` (100,000).")
@click.option("--steps", default=20, show_default=True, help="Projector steps of `workers`.")
@click.option("--figure", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(what: str, n: int | None, steps: int, figure: Path | None, as_json: bool) -> None:
    """Memory, workers, or the model for a million photographs."""
    tune_allocator()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        networks(place)
        if what == "memory":
            found = memory(place, figure)
        elif what == "workers":
            found = workers(place, n or 96 * BATCH, steps)
        else:
            found = million(place, n or 100_000)
    print(json.dumps(found, indent=None if as_json else 1))


if __name__ == "__main__":
    main()
