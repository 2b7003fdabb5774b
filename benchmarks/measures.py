"""What the measures of a generator notice, and how well perceptual hashes tell chips apart.

``python -m benchmarks.measures [PHOTOS] [--n 300] [--json]``: a folder of aligned chips or, without one, samples of the
bundled generator. Every measure compares one half of the pictures with the other half, which has been damaged.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from cuda_ops import tune_allocator
from stylegan_surv import load_generator
from stylegan_surv.faces.duplicates import hash_distances, perceptual_hash
from stylegan_surv.gan.data import read_chips
from stylegan_surv.gan.formats.provenance import SAME_PHOTO
from stylegan_surv.gan.grading.measures import (
    features,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sample,
)

Pixels = NDArray[np.uint8]


def to_pixels(images: Tensor) -> list[Pixels]:
    """uint8 [h, w, 3] each."""
    return list(images.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy())


def jpeg(chip: Pixels, quality: int) -> Pixels:
    """The chip after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(chip).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=["JPEG"]).convert("RGB"))


def _jpegs(images: Tensor) -> Tensor:
    chips = np.stack([jpeg(chip, 30) for chip in to_pixels(images)])
    return torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 127.5 - 1


DAMAGE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "blurred over 3 px": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "JPEG at quality 30": _jpegs,
    "grey": lambda x: x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1),
    "noise, sd 5 %": lambda x: (
        x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(-1, 1),
    "one in ten, repeated": lambda x: x[torch.arange(len(x)) % (len(x) // 10)],
}


def sensitivity(images: Tensor) -> dict[str, dict[str, float]]:
    """Every measure for every damage of the second half."""
    real, other = images[0::2], images[1::2]
    a, rows = features(real), {}
    for name, damage in DAMAGE.items():
        b = features(damage(other))
        kid = kernel_distance(a, b)
        precision, recall = precision_recall(a, b)
        rows[name] = {
            "kernel_distance": kid.value,
            "se": kid.se,
            "frechet_16": frechet_distance(a, b),
            "precision": precision,
            "recall": recall,
        }
    return rows


def _edited(chip: Pixels, edit: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.asarray(edit(Image.fromarray(chip)))


EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "half the size": lambda c: _edited(c, lambda i: i.resize((i.width // 2,) * 2, Image.Resampling.BICUBIC)),
    "JPEG at quality 50": lambda c: jpeg(c, 50),
    "grey": lambda c: _edited(c, lambda i: i.convert("L").convert("RGB")),
    "30 % brighter": lambda c: _edited(c, lambda i: ImageEnhance.Brightness(i).enhance(1.3)),
    "moved by 1.5 %": lambda c: np.roll(c, max(round(0.015 * len(c)), 1), axis=(0, 1)),
    "mirrored": lambda c: c[:, ::-1].copy(),
}


def hashes(chips: list[Pixels]) -> dict[str, object]:
    """Share of differing bits between chips, and between a chip and its edited copy."""
    own = [perceptual_hash(chip) for chip in chips]
    distance = hash_distances(own, own)[np.triu_indices(len(own), 1)]
    copies = {}
    for name, edit in EDITS.items():
        moved = [hash_distances([a], [perceptual_hash(edit(c))])[0, 0] for a, c in zip(own, chips)]
        median, high = np.quantile(moved, [0.5, 0.95])
        found = float((np.array(moved) <= SAME_PHOTO).mean())
        copies[name] = {"median": float(median), "q95": float(high), "recognised": found}
    return {
        "chips": len(chips),
        "pairs": len(distance),
        "smallest": float(distance.min()),
        "below_threshold": int((distance <= SAME_PHOTO).sum()),
        "median": float(np.median(distance)),
        "edits": copies,
    }


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--n", default=300, show_default=True, help="At most so many pictures for the measures.")
@click.option("--json", "as_json", is_flag=True)
def main(photos: Path | None, n: int, as_json: bool) -> None:
    """Print both tables."""
    tune_allocator()
    torch.set_num_threads(1)
    size = 128 if photos else 64
    if photos:
        chips = list(read_chips(photos, size).pixels)
        images = torch.from_numpy(np.stack(chips[:n])).permute(0, 3, 1, 2).float() / 127.5 - 1
    else:
        images = sample(load_generator("synthetic-64"), n)
        chips = to_pixels(images)
    record = {"pictures": len(images), "measures": sensitivity(images), "hashes": hashes(chips)}
    if as_json:
        click.echo(json.dumps(record))
        return
    for name, row in record["measures"].items():  # type: ignore[attr-defined]
        click.echo(f"{name:24}" + "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
    click.echo(json.dumps(record["hashes"], indent=1))


if __name__ == "__main__":
    main()
