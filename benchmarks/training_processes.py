"""Images per second of a training run on one thread, on several threads, and in several processes of one thread.

``python -m benchmarks.training_processes CHIPS [--workers 2] [--images 960] [--turns 2]`` trains ``from-scratch-64``,
with as many micro-batches a step as there are workers, in each of the ways in turn, and prints the best of the turns'
logs and how many times as fast as one thread each turn was. Nothing else should run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from stylegan_surv.gan.training.precision import choose
from stylegan_surv.gan.training.recipe import read_recipe


def images_per_second(chips: Path, recipe: Path, threads: int, processes: int) -> float:
    """Of one run, from its log."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += [
            "-m",
            "stylegan_surv",
            "train",
            "--photos",
            str(chips),
            "--recipe",
            str(recipe),
            "-o",
            out,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
        last = [line for line in lines if line["kind"] == "train"][-1]
        return float(last["images"] / last["seconds"])


@click.command()
@click.argument("chips", type=click.Path(exists=True, path_type=Path))
@click.option("--workers", default=2, show_default=True)
@click.option("--images", default=960, show_default=True)
@click.option("--turns", default=2, show_default=True)
def main(chips: Path, workers: int, images: int, turns: int) -> None:
    """Train for a moment in each of the ways."""
    import torch

    recipe = read_recipe(
        "from-scratch-64",
        micros=workers,
        images=images,
        log_images=images,
        precision=choose(torch.device("cpu")),
    )
    ways = {"one thread": (1, 1), f"{workers} threads": (workers, 1), f"{workers} processes": (1, workers)}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(recipe.model_dump_json())  # JSON is YAML
        file.flush()
        rates = [
            {way: images_per_second(chips, Path(file.name), *ways[way]) for way in ways} for _ in range(turns)
        ]
    best = {way: max(turn[way] for turn in rates) for way in ways}
    ratios = {way: [turn[way] / turn["one thread"] for turn in rates] for way in ways}
    click.echo(json.dumps({"images_per_second": best, "times_as_fast": ratios}))


if __name__ == "__main__":
    main()
