"""Speed at equal quality: ways of inversion against the published protocol, on one machine.

``python -m benchmarks.inversion PICTURES --work DIR [--photos 32]`` inverts the same photographs every way: half of
them are samples of the generator, half aligned portraits from the folder PICTURES, chosen by a seed. The protocol
(1,000 steps from the mean with LPIPS on VGG16, in W and in W+, noise maps optimised) runs in our own batched projector,
a few photographs at a time; what is finished lies in DIR, so that the command goes on after an interruption. Printed
are mean LPIPS (VGG16, AlexNet), MSE and the cosine of dlib's identity vectors; for the protocol twice, as the latent
alone draws the face and with the photograph's own noise maps. No portrait is shown to anyone.

``--time WHAT`` measures seconds instead: ``speed``, photographs per minute (the protocol's steps all cost the same, so
a slice of them is timed); ``operations``, the protocol against itself on reference operations; ``256``, seconds of a
step at 256 px with random weights; ``compile``, a step through torch.compile; ``half``, the default in bf16, and what
it costs in LPIPS and MSE.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from cuda_ops import _dispatch, tune_allocator
from stylegan_surv import embed, load_generator
from stylegan_surv.faces import load_image
from stylegan_surv.gan import LPIPS, Generator, GeneratorConfig
from stylegan_surv.inversion import EmbedSettings, Latents, Pictures, Schedule
from stylegan_surv.inversion.dataset import read_noise
from stylegan_surv.inversion.identity import similarity
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.projector import Perceptual, Targets, project
from stylegan_surv.inversion.settings import METHODS, PRESETS
from stylegan_surv.inversion.sources import chip_tensor

TRUNCATION, SEED = 0.7, 5
COPY = Schedule(penalty=0.0)  # no dial: the picture alone counts, all of it
WAYS: dict[str, dict[str, Any]] = {
    "encoder": {"method": "encoder"},
    "hybrid (default)": {},
    "hybrid, 30 steps on VGG16": {"schedule": replace(COPY, steps=30), "perceptual": "vgg"},
    "hybrid, 100 steps on VGG16": {"schedule": replace(COPY, steps=100), "perceptual": "vgg"},
    "reference, W": {"preset": "reference", "perceptual": "vgg"},
    "reference, W+": {"preset": "reference-w+", "perceptual": "vgg"},
}
ROUNDS = 5
MEASURES = ("lpips_vgg", "lpips_alex", "mse", "identity")


def photographs(pictures: Path, generator: Generator, n: int) -> Tensor:
    """n/2 samples at truncation 0.7 and n/2 portraits, taking turns: any first k are a fair part. [n, 3, R, R]."""
    z = torch.randn(n // 2, generator.config.z_dim, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        samples = generator(z, truncation_psi=TRUNCATION).clamp(-1, 1)
    files = sorted(path for path in pictures.iterdir() if path.suffix in (".png", ".jpg"))
    chosen = np.random.default_rng(SEED).permutation(len(files))[: n // 2]
    size = generator.config.resolution
    portraits = [chip_tensor(load_image(files[i]), size) for i in chosen]
    return torch.stack([image for pair in zip(samples, portraits) for image in pair])


def inverted(
    images: Tensor, generator: Generator, way: dict[str, Any], work: Path, piece: int
) -> tuple[Tensor, Tensor | None, float]:
    """W+ [n, num_ws, w_dim], noise maps if optimised, and mean steps; piece by piece, each kept in ``work``."""
    w_plus, noise, steps = [], [], []
    settings = EmbedSettings(**way, batch=piece)
    for first in range(0, len(images), piece):
        part, out = images[first : first + piece], work / f"{first:04d}"
        names = [f"{first + i:04d}" for i in range(len(part))]
        done = out / "_done"
        latents = (
            Latents.open(out)
            if done.exists()
            else embed(Pictures(part, names), generator=generator, out=out, settings=settings)
        )
        done.touch()
        w_plus.append(torch.from_numpy(latents.w_plus))
        steps += list(latents.frame["steps"])
        if latents.metadata.get("noise"):
            noise.append(torch.from_numpy(read_noise(out, names).astype(np.float32)))
    return torch.cat(w_plus), torch.cat(noise) if noise else None, float(np.mean(steps))


def graded(drawn: Tensor, images: Tensor) -> dict[str, list[float]]:
    """The four measures of every photograph."""
    values = {"lpips_vgg": LPIPS("vgg")(drawn, images), "lpips_alex": LPIPS()(drawn, images)}
    values |= {"mse": (drawn - images).square().mean(dim=(1, 2, 3)), "identity": similarity(drawn, images)}
    return {name: value.tolist() for name, value in values.items()}


def quality(
    images: Tensor, generator: Generator, ways: tuple[str, ...], work: Path, piece: int
) -> dict[str, dict[str, Any]]:
    """Measures of every photograph, by way of inversion; the protocol's also with its noise maps."""
    table: dict[str, dict[str, Any]] = {}
    for way in ways:
        folder = work / way.replace(" ", "-").replace(",", "").replace("+", "-plus")
        w_plus, noise, steps = inverted(images, generator, WAYS[way], folder, piece)
        with torch.no_grad():
            table[way] = {"steps": steps, **graded(generator.synthesis(w_plus).clamp(-1, 1), images)}
            if noise is not None:
                drawn = NoiseMaps(generator).draw(w_plus, noise).clamp(-1, 1)
                table[f"{way}, its noise maps"] = {"steps": steps, **graded(drawn, images)}
    return table


@contextmanager
def operations(mode: str) -> Iterator[None]:
    """Run on other operations for a while."""
    before, _dispatch.mode = _dispatch.mode, mode
    try:
        yield
    finally:
        _dispatch.mode = before


def step_seconds(
    generator: Generator, images: Tensor, schedule: Schedule, perceptual: Perceptual, steps: int
) -> float:
    """Seconds per photograph and step: a longer slice of the schedule minus a shorter one."""
    start = generator.mapping.w_avg.expand(len(images), generator.config.num_ws, -1)
    names = [str(i) for i in range(len(images))]
    seconds = []
    for slice_ in (1, 1 + steps):
        plan, begun = replace(schedule, steps=slice_, target=None), time.perf_counter()
        project(generator, Targets(images, start, names), plan, batch=len(images), perceptual=perceptual)
        seconds.append(time.perf_counter() - begun)
    return (seconds[1] - seconds[0]) / steps / len(images)


def preset(name: str) -> Schedule:
    """The schedule of a published protocol."""
    schedule = PRESETS[name][1]
    assert schedule is not None
    return schedule


def speed(images: Tensor, generator: Generator, steps: int) -> dict[str, Any]:
    """Photographs per minute: of the quick ways as they run, of the protocol from the seconds of a step."""
    vgg, part = LPIPS("vgg"), images[:8]
    presets = {"reference, W": preset("reference"), "reference, W+": preset("reference-w+")}
    quick = ("encoder", "hybrid (default)")
    photo: dict[str, list[float]] = {way: [] for way in (*quick, *presets)}
    step: dict[str, list[float]] = {way: [] for way in presets}
    embed(part, generator=generator, settings=EmbedSettings(batch=8))  # kernels are chosen
    for _ in range(ROUNDS):  # taking turns, since the machine's speed may change
        for way in quick:
            begun = time.perf_counter()
            embed(images[:16], generator=generator, settings=EmbedSettings(**WAYS[way], batch=8))
            photo[way].append((time.perf_counter() - begun) / 16)
        for way, plan in presets.items():
            step[way].append(step_seconds(generator, part, plan, vgg, steps))
            photo[way].append(step[way][-1] * plan.steps)
    minute = {way: 60 / min(seconds) for way, seconds in photo.items()}
    ratio = {way: minute["hybrid (default)"] / minute[way] for way in minute if "reference" in way}
    least = {way: min(seconds) for way, seconds in step.items()}
    return {"photos_per_minute": minute, "step_seconds": least, "ratio": ratio}


def against_operations(images: Tensor, generator: Generator, steps: int) -> dict[str, Any]:
    """Seconds of a step of the protocol: ours, on reference operations, and as it is usually written.

    That is one photograph at a time, its own features computed again at every step.
    """
    vgg, plan = LPIPS("vgg"), preset("reference-w+")
    again: Perceptual = lambda a, b, weight=None: vgg(a, b, weight)  # noqa: E731  (hides its features)
    sides: dict[str, tuple[str, Tensor, Perceptual]] = {
        "ours": ("auto", images[:8], vgg),
        "reference operations": ("reference", images[:8], vgg),
        "and one at a time": ("reference", images[:1], again),
    }
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):  # taking turns, since the machine's speed may change
        for name, (mode, part, loss) in sides.items():
            with operations(mode):
                rounds[name].append(step_seconds(generator, part, plan, loss, steps))
    seconds = {name: min(times) for name, times in rounds.items()}
    ours = seconds.pop("ours")
    return {
        "ours": ours,
        "step_seconds": seconds,
        "ratio": {name: value / ours for name, value in seconds.items()},
    }


def at_256(images: Tensor, generator: Generator, steps: int) -> dict[str, Any]:
    """Seconds of a step at 256 px, random weights of StyleGAN2's published widths; whole runs are extrapolated."""
    large = Generator(GeneratorConfig(256)).requires_grad_(False).eval()
    noise, plan, hybrid = torch.rand(2, 3, 256, 256) * 2 - 1, preset("reference-w+"), METHODS["hybrid"]
    assert hybrid is not None
    slow = step_seconds(large, noise, plan, LPIPS("vgg"), steps)
    quick = step_seconds(large, noise, hybrid, LPIPS(), steps)
    extrapolated = {"reference, W+": slow * plan.steps, "hybrid, at most": quick * hybrid.steps}
    return {
        "step_seconds": {"reference, W+": slow, "hybrid": quick},
        "photo_seconds_extrapolated": extrapolated,
    }


def compiled(images: Tensor, generator: Generator, steps: int) -> dict[str, Any]:
    """Seconds of a projector step as it is and through torch.compile, both warm; and of the compilation."""
    made, distance = copy.deepcopy(generator), LPIPS()
    made.synthesis.forward = torch.compile(made.synthesis.forward)  # type: ignore[method-assign]
    distance.features = torch.compile(distance.features)  # type: ignore[method-assign]
    begun = time.perf_counter()
    step_seconds(made, images[:8], COPY, distance, 1)
    compiling = time.perf_counter() - begun
    seconds = {"as it is": step_seconds(generator, images[:8], COPY, LPIPS(), steps)}
    seconds["compiled"] = step_seconds(made, images[:8], COPY, distance, steps)
    return {
        "step_seconds": seconds,
        "compiling": compiling,
        "ratio": seconds["as it is"] / seconds["compiled"],
    }


def half(images: Tensor, generator: Generator, steps: int) -> dict[str, Any]:
    """Seconds a photograph of the default's steps in float32 and in bf16, and what they reach."""
    plan, lpips = METHODS["hybrid"], LPIPS()
    assert plan is not None
    start = torch.from_numpy(embed(images, generator=generator, method="encoder").w_plus)
    names = [str(i) for i in range(len(images))]
    found: dict[str, Any] = {}
    for name in ("float32", "bf16"):
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
            done = project(generator, Targets(images, start, names), plan, perceptual=lpips)
        seconds = (time.perf_counter() - begun) / len(images)
        with torch.no_grad():
            drawn = generator.synthesis(done.w_plus).clamp(-1, 1)
            found[name] = {
                "seconds": seconds,
                "lpips": float(lpips(drawn, images).mean()),
                "mse": float((drawn - images).square().mean()),
            }
    return {**found, "ratio": found["float32"]["seconds"] / found["bf16"]["seconds"]}


TIMINGS = {"speed": speed, "operations": against_operations, "256": at_256, "compile": compiled, "half": half}


def summary(table: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for every way: all photographs, then the generated and the real half."""
    for way, row in table.items():
        yield f"{way}, {row['steps']:.0f} steps on average"
        for name, part in (
            ("all", slice(None)),
            ("generated", slice(0, None, 2)),
            ("real", slice(1, None, 2)),
        ):
            yield f"  {name:10s}" + "  ".join(f"{key} {np.mean(row[key][part]):.4f}" for key in MEASURES)


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--photos", default=32, show_default=True)
@click.option("--generator", "name", default="synthetic-64", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Where finished pieces are kept.")
@click.option("--piece", default=4, show_default=True, help="Photographs at a time.")
@click.option("--ways", default=";".join(WAYS), help="Names, separated by ';'. Default: all.")
@click.option("--time", "timed", type=click.Choice(list(TIMINGS)), help="Time instead.")
@click.option("--steps", default=8, show_default=True, help="Of the slices that are timed.")
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    pictures: Path,
    photos: int,
    name: str,
    work: Path | None,
    piece: int,
    ways: str,
    timed: str | None,
    steps: int,
    threads: int,
    as_json: bool,
) -> None:
    """Quality, or speed, of the default and of the published protocol."""
    tune_allocator()
    torch.set_num_threads(threads)
    generator = load_generator(name)
    images = photographs(pictures, generator, photos)
    if timed is not None:
        print(json.dumps(TIMINGS[timed](images, generator, steps), indent=None if as_json else 1))
        return
    if work is None:
        raise click.UsageError(
            "--work is needed: the protocol takes minutes a photograph, pieces are kept there"
        )
    table = quality(images, generator, tuple(ways.split(";")), work, piece)
    print(json.dumps({"photos": photos, "ways": table}) if as_json else "\n".join(summary(table)))


if __name__ == "__main__":
    main()
