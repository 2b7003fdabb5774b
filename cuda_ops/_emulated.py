"""The CUDA sources built for a CPU under the SIMT emulator: what the tests prove things about.

`load` registers them as operations under another namespace, with the production binding, shape functions
and gradients; `check_program` links them with a small driver, for the sanitizers.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cuda_ops import _build, _native
from cuda_ops._build import BuildPlan, Step

NAMESPACE = "cuda_ops_emulated"
_FLAGS = ("-std=c++20", "-fPIC", "-fopenmp-simd", "-Wno-unknown-pragmas", "-DCUDA_OPS_EMULATED")
_SMALL_GRID = "-DCUDA_OPS_MAX_BLOCKS=3"  # so that every kernel's loop over the grid runs
_SANITIZERS = {
    "none": ("-O1",),
    "thread": ("-O1", "-g", "-fsanitize=thread", "-DCUDA_OPS_EMU_THREADS", "-DCUDA_OPS_BLOCK=64"),
    "address": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}


def emulated_plan(sources: Path = _build.SOURCES) -> BuildPlan:
    """Plan to build the emulated operations."""
    cxx = _build.find_compiler()
    steps = [_compile(cxx, sources / name, ("-O1",)) for name in ("upfirdn2d.cu", "bias_act.cu")]
    binding = (*_build.torch_flags(), f"-DCUDA_OPS_NAMESPACE={NAMESPACE}")
    steps.append(_compile(cxx, sources / "binding.cpp", binding))
    steps.append(_build.link("cuda_ops_emulated.so", steps, (cxx, "-shared"), ("-ltorch_cpu", "-lc10")))
    return BuildPlan("emulated", tuple(steps), (*_build.identity(sources), _build.version_of(cxx)))


def load() -> None:
    """Build and register the emulated operations; call once in a process."""
    library = _build.build(emulated_plan())
    _native.define(NAMESPACE)
    torch.ops.load_library(str(library))


def check_program(sanitizer: str, sources: Path = _build.SOURCES) -> BuildPlan:
    """Plan to build the driver (`csrc/emulated_check.cpp`) under a sanitizer: none, thread or address."""
    cxx, flags = _build.find_compiler(), _SANITIZERS[sanitizer]
    names = ("upfirdn2d.cu", "bias_act.cu", "cpu_conv3x3.cpp", "emulated_check.cpp")
    steps = [_compile(cxx, sources / name, flags) for name in names]
    steps.append(_build.link("check", steps, (cxx, *flags), ("-pthread",)))
    return BuildPlan(f"check-{sanitizer}", tuple(steps), (*_build.identity(sources), _build.version_of(cxx)))


def _compile(cxx: str, source: Path, flags: tuple[str, ...]) -> Step:
    language = ("-x", "c++") if source.suffix == ".cu" else ()
    return Step(
        f"{source.stem}.o", (str(source),), (cxx, *_FLAGS, _SMALL_GRID, *flags, *language, "-c", "@in")
    )
