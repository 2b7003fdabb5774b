"""Time cuda_ops against what the usual code does, at the shapes of 64, 256 and 1024 px synthesis.

    python -m benchmarks.ops [--json] [--threads N] [--part PART]

Sides, all in one process with the same allocator setting and threads:
(a) zero insertion, padding, convolution, slicing: `cuda_ops.reference`, the usual reference;
(b) torch's strided and transposed depthwise convolutions with torch's own gradients;
(c) `torch.compile` of (a).
Each figure is the least of many runs, in milliseconds: of processor time with one thread, so that neighbours on
the machine count little, of wall time otherwise. A ratio above one means that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

import cuda_ops
from cuda_ops import _conv3x3, _dispatch, bias_act, convolution, fast_torch, upfirdn2d
from cuda_ops.reference import Resample

ROUNDS = 5
SECONDS = 0.1  # spent on a figure at most, once it has three runs
FILTER = cuda_ops.setup_filter([1, 3, 3, 1])
RESAMPLERS = {  # arguments of upfirdn2d
    "up2": {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    "down2": {"down": 2, "padding": (1, 1, 1, 1)},
    "blur": {"padding": (1, 1, 1, 1), "gain": 4.0},
}
SHAPES = {  # (operation, resolution of the network): input
    ("up2", 64): (4, 128, 32, 32),
    ("down2", 64): (4, 128, 64, 64),
    ("blur", 64): (4, 128, 65, 65),
    ("lrelu", 64): (4, 128, 64, 64),
    ("up2", 256): (1, 128, 128, 128),
    ("down2", 256): (1, 64, 256, 256),
    ("blur", 256): (1, 64, 257, 257),
    ("lrelu", 256): (1, 64, 256, 256),
    ("up2", 1024): (1, 32, 512, 512),
    ("down2", 1024): (1, 32, 1024, 1024),
    ("blur", 1024): (1, 32, 1025, 1025),
    ("lrelu", 1024): (1, 32, 1024, 1024),
    ("up2 image", 256): (4, 3, 128, 128),
}
CROSSOVER_SIZES = (8, 16, 32, 64)
CROSSOVER_CHANNELS = (("nchw", 128), ("nhwc", 3), ("nhwc", 16), ("nhwc", 128))
CONVOLUTIONS = {  # name: n, c_in, c_out, size; of the bundled generator, of VGG16, of 256 px synthesis, of AlexNet
    "generator 64": (16, 48, 48, 64),
    "generator 32": (16, 96, 96, 32),
    "generator 16": (16, 192, 192, 16),
    "generator 8": (16, 256, 256, 8),
    "generator 4": (16, 256, 256, 4),
    "VGG16 64": (16, 64, 64, 64),
    "VGG16 32": (16, 128, 128, 32),
    "VGG16 16": (16, 256, 256, 16),
    "VGG16 8": (16, 512, 512, 8),
    "VGG16 4": (16, 512, 512, 4),
    "synthesis 256": (4, 64, 64, 256),
    "synthesis 128": (4, 128, 128, 128),
    "AlexNet 3": (16, 384, 256, 3),
}
PARTS = (
    "ops", "crossover", "second-order", "compile", "convolution", "conv3x3", "synthesis", "allocator", "gpu",
)  # fmt: skip
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

Operation = Callable[[Tensor, Tensor], Tensor]


def clock(device: str = "cpu") -> float:
    """Seconds: of this thread's processor time where one thread does the work."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.thread_time()
    return time.perf_counter()


def least_ms(run: Callable[[], Any], device: str = "cpu") -> float:
    """Least time of a run."""

    def once() -> float:
        started = clock(device)
        run()
        return clock(device) - started

    once()
    times = [once() for _ in range(3)]
    while sum(times) < SECONDS and len(times) < 50:
        times.append(once())
    return 1e3 * min(times)


def sides(name: str, device: str = "cpu") -> dict[str, Operation]:
    """Our operation, and (a) and (b), as functions of images and a bias."""
    if name == "lrelu":
        usual: Operation = lambda x, b: bias_act(x, b, act="lrelu", clamp=256.0, impl="reference")  # noqa: E731
        return {"ours": lambda x, b: bias_act(x, b, act="lrelu", clamp=256.0), "a": usual}
    options: dict[str, Any] = RESAMPLERS[name.split()[0]]
    up, down = options.get("up", 1), options.get("down", 1)
    geometry, gain = Resample(up, up, down, down, *options["padding"]), options.get("gain", 1.0)
    f = FILTER.to(device)

    def strided(x: Tensor, b: Tensor) -> Tensor:
        return fast_torch._resample(x, f, geometry, False, gain)

    return {
        "ours": lambda x, b: upfirdn2d(x, f, **options),
        "a": lambda x, b: upfirdn2d(x, f, **options, impl="reference"),
        "b": strided,
    }


def forward_and_backward(run: Operation, x: Tensor, b: Tensor) -> dict[str, float]:
    """Milliseconds of inference, and of a training step's forward and backward."""
    device = x.device.type
    with torch.no_grad():
        forward = least_ms(lambda: run(x, b), device)
    leaf, bias = x.detach().requires_grad_(), b.detach().requires_grad_()
    dy = torch.randn_like(run(leaf, bias))

    def step() -> None:
        y = run(leaf, bias)
        torch.autograd.grad(y, [leaf, bias], dy, allow_unused=True)

    return {"forward": forward, "both": least_ms(step, device)}


def measure_ops(
    device: str = "cpu", dtype: torch.dtype = torch.float32, compiled: bool = False
) -> dict[str, Any]:
    """Milliseconds of every side at every shape and layout: the median of rounds over inputs elsewhere in memory.

    Where the pages of an input lie decides what shares a set of the caches: up to a fifth of a time, the same in
    every run over that input.
    """
    rows: dict[str, Any] = {}
    rounds = 1 if compiled or device != "cpu" else ROUNDS
    for (name, resolution), shape in SHAPES.items():
        for layout, memory_format in LAYOUTS.items():
            inputs = [
                torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=memory_format)
                for _ in range(rounds)
            ]
            b = torch.randn(shape[1], device=device, dtype=dtype)
            runs = sides(name, device)
            if compiled:
                runs = {"ours": runs["ours"], "c": torch.compile(runs["a"], dynamic=False)}
            found = [{side: forward_and_backward(run, x, b) for side, run in runs.items()} for x in inputs]
            rows[f"{name}/{resolution}/{layout}"] = {
                side: {d: statistics.median(f[side][d] for f in found) for d in ("forward", "both")}
                for side in runs
            }
            torch._dynamo.reset()
    return rows


def measure_second_order() -> dict[str, Any]:
    """Milliseconds of the derivative of a gradient, as R1 and path length take it, channels-last."""
    rows: dict[str, Any] = {}
    for name in RESAMPLERS:
        x = torch.randn(8, 32, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
        rows[f"{name}/second order"] = {}
        for side, run in sides(name).items():
            dy = torch.randn_like(run(x, x)).requires_grad_()

            def twice(run: Operation = run, x: Tensor = x, dy: Tensor = dy) -> None:
                (dx,) = torch.autograd.grad(run(x, x), x, dy, create_graph=True)
                torch.autograd.grad(dx.square().sum(), dy)

            rows[f"{name}/second order"][side] = {"both": least_ms(twice)}
    return rows


def resampler(impl: str, options: dict[str, Any]) -> Operation:
    """upfirdn2d by one implementation."""
    return lambda x, b: upfirdn2d(x, FILTER, **options, impl=impl)


def measure_crossover() -> dict[str, Any]:
    """Milliseconds of the compiled rows (ours) and of the torch form, where the dispatch chooses between them."""
    rows: dict[str, Any] = {}
    for name, options in RESAMPLERS.items():
        for layout, channels in CROSSOVER_CHANNELS:
            for size in CROSSOVER_SIZES:
                side = size + (name == "blur")
                x = torch.randn(4, channels, side, side).contiguous(memory_format=LAYOUTS[layout])

                rows[f"{name}/{layout}/{channels} channels/{size} px"] = {
                    "ours": forward_and_backward(resampler("native", options), x, x),
                    "torch": forward_and_backward(resampler("torch", options), x, x),
                }
    return rows


def ratios(rows: dict[str, Any]) -> dict[str, float]:
    """How many times ours is faster, by shape, direction and side."""
    found = {}
    for row, by_side in rows.items():
        for side in by_side.keys() - {"ours"}:
            for direction, ours in by_side["ours"].items():
                found[f"{row}/{direction}/{side}"] = by_side[side][direction] / ours
    return dict(sorted(found.items()))


# ------------------------------------------------------------------------------------------------ synthesis


def grouped_modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False
) -> Tensor:
    """The usual form: one set of weights per sample, as a grouped convolution over the batch."""
    n, c, h, w = x.shape
    per_sample = weight[None] * style[:, None, :, None, None]
    if demodulate:
        per_sample = per_sample * (per_sample.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, n * c, h, w)
    if up:
        kernel = per_sample.transpose(1, 2).reshape(n * c, -1, *weight.shape[2:])
        x = F.conv_transpose2d(x, kernel, stride=2, groups=n)
    else:
        kernel = per_sample.reshape(-1, c, *weight.shape[2:])
        x = F.conv2d(x, kernel, padding=weight.shape[-1] // 2, groups=n)
    return x.reshape(n, -1, *x.shape[2:])


def measure_synthesis(resolution: int = 256, batch: int = 4) -> dict[str, Any]:
    """Seconds of whole passes, ours and usual, and what the convolutions alone must take.

    ``training``: forward and gradients of all weights. ``projection``: forward and the gradient of the
    latents, weights frozen. ``inference``: forward.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from stylegan_surv.gan import networks
    from stylegan_surv.gan.networks import generator

    torch.manual_seed(0)
    config = networks.GeneratorConfig(resolution, w_dim=512, channel_base=16384)
    synthesis = networks.Generator(config).synthesis
    w = torch.randn(batch, config.num_ws, config.w_dim, requires_grad=True)

    def training() -> None:
        synthesis.requires_grad_(True)
        synthesis(w.detach()).square().mean().backward()

    def projection() -> None:
        synthesis.requires_grad_(False)
        synthesis(w).square().mean().backward()

    def inference() -> None:
        with torch.no_grad():
            synthesis(w.detach())

    steps = (training, projection, inference)
    direct = mock.patch.object(convolution, "_few_products", return_value=False)  # which alone is counted
    with direct, FlopCounterMode(display=False) as counter:
        inference()
    gflop = 3 * counter.get_total_flops() / 1e9  # the gradients of a convolution are two more
    limit = convolution_gflops()
    ours, spent = {step.__name__: seconds(step) for step in steps}, share_of_time(training)
    with (
        mock.patch.object(generator, "modulated_conv", grouped_modulated_conv),
        mock.patch.object(_dispatch, "mode", "reference"),
    ):
        usual = {step.__name__: seconds(step) for step in steps}
    return {
        "ours_s": ours,
        "usual_s": usual,
        "training_gflop": gflop,
        "convolution_gflop_per_s": limit,
        "limit_share": gflop / limit["forward"] / ours["training"],
        **{f"share_{kind}": share for kind, share in spent.items()},
    }


def seconds(step: Callable[[], None], runs: int = 2) -> float:
    """Least time of a long step, once the heap has grown to what it needs."""
    for _ in range(3):
        step()
    times = []
    for _ in range(runs):
        started = clock()
        step()
        times.append(clock() - started)
    return min(times)


KINDS = {  # what a step's time is spent in, by the profiler's names of whole operations
    # forward and gradients of the input; with AVX-512 those of the weights too, which are torch's own there
    "convolution": (
        "aten::conv2d",
        "aten::conv_transpose2d",
        "aten::convolution_backward",
        "cuda_ops::conv3x3",
        "cuda_ops::conv3x3_weights",
    ),
    "weight_gradient": ("_Match",),
    "cuda_ops": tuple(
        f"cuda_ops::{name}" for name in ("upfirdn2d", "bias_act", "bias_act_grad", "bias_act_grad2")
    ),
    "strided_resampling": ("_Resampler", "_ResamplerBackward"),
}


def share_of_time(step: Callable[[], None]) -> dict[str, float]:
    """Shares of a step's time by what it is spent in."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = {event.key: event for event in profile.key_averages()}
    spent = {
        kind: sum(events[name].cpu_time_total for name in names if name in events)
        for kind, names in KINDS.items()
    }
    # the strided form of a resampler is a convolution too
    spent["convolution"] -= spent["strided_resampling"]
    total = sum(event.self_cpu_time_total for event in events.values())
    return {
        **{kind: time / total for kind, time in spent.items()},
        "other": 1 - sum(spent.values()) / total,
    }


def convolution_gflops() -> dict[str, float]:
    """GFLOP/s of a 3x3 convolution of the network's middle and of its gradients, channels-last."""
    x = torch.randn(4, 128, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(128, 128, 3, 3, requires_grad=True)
    gflop = 2 * 9 * 128 * 128 * 4 * 64 * 64 / 1e9
    with torch.no_grad():
        forward = least_ms(lambda: F.conv2d(x, weight, padding=1))
    dy = torch.randn_like(x)

    def gradient(convolve: Callable[..., Tensor], *of: Tensor) -> float:
        return least_ms(lambda: torch.autograd.grad(convolve(x, weight, padding=1), of, dy)) - forward

    to_input, to_weight = gradient(F.conv2d, x), gradient(F.conv2d, weight)
    products = mock.patch.object(convolution, "_few_products", return_value=False)
    with mock.patch.object(convolution, "_SLOW_GRADIENT", True), products:
        ours = gradient(convolution.conv2d, x, weight) - to_input
    times = {
        "forward": forward,
        "input_gradient": to_input,
        "weight_gradient_onednn": to_weight,
        "weight_gradient_ours": ours,
    }
    return {name: 1e3 * gflop / ms for name, ms in times.items()}


def measure_conv3x3() -> dict[str, Any]:
    """Frozen 3×3 convolutions between scales, as in a projector's step: ours, and torch's with its multiplications.

    Milliseconds of the forward pass and of a pass with the gradients of image and scales; the error is the largest,
    in root mean squares of the result.
    """
    rows: dict[str, Any] = {}
    for name, (n, c, k, size) in CONVOLUTIONS.items():
        x = torch.randn(n, c, size, size).contiguous(memory_format=torch.channels_last)
        weight = (torch.randn(k, c, 3, 3) / (9 * c) ** 0.5).contiguous(memory_format=torch.channels_last)
        scales = torch.rand(n, c) + 0.5, torch.rand(n, k) + 0.5
        exact = convolution.scaled_conv2d(*(t.double() for t in (x, weight, *scales)))
        leaves = [t.requires_grad_() for t in (x, *scales)]
        dy = torch.randn_like(exact, dtype=torch.float32)

        def run() -> Tensor:
            return convolution.scaled_conv2d(leaves[0], weight, leaves[1], leaves[2])  # noqa: B023

        rows[name] = {}
        for side, ours in (("ours", True), ("b", False)):
            with (
                mock.patch.object(_conv3x3, "_MEASURED", ours),
                mock.patch.object(_conv3x3, "_SMALLEST", 1),
            ):
                with torch.no_grad():
                    forward = least_ms(run)
                both = least_ms(lambda: torch.autograd.grad(run(), leaves, dy))  # noqa: B023
                error = (run().detach().double() - exact).abs().max() / exact.square().mean().sqrt()
            rows[name][side] = {"forward": forward, "both": both, "error": float(error)}
    return rows


# ------------------------------------------------------------------------------------------------ allocator


def measure_allocator() -> dict[str, Any]:
    """The same code under the system's allocator settings and ours, in fresh processes."""
    found = {}
    for setting in ("system", "tuned"):
        environment = {**os.environ, "STYLEGAN_SURV_ALLOCATOR": setting}
        command = [sys.executable, "-m", "benchmarks.ops", "--part", "under-this-allocator"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found[setting] = json.loads(done.stdout)
    return found


def under_this_allocator() -> dict[str, float]:
    """Large element-wise work, and two threads that allocate and free at once."""
    x = torch.randn(1, 32, 1024, 1024)
    with torch.no_grad():
        one = least_ms(lambda: F.leaky_relu(x, 0.2))

    def churn() -> None:
        for _ in range(50):
            torch.empty(1 << 22).fill_(1.0)  # 16 MiB, written, freed
            for _ in range(20):
                torch.empty(1 << 10)

    def in_threads() -> None:
        pool = [threading.Thread(target=churn) for _ in range(2)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()

    alone = least_ms(churn)
    started, wall = time.process_time(), time.perf_counter()
    in_threads()
    return {
        "leaky_relu_128MiB_ms": one,
        "churn_1_thread_ms": alone,
        "churn_2_threads_cpu_ms": 1e3 * (time.process_time() - started),  # of both together
        "churn_2_threads_wall_ms": 1e3 * (time.perf_counter() - wall),  # waiting for the arena's lock too
    }


# ------------------------------------------------------------------------------------------------- printing


def main() -> None:
    cuda_ops.tune_allocator()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--part", action="append", help=f"only this part, may be repeated: {', '.join(PARTS)}"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part == ["under-this-allocator"]:
        print(json.dumps(under_this_allocator()))
        return
    parts = options.part or list(PARTS)
    result: dict[str, Any] = {
        "threads": options.threads,
        "allocator": cuda_ops.status().allocator,
        "ratio": {},
    }
    for part in parts:
        result.update(measure(part, result["ratio"]))
    if options.json:
        print(json.dumps(result))
    else:
        print_tables(result)


def measure(part: str, ratio: dict[str, float]) -> dict[str, Any]:
    """Run one part, adding its ratios."""
    if part in ("ops", "compile"):
        rows = measure_ops(compiled=part == "compile")
        ratio.update(ratios(rows))
    elif part == "crossover":
        rows = measure_crossover()
        ratio.update(ratios(rows))
    elif part == "second-order":
        rows = measure_second_order()
        ratio.update(ratios(rows))
    elif part == "convolution":
        rows = convolution_gflops()
    elif part == "conv3x3":
        rows = measure_conv3x3()
        ratio.update(ratios(rows))
    elif part == "synthesis":
        rows = measure_synthesis()
        for step, usual in rows["usual_s"].items():
            ratio[f"synthesis/256/{step}/a"] = usual / rows["ours_s"][step]
    elif part == "allocator":
        rows = measure_allocator()
        for name in rows["tuned"]:
            ratio[f"allocator/{name.removesuffix('_ms')}"] = rows["system"][name] / rows["tuned"][name]
    elif part == "gpu":
        if not torch.cuda.is_available():
            return {"gpu": "no GPU"}
        rows = {}
        for dtype in (torch.float32, torch.float16):
            for compiled in (False, True):
                for name, row in measure_ops("cuda", dtype, compiled).items():
                    rows.setdefault(f"cuda-{str(dtype).removeprefix('torch.')}/{name}", {}).update(row)
        ratio.update(ratios(rows))
    else:
        raise SystemExit(f"unknown part {part!r}")
    return {part: rows}


def print_tables(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if name in ("ops", "crossover", "compile", "conv3x3"):
            print(f"\n{name}, ms: forward | forward + backward")
            for row, by_side in value.items():
                cells = [f"{side} {ms['forward']:8.2f} | {ms['both']:8.2f}" for side, ms in by_side.items()]
                print(f"{row:<20} {'   '.join(cells)}")
        elif name != "ratio":
            print(f"\n{name}: {json.dumps(value, indent=2) if isinstance(value, dict) else value}")
    print("\ntimes faster")
    for row, value in result["ratio"].items():
        print(f"{row:<40} {value:6.2f}")


if __name__ == "__main__":
    main()
