"""What fine-tuning brought: one base and one fine-tuned generator on photographs of patients whom neither has seen.

``python -m benchmarks.finetuning --photos CHIPS --cohort CSV --split SPLIT --tuned RUN [--json]``.
The photographs are those of the split's ``evaluate`` patients, which ``stylegan-surv finetune --split`` leaves alone; a
tuned generator whose card lists one of them is refused. Both generators get the same number of inversion steps from
their own mean latent, on the same photographs, and draw as many samples as there are photographs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cuda_ops import tune_allocator
from stylegan_surv import load_generator, read_cohort
from stylegan_surv.cohort import read_split
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import of_patients, read_chips
from stylegan_surv.gan.formats.checkpoint import load_encoder
from stylegan_surv.gan.formats.provenance import intersect
from stylegan_surv.gan.grading.measures import (
    features,
    frechet_distance,
    kernel_distance,
    reconstruct,
    sample,
)
from stylegan_surv.gan.networks import LPIPS

RESAMPLES = 2000


def change(before: NDArray[np.floating], after: NDArray[np.floating]) -> dict[str, float]:
    """By what share a mean over photographs changes; 95 % interval by resampling photographs, in pairs."""
    rows = np.random.default_rng(0).integers(0, len(before), (RESAMPLES, len(before)))
    drawn = after[rows].mean(axis=1) / before[rows].mean(axis=1) - 1
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"change": float(after.mean() / before.mean() - 1), "low": float(low), "high": float(high)}


def measure(name: str | Path, real: torch.Tensor, inverted: int, steps: int) -> dict[str, Any]:
    """Distances of samples to all photographs and errors of their reconstructions, by photograph."""
    G, network = load_generator(name), LPIPS()
    a, b = features(real, network), features(sample(G, len(real)), network)
    kernel = kernel_distance(a, b)
    record: dict[str, Any] = {"sha256": G.card["sha256"], "frechet_16": frechet_distance(a, b)}
    record |= {"kernel_distance": kernel.value, "kernel_distance_se": kernel.se}
    try:
        codes = torch.cat([load_encoder(name)(part) for part in real.split(64)])
        record["encoder_lpips"] = reconstruct(G, real, steps=0, start=codes, network=network).lpips.numpy()
    except InputError:  # a base without an encoder
        pass
    some = real[torch.linspace(0, len(real) - 1, min(inverted, len(real))).round().long()]
    record["lpips"] = reconstruct(G, some, steps=steps, network=network).lpips.numpy()
    return record


def refuse_seen(card: dict[str, Any], patients: set[str]) -> None:
    """Stop if the generator was trained on one of these patients, or if its card does not say."""
    if (card.get("provenance") or {}).get("kind") != "photographs":
        raise InputError(
            "the tuned generator's card does not list its patients: nothing says who is held out"
        )
    known = intersect(pd.DataFrame({"patient_id": sorted(patients), "photo_id": ""}), card).patients
    if known:
        raise InputError(
            f"{len(known)} of {len(patients)} patients were in the training: give the run's split"
        )


def report(base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    """Means and changes, ready to print."""
    per_photo = [k for k in ("lpips", "encoder_lpips") if k in base and k in tuned]
    changes: dict[str, Any] = {k: change(base[k], tuned[k]) for k in per_photo}
    for name in ("kernel_distance", "frechet_16"):
        changes[name] = {"change": tuned[name] / base[name] - 1}
    means = [
        {k: float(v.mean()) if isinstance(v, np.ndarray) else v for k, v in r.items()} for r in (base, tuned)
    ]
    return {"base": means[0], "tuned": means[1], "ratio": changes}


@click.command()
@click.option("--photos", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--cohort", "table", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--split", required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--tuned", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of the run."
)
@click.option("--base", default="synthetic-64", show_default=True)
@click.option("--steps", default=50, show_default=True, help="Inversion steps of every reconstruction.")
@click.option("--inverted", default=128, show_default=True, help="How many photographs are inverted.")
@click.option("--json", "as_json", is_flag=True)
def main(
    photos: Path,
    table: Path,
    split: Path,
    tuned: Path,
    base: str,
    steps: int,
    inverted: int,
    as_json: bool,
) -> None:
    """Print before, after and the change as JSON."""
    tune_allocator()
    torch.set_num_threads(1)
    after = load_generator(tuned)
    cohort, sets = read_cohort(table, photos, check_photos=False), read_split(split)
    chosen = set(sets.loc[sets["set"] == "evaluate", "patient_id"])
    refuse_seen(after.card, chosen)
    owner = dict(zip(cohort.table["photo_id"], cohort.table["patient_id"]))
    real = of_patients(read_chips(photos, after.config.resolution), owner, chosen).images()
    record = {"name": base, "photographs": len(real), "inverted": min(inverted, len(real)), "steps": steps}
    record |= {"training": after.card["data"], "images_seen": after.card["images_seen"]}
    record |= report(*(measure(name, real, inverted, steps) for name in (base, tuned)))
    record["memorisation"] = after.card.get("memorisation")
    print(json.dumps(record) if as_json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
