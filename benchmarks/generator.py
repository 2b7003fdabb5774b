"""All measures of one generator against a folder of chips that it should resemble.

``python -m benchmarks.generator PHOTOS [--generator synthetic-64] [--identity] [--json]``. Chips are divided by names
as in training (same seed and fraction): distances and reconstructions use the held-out ones, the memorisation guard
both.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import torch

from cuda_ops import tune_allocator
from stylegan_surv import load_generator
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import hold_out, read_chips
from stylegan_surv.gan.formats.checkpoint import load_encoder
from stylegan_surv.gan.grading.measures import Reconstruction, quality, reconstruct, sample
from stylegan_surv.gan.grading.memorisation import memorisation


def _means(found: Reconstruction) -> dict[str, float]:
    return {"lpips": float(found.lpips.mean()), "mse": float(found.mse.mean())}


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--generator", "name", default="synthetic-64", show_default=True)
@click.option("--encoder", default=None, help="By default the bundled one of the same name, if there is one.")
@click.option("--hold-out", "fraction", default=0.1, show_default=True)
@click.option(
    "--seed", default=0, show_default=True, help="Of the division into training and held-out chips."
)
@click.option(
    "--drop-captions", is_flag=True, help="Leave out chips with a caption at an edge, as in training."
)
@click.option("--steps", default=50, show_default=True, help="Budget of every reconstruction.")
@click.option(
    "--photographs", default=32, show_default=True, help="How many held-out chips are reconstructed."
)
@click.option("--samples", default=64, show_default=True, help="Samples of the memorisation guard.")
@click.option("--identity", is_flag=True, help="Also by dlib's face network: 0.2 s per chip.")
@click.option("--json", "as_json", is_flag=True)
def main(
    photos: Path,
    name: str,
    encoder: str | None,
    fraction: float,
    seed: int,
    drop_captions: bool,
    steps: int,
    photographs: int,
    samples: int,
    identity: bool,
    as_json: bool,
) -> None:
    """Print the measures as JSON."""
    tune_allocator()
    torch.set_num_threads(1)
    start = time.perf_counter()
    generator = load_generator(name)
    chips = read_chips(photos, generator.config.resolution, drop_captions=drop_captions)
    into, aside = hold_out(chips.ids, fraction, seed)
    train, held_out = chips.images(into), chips.images(aside)
    record = {
        "generator": name,
        "sha256": generator.card.get("sha256"),
        "train": len(train),
        "held_out": len(held_out),
    }
    record["quality"] = quality(generator, held_out).as_card()
    some = min(photographs, len(held_out))
    target = held_out[torch.linspace(0, len(held_out) - 1, some).round().long()]  # names are in order of kind
    record["reconstruction"] = _means(reconstruct(generator, target, steps=steps)) | {"steps": steps}
    try:
        codes = load_encoder(encoder or name)(target)
    except InputError:
        codes = None
    if codes is not None:
        record["encoder"] = _means(reconstruct(generator, target, steps=0, start=codes))
        record["encoder_and_steps"] = _means(reconstruct(generator, target, steps=steps, start=codes))
    guard = memorisation(sample(generator, samples), train, held_out, identity=identity)
    record["memorisation"] = guard.as_card()
    record["seconds"] = time.perf_counter() - start
    click.echo(json.dumps(record) if as_json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
