"""synthetic-128 beside synthetic-64 enlarged, at 128 px, on the chips that never trained.

``python -m benchmarks.grown_generator --photos CHIPS [--pictures docs/img] [--json]``: both draw the held-out chips
from the same codes (one encoder looks at 64 px for both), and samples of the same z. Distances are of AlexNet's
features; ``_at_256`` repeats them on pictures twice as large, where finer detail counts. ``--pictures`` draws the
sheets of docs/default-generator.md.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.generator_card import centre
from stylegan_surv.gan import LPIPS, Generator, load_encoder, load_generator
from stylegan_surv.gan.data import hold_out, read_chips
from stylegan_surv.gan.grading import measures
from stylegan_surv.gan.grading.grids import grid_image
from stylegan_surv.inversion.identity import similarity

SIDE, HELD, TIMED = 128, 0.1, 32
BANDS = (0.05, 0.125, 0.25, 0.375, 0.5)  # cycles per pixel
TRUNCATION = 0.7
QUALITY = 85  # of the sheets' JPEG


def enlarged(images: Tensor) -> Tensor:
    """Pictures of 64 px at 128 px, bicubic, as a viewer would enlarge them."""
    big = F.interpolate(images.clamp(-1, 1), scale_factor=2, mode="bicubic", align_corners=False)
    return big.clamp(-1, 1)


def quantised(images: Tensor) -> Tensor:
    """Pictures with the 256 levels that chips have."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def drawn(generator: Generator, w_plus: Tensor) -> Tensor:
    """Pictures of latents at 128 px."""
    images = torch.cat([generator.synthesis(part) for part in w_plus.split(16)])
    return enlarged(images) if images.shape[-1] < SIDE else images.clamp(-1, 1)


def large_features(images: Tensor, net: LPIPS) -> Tensor:
    """AlexNet's features of pictures at twice their size, [n, features]."""
    rows = [
        torch.cat([m.mean(dim=(2, 3)) * m.shape[1] ** 0.5 for m in net.enlarged_features(part)], dim=1)
        for part in images.split(16)
    ]
    return torch.cat(rows).double()


def power(images: Tensor) -> Tensor:
    """Mean power of the luminance in four bands of frequency."""
    grey = images.mean(dim=1)
    found = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(dim=0)
    k = torch.fft.fftfreq(images.shape[-1])
    radius = (k[:, None] ** 2 + k[None] ** 2).sqrt()
    return torch.stack([found[(radius >= a) & (radius < b)].mean() for a, b in pairwise(BANDS)])


def distances(images: Tensor, real: Tensor, net: LPIPS) -> dict[str, Any]:
    """How far a set of pictures is from the real ones."""
    found: dict[str, Any] = {"power_ratio": (power(images) / power(real)).tolist()}
    for suffix, features in (("", measures.features), ("_at_256", large_features)):
        a, b = features(real, net), features(images, net)
        kernel = measures.kernel_distance(a, b)
        precision, recall = measures.precision_recall(a, b)
        found |= {f"kernel{suffix}": kernel.value, f"kernel_se{suffix}": kernel.se}
        found |= {f"frechet_16{suffix}": measures.frechet_distance(a, b)}
        found |= {f"precision{suffix}": precision, f"recall{suffix}": recall}
    return found


def errors(images: Tensor, real: Tensor, net: LPIPS) -> dict[str, float]:
    """LPIPS at 128 and 256 px, mean squared error, and the cosine of the face-recognition numbers."""
    at_256 = [
        net.between(net.enlarged_features(x), net.enlarged_features(y))
        for x, y in zip(images.split(16), real.split(16))
    ]
    return {
        "lpips": float(torch.cat([net(x, y) for x, y in zip(images.split(32), real.split(32))]).mean()),
        "lpips_at_256": float(torch.cat(at_256).mean()),
        "mse": float((images - real).square().mean()),
        "identity": float(
            torch.cat([similarity(x, y) for x, y in zip(images.split(32), real.split(32))]).mean()
        ),
    }


@torch.no_grad()
def measure(photos: Path, pictures: Path | None = None) -> dict[str, Any]:
    """Every figure of the table; draws the sheets into ``pictures``."""
    chips = read_chips(photos, SIDE, drop_captions=True)
    aside = hold_out(chips.ids, HELD, 0)[1]
    real = chips.subset(np.random.default_rng(0).permutation(aside).tolist()).images()
    small, large = load_generator("synthetic-64"), load_generator("synthetic-128")
    encoder, net = load_encoder("synthetic-128"), LPIPS()
    centre(small)
    large.mapping.w_avg.copy_(small.mapping.w_avg)
    w_plus = torch.cat([encoder(part) for part in real.split(32)])
    z = torch.randn(len(real), small.config.z_dim, generator=torch.Generator().manual_seed(measures.SEED))
    result: dict[str, Any] = {"n": len(real)}
    sheets: dict[str, tuple[Tensor, Tensor]] = {}
    for name, generator in (("synthetic-64", small), ("synthetic-128", large)):
        rows = generator.config.num_ws
        again, samples = drawn(generator, w_plus[:, :rows]), drawn(generator, generator.mapping(z))
        start = time.process_time()
        generator.synthesis(w_plus[:TIMED, :rows])
        spent = (time.process_time() - start) / TIMED * 1000
        result[name] = {
            "reconstructions": {**errors(again, real, net), **distances(quantised(again), real, net)},
            "samples": distances(quantised(samples), real, net),
            "ms_a_picture": spent,
        }
        sheets[name] = again, drawn(generator, generator.mapping(z, truncation_psi=TRUNCATION))
    half = torch.randperm(len(real), generator=torch.Generator().manual_seed(0)).split((len(real) + 1) // 2)
    features = measures.features(real, net)
    result["frechet_16_of_real_halves"] = measures.frechet_distance(*(features[part] for part in half))
    result["identity_of_strangers"] = float(similarity(real[:-1], real[1:]).mean())
    result["ratio"] = {
        "lpips": result["synthetic-128"]["reconstructions"]["lpips"]
        / result["synthetic-64"]["reconstructions"]["lpips"],
        "ms_a_picture": result["synthetic-128"]["ms_a_picture"] / result["synthetic-64"]["ms_a_picture"],
    }
    if pictures is not None:
        (before, _), (after, samples) = sheets.values()
        grid_image(samples[:64], columns=8).save(pictures / "synthetic-128-samples.jpg", quality=QUALITY)
        rows = [x[k : k + 8] for k in (0, 8, 16, 24) for x in (real, before, after)]
        grid_image(torch.cat(rows), columns=8).save(
            pictures / "synthetic-128-reconstructions.jpg", quality=QUALITY
        )
    return result


@click.command(help=__doc__.splitlines()[0])
@click.option(
    "--photos", required=True, type=click.Path(path_type=Path), help="Folder of the synthetic chips."
)
@click.option("--pictures", type=click.Path(path_type=Path), help="Draw the sheets into this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(photos: Path, pictures: Path | None, as_json: bool) -> None:
    torch.set_num_threads(1)
    result = measure(photos, pictures)
    print(json.dumps(result) if as_json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
