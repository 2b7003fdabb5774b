"""The bundled generator: measure it, draw it, publish it.

``python -m benchmarks.generator_card --photos CHIPS [--generator FILE --encoder FILE]`` measures a pair (by default the
bundled one) on the chips that never trained; ``--pictures docs/img`` draws the sheets of docs/default-generator.md
(all faces synthetic); ``--publish`` writes half-precision files with their cards, and the latent statistics
with the nuisance directions, into the package. Another pair from the same chips is measured with its ``--recipe``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cuda_ops import tune_allocator
from stylegan_surv.attribute.nuisance import find_nuisance, pack
from stylegan_surv.gan.data import ImageSet, hold_out, read_chips
from stylegan_surv.gan.formats import checkpoint
from stylegan_surv.gan.formats.checkpoint import load_encoder, load_generator
from stylegan_surv.gan.grading import measures
from stylegan_surv.gan.grading.grids import grid_image, save_grid
from stylegan_surv.gan.grading.memorisation import Memorisation, memorisation
from stylegan_surv.gan.networks import LPIPS, Encoder, Generator
from stylegan_surv.gan.training.recipe import Recipe, read_recipe
from stylegan_surv.gan.training.watch import reconstruction_errors
from stylegan_surv.inversion.identity import similarity

matplotlib.use("Agg")
BUNDLED = "synthetic-64"
ENLARGE, DETECT, TRUNCATION = 4, 200, 0.7


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
    generator: Generator, encoder: Encoder, held: ImageSet, quick: bool, identity: bool
) -> dict[str, Any]:
    """Everything that a card states, but copies."""
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
            if identity:
                drawn = generator.synthesis(done.w_plus).detach()
                found[f"identity_50_steps_from_{name}"] = float(similarity(drawn, some).mean())
        if identity:
            drawn = generator.synthesis(encoder(some)).detach()
            found["identity_encoder"] = float(similarity(drawn, some).mean())
            found["identity_of_strangers"] = float(similarity(some.roll(1, dims=0), some).mean())
    halves = held.images()[torch.randperm(len(held), generator=torch.Generator().manual_seed(0))].chunk(2)
    ceiling = measures.precision_recall(*(measures.features(half) for half in halves))
    found["precision_of_real_halves"], found["recall_of_real_halves"] = ceiling
    return found


@torch.no_grad()
def draw(generator: Generator, encoder: Encoder, train: ImageSet, held: ImageSet, base: Path) -> None:
    """The sheets of the documentation, ``base`` and what they show."""
    base.parent.mkdir(parents=True, exist_ok=True)
    z = torch.randn(64, generator.config.z_dim, generator=torch.Generator().manual_seed(3))
    w = generator.mapping(z, truncation_psi=TRUNCATION)
    samples = generator.synthesis(w)
    save_grid(samples, Path(f"{base}-samples.png"), columns=16)
    some = held.images(slice(0, 32))
    drawn = generator.synthesis(encoder(some))
    rows = [x[k : k + 16] for k in (0, 16) for x in (some, drawn)]
    save_grid(torch.cat(rows), Path(f"{base}-reconstructions.png"), columns=16)
    save_grid(generator.synthesis(_interpolations(w)), Path(f"{base}-interpolation.png"), columns=12)
    save_grid(generator.synthesis(_mixtures(w)), Path(f"{base}-style-mixing.png"), columns=8)
    near = train.images(memorisation(samples, train.images(), held.images(), identity=False).lpips.index)
    rows = [x[k : k + 16] for k in range(0, 64, 16) for x in (samples, near)]
    save_grid(torch.cat(rows), Path(f"{base}-neighbours.png"), columns=16)


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


def draw_distances(copies: Memorisation, out: Path) -> None:
    """How far samples and held-out chips are from their nearest training chips, cumulated."""
    panels = {"LPIPS": copies.lpips, "face recognition": copies.identity}
    shown = {name: nearest for name, nearest in panels.items() if nearest is not None}
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4.5 * len(shown), 2.8), layout="constrained", squeeze=False
    )
    for axis, (name, nearest) in zip(axes[0], shown.items()):
        axis.ecdf(nearest.distance, label="samples")
        axis.ecdf(nearest.held_out, label="held-out chips")
        axis.set(
            xlabel="distance to the nearest training chip", ylabel="share below", title=name, xlim=(0, None)
        )
        axis.legend()
    figure.savefig(out, dpi=100)


def curve(results: list[Path], out: Path) -> None:
    """Quality against CPU hours, from the printed cards of successive states."""
    cards = sorted((json.loads(path.read_text()) for path in results), key=lambda card: card["cpu_hours"])
    hours = [card["cpu_hours"] for card in cards]
    panels = {
        "held-out reconstruction": ("held_out_lpips", "held_out_mse"),
        "samples": ("frechet_16",),
        "recall": ("recall",),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 2.8), layout="constrained")
    for axis, (title, names) in zip(axes, panels.items()):
        for name in names:
            axis.plot(hours, [card["measures"][name] for card in cards], "o-", label=name)
        axis.set(xlabel="CPU hours on one core", title=title)
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.savefig(out, dpi=100)


def publish(
    generator: Generator, encoder: Encoder, train: ImageSet, card: dict[str, Any], folder: Path, name: str
) -> None:
    """Write generator and encoder in half precision, the latent statistics and the nuisance directions."""
    checkpoint.save_network(generator, folder / f"{name}.safetensors", card, half=True)
    checkpoint.save_network(encoder, folder / f"{name}.encoder.safetensors", card, half=True)
    directions, facts = pack(find_nuisance(generator))
    tensors = statistics(generator, encoder, train) | directions
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.stats.safetensors", metadata=facts
    )
    for path in folder.glob(f"{name}*.safetensors"):
        path.chmod(0o644)  # safetensors writes for the owner alone


def make_card(recipe: Recipe, trained: dict[str, float], found: dict[str, Any]) -> dict[str, Any]:
    """The card of the bundled networks, or of others from the same chips by another recipe."""
    bundled = recipe.name == BUNDLED
    stages = ", -gan.yaml, -textures.yaml" if bundled else ""
    warm = "; the first 113,600 images of training included them" if bundled else ""
    return {
        "name": recipe.name,
        "licence": "Apache-2.0",
        "data": "synthetic faces (SFHQ, SFHQ-T2I); no real person",
        "provenance": {"kind": "synthetic", "patients": [], "photos": []},
        "recipe": f"configs/{recipe.name}.yaml{stages}; docs/default-generator.md",
        **trained,
        "measures": {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()},
        "held_out": f"seeded tenth of the chips without captions{warm}",
        "faults": "streaks and patches, broken glasses and hats, few uncommon faces; the encoder loses the person",
    }


def main() -> None:
    """Parse, measure, print."""
    tune_allocator()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--generator", default=BUNDLED, help="a file or a bundled name")
    parser.add_argument("--encoder", help="default: the generator's own")
    parser.add_argument("--recipe", type=Path, default=Path(f"configs/{BUNDLED}.yaml"))
    parser.add_argument(
        "--trained", default="0,0,0", help="images, CPU hours and GPU minutes of all stages, for the card"
    )
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--quick", action="store_true", help="reconstruction and face detection only")
    parser.add_argument(
        "--identity", action="store_true", help="also by dlib's face network: 0.2 s a picture"
    )
    parser.add_argument("--curve", type=Path, nargs="*", help="only draw the curve of these printed cards")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.curve:
        curve(options.curve, options.pictures / f"{BUNDLED}-curve.png")
        return
    torch.set_num_threads(1)
    started, recipe = time.perf_counter(), read_recipe(options.recipe)
    chips = read_chips(options.photos, recipe.resolution, drop_captions=recipe.drop_captions)
    into, aside = hold_out(chips.ids, recipe.hold_out, recipe.seed)
    shuffled = np.random.default_rng(recipe.seed).permutation(aside).tolist()  # names are in order of kind
    train, held = chips.subset(into), chips.subset(shuffled)
    generator = load_generator(options.generator)
    encoder = load_encoder(options.encoder or options.generator)
    centre(generator)
    found = measure(generator, encoder, held, options.quick, options.identity)
    copies = None
    if not options.quick:
        samples = measures.sample(generator, 64)
        copies = memorisation(samples, train.images(), held.images(), identity=options.identity)
        found["memorisation"] = copies.as_card()
    images, hours, minutes = map(float, options.trained.split(","))
    trained = {"images_seen": int(images), "cpu_hours": hours, "gpu_minutes": minutes}
    card = make_card(recipe, trained, found)
    if options.publish:
        publish(generator, encoder, train, card, checkpoint.DATA, recipe.name)
    if options.pictures:
        draw(generator, encoder, train, held, options.pictures / recipe.name)
        if copies:
            draw_distances(copies, options.pictures / f"{recipe.name}-distances.png")
    report = {**card, "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps(report) if options.json else json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
