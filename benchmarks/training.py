"""Images per second of a training step: ours against the same step on plain torch operations.

``python -m benchmarks.training [--device cuda] [--json]``. *Plain* is how StyleGAN2 is written down first: weights
scaled per sample and a grouped convolution over the batch, resampling by zero insertion, padding, convolution and
slicing, float32.
*Ours* is the same mathematics as the package computes it (a test shows that they agree). Both take turns in one
process, so that whatever else runs on the machine hits both; the ratio of the fastest turns is reported, over a cycle
of 16 steps with the regularisers where they belong. Ours also runs in bf16 where the machine has units for it. On a
GPU ours replays recorded steps (`gan.recorded`), and plain operations are timed both so and launched one by one.

``--matching`` times instead what the matching of codes and mapping costs a step of ``from-scratch-64`` once its bank of
codes is full, by the number of random projections.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import tune_allocator
from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.networks import discriminator, generator, layers
from stylegan_surv.gan.training.precision import choose
from stylegan_surv.gan.training.recipe import Recipe, make_recipe, read_recipe
from stylegan_surv.gan.training.start import Start, fresh_networks
from stylegan_surv.gan.training.trainer import Trainer

SIZES = {"z_dim": 256, "w_dim": 256, "mapping_layers": 4, "channel_max": 256}
BASES = {"generator_base": 3072, "discriminator_base": 2048, "encoder_base": 2048}


def plain_modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False
) -> Tensor:
    """StyleGAN2's equations 1 and 3 as they stand: a weight for every sample, one grouped convolution."""
    n, c, h, w = x.shape
    scaled = weight.unsqueeze(0) * style[:, None, :, None, None]
    if demodulate:
        scaled = scaled * (scaled.square().sum(dim=(2, 3, 4), keepdim=True) + layers.EPS).rsqrt()
    x = x.reshape(1, n * c, h, w)
    if up:
        y = F.conv_transpose2d(x, scaled.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    else:
        y = F.conv2d(x, scaled.flatten(0, 1), padding=weight.shape[-1] // 2, groups=n)
    return y.view(n, weight.shape[0], *y.shape[2:])


def _filtered(x: Tensor, f: Tensor) -> Tensor:
    c = x.shape[1]
    return F.conv2d(x, f.to(x.dtype).expand(c, 1, *f.shape), groups=c)


def plain_blur(x: Tensor, f: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Pad, then convolve."""
    return _filtered(F.pad(x, [padding] * 4), f * gain)


def plain_upsample(x: Tensor, f: Tensor) -> Tensor:
    """Insert zeros, pad by (2, 1), convolve."""
    n, c, h, w = x.shape
    y = F.pad(x.view(n, c, h, 1, w, 1), [0, 1, 0, 0, 0, 1]).reshape(n, c, 2 * h, 2 * w)
    return _filtered(F.pad(y, [2, 1, 2, 1]), f * 4)


def plain_downsample(x: Tensor, f: Tensor) -> Tensor:
    """Pad, convolve, slice."""
    return _filtered(F.pad(x, [1, 1, 1, 1]), f)[:, :, ::2, ::2]


def plain_bias_act(
    x: Tensor,
    b: Tensor,
    *,
    act: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """Add, leaky ReLU, multiply, clamp."""
    x = x + b.view(1, -1, *[1] * (x.ndim - 2))
    x = (F.leaky_relu(x, alpha) if act == "lrelu" else x) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


@contextmanager
def plain() -> Iterator[None]:
    """Networks on plain operations."""
    operations = {
        "modulated_conv": plain_modulated_conv,
        "blur": plain_blur,
        "upsample": plain_upsample,
        "downsample": plain_downsample,
        "bias_act": plain_bias_act,
        "conv2d": F.conv2d,
    }
    with ExitStack() as stack:
        for module in (layers, generator, discriminator):
            for name in operations.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, name, operations[name]))
        yield


def benchmark_recipe(precision: str, channels: int = 1, graphs: bool = True) -> Recipe:
    """StyleGAN2's own objective at 64 px, with the bundled generator's widths divided by ``channels``."""
    sizes = SIZES | {k: v // channels for k, v in BASES.items()}
    adversarial = {"r1_every": 16, "path_weight": 2.0, "style_mixing": 0.9, "ada_start": 0.2}
    return make_recipe(
        {
            "name": "benchmark",
            "resolution": 64,
            "images": 10**9,
            "micro_batch": 16,
            "samples": 16,
            "precision": precision,
            "cuda_graphs": graphs,
            "networks": sizes,
            "reconstruction": None,
            "adversarial": adversarial,
        }
    )


def make_trainer(recipe: Recipe, device: str = "cpu") -> Trainer:
    """A trainer on noise: the speed does not depend on what the pictures show."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    images = ImageSet(tuple(map(str, range(64))), pixels)
    start = Start(*fresh_networks(recipe))
    return Trainer(recipe, images, Path(tempfile.gettempdir()), start, device=device)


# a cycle of 16 steps has one with R1 and path length, three with path length, twelve with neither
CYCLE = {0: 1, 4: 3, 1: 12}
PROJECTIONS = (0, 64, 512)


def _seconds(trainer: Trainer, step: int) -> float:
    """Of one step: processor time on a CPU, wall time on a GPU, whose results a step waits for."""
    clock = time.process_time if trainer.device.type == "cpu" else time.perf_counter
    trainer.step = step
    start = clock()
    trainer.train_step()
    return clock() - start


def _images_per_second(seconds: dict[int, float]) -> float:
    """Over a whole cycle; ``seconds`` of each kind of step."""
    return 16 * sum(CYCLE.values()) / sum(CYCLE[step] * t for step, t in seconds.items())


def shares(trainer: Trainer) -> dict[str, float]:
    """Where the time of a step without regularisers goes: share of each of torch's operations."""
    trainer.step = 1
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        trainer.train_step()
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    total = sum(times.values())
    largest = sorted(times, key=lambda key: -times[key])[:12]
    return {key: round(times[key] / total, 3) for key in largest}


def matching(turns: int, device: str) -> dict[str, float]:
    """Images per second of ``from-scratch-64`` with a full bank, by projections; 0: without any matching."""
    runs = {}
    for projections in PROJECTIONS:
        part = {"projections": projections or 1}
        if not projections:
            part |= dict.fromkeys(("codes_to_normal", "mapping_to_codes", "mapping_to_gaussian"), 0)
        recipe = read_recipe("from-scratch-64")
        assert recipe.reconstruction is not None
        changed = recipe.model_copy(update={"reconstruction": recipe.reconstruction.model_copy(update=part)})
        trainer = make_trainer(changed, device)
        trainer.bank.normal_()
        trainer.banked = len(trainer.bank)
        runs[str(projections)] = trainer
    times: dict[str, list[float]] = {name: [] for name in runs}
    for step in range(turns):
        for name, trainer in runs.items():
            times[name].append(_seconds(trainer, step))
    return {name: 16 / min(seconds) for name, seconds in times.items()}


def main() -> None:
    """Measure and print."""
    tune_allocator()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="Of them, a GPU's first three are not recorded.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels", type=int, default=1, help="Divide the widths, for a quick look.")
    parser.add_argument("--shares", action="store_true", help="Also where our time goes.")
    parser.add_argument("--matching", action="store_true", help="Only what matching costs.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.matching:
        print(json.dumps({"images_per_second": matching(options.turns, options.device)}))
        return
    device, width = options.device, options.channels
    naive = {"plain": make_trainer(benchmark_recipe("float32", width, graphs=False), device)}
    if device != "cpu":
        naive["plain_recorded"] = make_trainer(benchmark_recipe("float32", width), device)
    kinds = {"float32", choose(torch.device(device))}
    runs = {kind: make_trainer(benchmark_recipe(kind, width), device) for kind in sorted(kinds)}
    times: dict[str, dict[int, list[float]]] = {
        name: {step: [] for step in CYCLE} for name in (*naive, *runs)
    }
    for _ in range(options.turns):
        for step in CYCLE:
            with plain():
                for name, trainer in naive.items():
                    times[name][step].append(_seconds(trainer, step))
            for name, trainer in runs.items():
                times[name][step].append(_seconds(trainer, step))
    best = {name: {step: min(turns) for step, turns in by.items()} for name, by in times.items()}
    speed = {name: _images_per_second(seconds) for name, seconds in best.items()}
    labels = {1: "neither", 4: "path_length", 0: "r1_and_path_length"}
    record = {
        "images_per_second": speed,
        "ratio": {name: speed[name] / speed["plain"] for name in times},
        "ratio_by_step": {
            name: {labels[step]: best["plain"][step] / best[name][step] for step in CYCLE} for name in runs
        },
        "threads": 1,
        "device": torch.cuda.get_device_name()
        if device != "cpu"
        else torch.backends.cpu.get_cpu_capability(),
    }
    if options.shares:
        record["shares"] = shares(runs["float32"])
        with plain():
            record["plain_shares"] = shares(naive["plain"])
    print(json.dumps(record) if options.json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
