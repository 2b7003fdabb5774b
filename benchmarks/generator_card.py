"""The bundled generator: measure it, draw it, publish it.

``python -m benchmarks.generator_card --run runs/synthetic-64 --photos CHIPS`` measures a run's averaged generator and
encoder on the chips that never trained; ``--pictures docs/img`` draws the sheets of docs/default-generator.md (faces
here are synthetic, all of them); ``--publish`` writes half-precision files with their cards into the package.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from stylegan_surv.gan import checkpoint, measures
from stylegan_surv.gan.data import ImageSet, hold_out, read_chips
from stylegan_surv.gan.finetune import fresh_networks
from stylegan_surv.gan.grids import grid_image, save_grid
from stylegan_surv.gan.memorisation import memorisation
from stylegan_surv.gan.networks import Encoder, Generator
from stylegan_surv.gan.perceptual import LPIPS
from stylegan_surv.gan.recipe import Recipe, read_recipe
from stylegan_surv.gan.state import load_state
from stylegan_surv.gan.watch import reconstruction_errors

ENLARGE, DETECT, TRUNCATION = 4, 200, 0.7


def read_run(run: Path, recipe: Recipe) -> tuple[Generator, Encoder, dict[str, Any]]:
    """The averaged networks of a run's last saved state, and its counters."""
    generator, _, encoder = fresh_networks(recipe)
    numbers = load_state(run / "state.safetensors", {"G_ema": generator, "E_ema": encoder})
    for net in (generator, encoder):
        net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator, encoder, numbers


@torch.no_grad()
def centre(generator: Generator, n: int = 10_000) -> None:
    """Set the truncation point to the mean of mapping(z)."""
    z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    generator.mapping.w_avg.copy_(generator.mapping(z)[:, 0].mean(dim=0))


def face_rate(images: Tensor) -> float:
    """Share of images in which dlib's frontal detector finds a face, after enlarging four times."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    sheets = [
        np.asarray(grid_image(i[None], 1).resize((64 * ENLARGE,) * 2, Image.Resampling.BICUBIC))
        for i in images
    ]
    return float(np.mean([len(detector(sheet, 0)) > 0 for sheet in sheets]))


@torch.no_grad()
def statistics(generator: Generator, encoder: Encoder, train: ImageSet) -> dict[str, Tensor]:
    """Mean and covariance of mapping(z), of the codes w of training chips, and of their offsets' norm."""
    z = torch.randn(20_000, generator.config.z_dim, generator=torch.Generator().manual_seed(1))
    w = generator.mapping(z)[:, 0]
    codes = torch.cat([encoder.split(chunk)[0] for chunk in train.images().split(64)])
    found = {"w": w, "codes": codes}
    moments = {f"{k}_mean": v.mean(dim=0) for k, v in found.items()}
    return moments | {f"{k}_cov": v.T.cov() for k, v in found.items()}


@torch.no_grad()
def measure(
    generator: Generator, encoder: Encoder, train: ImageSet, held: ImageSet, quick: bool
) -> dict[str, Any]:
    """Everything that a card states."""
    network = LPIPS()
    errors, _ = reconstruction_errors(generator, encoder, held, network)
    found: dict[str, Any] = {f"held_out_{k}": v for k, v in errors.items()}
    count = 60 if quick else DETECT
    z = torch.randn(count, generator.config.z_dim, generator=torch.Generator().manual_seed(2))
    for psi in (1.0, TRUNCATION):
        found[f"faces_found_psi{psi:g}"] = face_rate(
            generator.synthesis(generator.mapping(z, truncation_psi=psi))
        )
    found["faces_found_held_out_chips"] = face_rate(held.images(slice(0, count)))
    if quick:
        return found
    with torch.enable_grad():
        found |= measures.quality(generator, held.images()).as_card()
        some = held.images(slice(0, 32))
        for name, start in (("mean", None), ("encoder", encoder(some))):
            done = measures.reconstruct(generator, some, steps=50, start=start, network=network)
            found[f"lpips_50_steps_from_{name}"] = float(done.lpips.mean())
    samples = measures.sample(generator, 64)
    found["memorisation"] = memorisation(samples, train.images(), held.images(), identity=False).as_card()
    return found


@torch.no_grad()
def draw(generator: Generator, encoder: Encoder, train: ImageSet, held: ImageSet, out: Path) -> None:
    """The sheets of the documentation."""
    out.mkdir(parents=True, exist_ok=True)
    z = torch.randn(64, generator.config.z_dim, generator=torch.Generator().manual_seed(3))
    w = generator.mapping(z, truncation_psi=TRUNCATION)
    samples = generator.synthesis(w)
    save_grid(samples, out / "synthetic-64-samples.png", columns=16)
    some = held.images(slice(0, 32))
    drawn = generator.synthesis(encoder(some))
    rows = [x[k : k + 16] for k in (0, 16) for x in (some, drawn)]
    save_grid(torch.cat(rows), out / "synthetic-64-reconstructions.png", columns=16)
    save_grid(generator.synthesis(_interpolations(w)), out / "synthetic-64-interpolation.png", columns=12)
    save_grid(generator.synthesis(_mixtures(w)), out / "synthetic-64-style-mixing.png", columns=8)
    near = memorisation(samples[:16], train.images(), held.images(), identity=False).lpips.index
    save_grid(torch.cat([samples[:16], train.images(near)]), out / "synthetic-64-neighbours.png", columns=16)


def _interpolations(w: Tensor) -> Tensor:
    steps = torch.linspace(0, 1, 12)[:, None, None]
    return torch.cat([w[k].lerp(w[k + 1], steps) for k in (0, 2, 4, 6)])


def _mixtures(w: Tensor) -> Tensor:
    """Rows: coarse styles (to 16 px) of one sample with the fine styles of eight others."""
    rows = []
    for k in range(4):
        mixed = w[8:16].clone()
        mixed[:, :5] = w[k, :5]
        rows.append(mixed)
    return torch.cat(rows)


def curve(log: Path, out: Path, before: list[Path]) -> None:
    """Held-out error against CPU hours, over all stages of a run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    hours, points = 0.0, []
    for path in (*before, log):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        points += [
            (hours + line["cpu_seconds"] / 3600, line["lpips"], line["lpips_w"], line["mse"])
            for line in lines
            if line["kind"] == "check"
        ]
        hours += max(line["cpu_seconds"] for line in lines) / 3600
    x, *ys = zip(*points)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    axes[0].plot(x, ys[0], "o-", label="w and offsets")
    axes[0].plot(x, ys[1], "s--", label="w alone")
    axes[0].set(xlabel="CPU hours on one core", ylabel="held-out LPIPS")
    axes[0].legend()
    axes[1].plot(x, ys[2], "o-")
    axes[1].set(xlabel="CPU hours on one core", ylabel="held-out MSE")
    figure.savefig(out, dpi=100)


def publish(
    generator: Generator, encoder: Encoder, train: ImageSet, card: dict[str, Any], folder: Path, name: str
) -> None:
    """Write generator and encoder in half precision, and the latent statistics."""
    checkpoint.save_network(generator, folder / f"{name}.safetensors", card, half=True)
    checkpoint.save_network(encoder, folder / f"{name}.encoder.safetensors", card, half=True)
    moments = {k: v.contiguous() for k, v in statistics(generator, encoder, train).items()}
    save_file(moments, folder / f"{name}.stats.safetensors")
    for path in folder.glob(f"{name}*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone


def make_card(
    recipe: Recipe, numbers: dict[str, Any], earlier: dict[str, float], found: dict[str, Any]
) -> dict[str, Any]:
    """The card of the bundled networks."""
    images = numbers["step"] * recipe.micro_batch * recipe.micros
    return {
        "name": recipe.name,
        "licence": "Apache-2.0",
        "data": "synthetic faces (SFHQ, SFHQ-T2I); no real person",
        "provenance": {"kind": "synthetic", "patients": [], "photos": []},
        "recipe": f"configs/{recipe.name}.yaml",
        "images_seen": int(earlier["images"] + images),
        "cpu_hours": round(earlier["cpu_hours"] + numbers["cpu_seconds"] / 3600, 2),
        "measures": {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()},
        "held_out": "seeded tenth of the chips without captions; the first 113,600 images of training included them",
        "faults": "soft detail, washed-out ears, hair and backgrounds; unusual poses, hats and glasses are drawn badly",
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("configs/synthetic-64.yaml"))
    parser.add_argument("--earlier", default="0,0", help="images and CPU hours of earlier stages")
    parser.add_argument(
        "--logs", type=Path, nargs="*", default=[], help="logs of earlier stages, for the curve"
    )
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--quick", action="store_true", help="reconstruction and face detection only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, recipe = time.perf_counter(), read_recipe(options.recipe)
    chips = read_chips(options.photos, recipe.resolution, drop_captions=recipe.drop_captions)
    train, held = (chips.subset(index) for index in hold_out(chips.ids, recipe.hold_out, recipe.seed))
    generator, encoder, numbers = read_run(options.run, recipe)
    centre(generator)
    found = measure(generator, encoder, train, held, options.quick)
    images, hours = map(float, options.earlier.split(","))
    card = make_card(recipe, numbers, {"images": images, "cpu_hours": hours}, found)
    if options.publish:
        publish(generator, encoder, train, card, checkpoint.DATA, recipe.name)
    if options.pictures:
        draw(generator, encoder, train, held, options.pictures)
        curve(options.run / "log.jsonl", options.pictures / "synthetic-64-curve.png", options.logs)
    report = {**card, "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps(report) if options.json else json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
