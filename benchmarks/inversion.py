"""Speed at equal quality: the default inversion against the published protocol, on one machine in one run.

``python -m benchmarks.inversion CHIPS [--photos 16] [--json]``. Half of the photographs are samples of the generator,
half are chips from a folder. Both sides use the same batched, refilled projector; the protocol is therefore our own
best implementation of it. The chips are shown to no one, only their mean qualities are printed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import torch

from stylegan_surv import embed, load_generator
from stylegan_surv.faces.chips import Chips
from stylegan_surv.inversion.identity import similarity
from stylegan_surv.inversion.sources import ChipFolder, open_source


def photographs(chips: Path, generator: Any, n: int) -> torch.Tensor:
    """n/2 samples at truncation 0.7 and the first n/2 chips, [n, 3, R, R]."""
    z = torch.randn(n // 2, generator.config.z_dim, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        samples = generator(z, truncation_psi=0.7).clamp(-1, 1)
    source = open_source(Chips.open(chips))
    assert isinstance(source, ChipFolder)
    good = [photo for photo in source.photos if photo.error is None][: n - n // 2]
    return torch.cat([samples, torch.stack([source.load(p, generator.config.resolution) for p in good])])


def measure(images: torch.Tensor, generator: Any, **options: Any) -> dict[str, float]:
    """Photographs per minute and mean quality of one way of inversion; grading identities is not timed."""
    batch = min(16, len(images))
    start = time.perf_counter()
    latents = embed(images, generator=generator, batch=batch, **options)
    minutes = (time.perf_counter() - start) / 60
    with torch.no_grad():
        drawn = generator.synthesis(torch.from_numpy(latents.w_plus)).clamp(-1, 1)
    quality = {name: float(latents.frame[name].mean()) for name in ("lpips", "mse")}
    quality["identity"] = float(similarity(drawn, images).mean())
    return {
        "photos_per_minute": len(images) / minutes,
        "steps": float(latents.frame["steps"].mean()),
        **quality,
    }


@click.command()
@click.argument("chips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--photos", default=16, show_default=True)
@click.option("--generator", "name", default="synthetic-64", show_default=True)
@click.option("--against", multiple=True, default=("reference", "reference-w+"), show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(chips: Path, photos: int, name: str, against: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Photographs per minute and quality of the default and of the published protocol."""
    torch.set_num_threads(threads)
    generator = load_generator(name)
    images = photographs(chips, generator, photos)
    table = {"encoder": measure(images, generator, method="encoder"), "hybrid": measure(images, generator)}
    for preset in against:
        table[preset] = measure(images, generator, preset=preset)
    speed = table["hybrid"]["photos_per_minute"]
    ratio = {preset: speed / table[preset]["photos_per_minute"] for preset in against}
    if as_json:
        print(json.dumps({"photos": photos, "threads": threads, **table, "ratio": ratio}))
        return
    for way, row in table.items():
        print(f"{way:14s}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    print("times as fast: " + ", ".join(f"{value:.0f} ({preset})" for preset, value in ratio.items()))


if __name__ == "__main__":
    main()
