"""Whether photographs that were turned are set upright again.

``python -m benchmarks.upright PHOTOS [--limit 100] [--json]``: every photograph is turned by quarter turns and by
−60 … 60° in steps of 15; what counts is the attitude found, against that of the same photograph as it is. ``sideways``
are answers that were given as certain and are wrong by more than 30°.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from stylegan_surv.faces.load import load_image
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.faces.mesh.upright import Upright, which_way_up

TURNS = (0, 90, 180, 270, *(turn for turn in range(-60, 61, 15) if turn))
CLOSE, SIDEWAYS = 5.0, 30.0  # degrees


def attitude(image: Image.Image, turn: int) -> tuple[Upright, float]:
    """What is found in a photograph turned clockwise, and the milliseconds that it took."""
    quarters = {
        90: Image.Transpose.ROTATE_270,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_90,
    }
    if turn in quarters:
        turned = image.transpose(quarters[turn])
    else:
        turned = image.rotate(-turn, Image.Resampling.BICUBIC, expand=True)
    picture = as_picture(np.asarray(turned))
    start = time.perf_counter()
    found = which_way_up(picture)
    return found, (time.perf_counter() - start) * 1000


def measure(files: list[Path]) -> dict[str, object]:
    """Share within 5°, certain but wrong, in doubt, and milliseconds, per turn."""
    torch.set_num_threads(1)
    rows: dict[int, list[tuple[float, bool, float]]] = {turn: [] for turn in TURNS}
    unknown = 0
    for file in files:
        image = load_image(file)
        upright, milliseconds = attitude(image, 0)
        if not upright.certain:
            unknown += 1
            continue
        rows[0].append((0.0, True, milliseconds))
        for turn in TURNS[1:]:
            found, milliseconds = attitude(image, turn)
            error = abs((found.turned_deg - turn - upright.turned_deg + 180) % 360 - 180)
            rows[turn].append((error, found.certain, milliseconds))
    turns = {
        str(turn): {
            "within_5": float(np.mean([error <= CLOSE for error, _, _ in row])),
            "sideways": sum(certain and error > SIDEWAYS for error, certain, _ in row),
            "in_doubt": sum(not certain for _, certain, _ in row),
            "milliseconds": float(np.median([milliseconds for _, _, milliseconds in row])),
        }
        for turn, row in rows.items()
    }
    return {"photographs": len(files), "unknown_as_they_are": unknown, "turns": turns}


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", default=100, show_default=True, help="Number of photographs, drawn by seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(photos: Path, limit: int, as_json: bool) -> None:
    """Measure a folder of upright photographs."""
    files = sorted(file for file in photos.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    drawn = np.random.default_rng(0).permutation(len(files))[:limit]
    result = measure([files[i] for i in sorted(drawn)])
    click.echo(json.dumps(result, indent=None if as_json else 1))


if __name__ == "__main__":
    main()
