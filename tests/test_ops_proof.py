"""What can be proved of the CUDA kernels without a GPU, and that each proof notices a planted defect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from cuda_ops import _build, _emulated, _ptxas

REGISTERS = 128  # a block of 256 threads then fits an SM of 32 K registers at least once, of 64 K twice
SHARED_BYTES = 48 * 1024  # what every GPU has without asking
SUPPORTED = ("75", "80", "86", "87", "88", "89", "90", "100", "103", "110", "120", "121")

needs_nvcc = pytest.mark.skipif(
    shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(),
    reason="nvcc is not installed",
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(tmp_path / "cache"))
    return tmp_path


def planted(folder, source, old, new, count=1):
    """A copy of the sources with one line changed."""
    sources = folder / "csrc"
    shutil.copytree(_build.SOURCES, sources)
    text = (sources / source).read_text()
    assert text.count(old) >= 1, f"{old!r} is no longer in {source}: plant the defect elsewhere"
    (sources / source).write_text(text.replace(old, new, count))
    return sources


def over_budget(kernels):
    return [k for k in kernels if k.registers > REGISTERS or k.spilled or k.shared > SHARED_BYTES]


def stub_libraries(folder):
    """Empty stand-ins for the libraries of a CUDA torch, with the one function that the binding takes."""
    folder.mkdir()
    stream = folder / "stream.cpp"
    stream.write_text(
        'extern "C" int aoti_torch_get_current_cuda_stream(int, void** s) { *s = nullptr; return 0; }'
    )
    library = folder / "libtorch_cuda.so"
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-Wl,-soname,libtorch_cuda.so", str(stream), "-o", str(library)],
        check=True,
    )
    return folder


LOAD = """
import sys, torch
from cuda_ops import _native
torch.ops.load_library(sys.argv[1])
for name in ("upfirdn2d", "bias_act", "bias_act_grad", "bias_act_grad2"):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"cuda_ops::{name}", "CUDA"), name
"""


def build_for(names, folder):
    version = _build.version_of(_build.find_nvcc()).partition("release ")[2].partition(",")[0]
    return _build.build(_build.cuda_plan_for(names, version, stub_libraries(folder / "stubs")))


@needs_nvcc
def test_the_production_build_fits_its_budget_links_and_registers(cache):
    library = build_for(("80",), cache)
    kernels = _ptxas.usage((library.parent / "build.log").read_text())
    assert len({k.kernel for k in kernels}) >= 250, "fewer kernels than dtypes, activations and orders make"
    assert over_budget(kernels) == []
    environment = {"LD_LIBRARY_PATH": str(cache / "stubs"), "PATH": "/usr/bin:/bin", "HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(library)],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@needs_nvcc
def test_nvcc_takes_the_architectures_that_are_asked_of_it(monkeypatch):
    """A listed one that it no longer knows is left out, "+PTX" included; of the others it says nothing."""
    nvcc = _build.find_nvcc()
    version = _build.version_of(nvcc).partition("release ")[2].partition(",")[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "2.0+PTX;8.0;9.0a;9.0+PTX")
    plan = _build.cuda_plan()
    assert _build.architectures(nvcc).names == ("80", "90a", "90+PTX")
    (remark,) = plan.remarks
    assert "20+PTX is left out" in remark
    assert "compute_20" in remark
    step = next(step for step in plan.steps if step.output == "bias_act.o")
    dry = subprocess.run([*step.words(), "-o", step.output, "--dryrun"], capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    assert "compute_90" in dry.stderr


@pytest.mark.slow
@needs_nvcc
def test_every_supported_architecture_compiles_within_the_budget(cache, monkeypatch):
    monkeypatch.setattr(_build, "BUILD_SECONDS", 3600.0)  # twelve architectures
    listed = subprocess.run([_build.find_nvcc(), "--list-gpu-code"], capture_output=True, text=True).stdout
    here = tuple(name for name in SUPPORTED if f"sm_{name}" in listed.split())
    assert here
    kernels = _ptxas.usage((build_for(here, cache).parent / "build.log").read_text())
    counts = Counter(k.architecture for k in kernels)
    assert set(counts) == set(here)
    assert len(set(counts.values())) == 1, f"not the same kernels on every architecture: {counts}"
    assert over_budget(kernels) == []


def test_the_budget_notices_a_spill():
    """The parser, on what ptxas prints for a kernel that spills, one with many registers and a good one."""
    log = """ptxas info    : Compiling entry function 'spills' for 'sm_80'
ptxas info    : Function properties for spills
    40 bytes stack frame, 36 bytes spill stores, 40 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8976 bytes smem, 560 bytes cmem[0]
ptxas info    : Compiling entry function 'greedy' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 200 registers, used 0 barriers, 560 bytes cmem[0]
ptxas info    : Compiling entry function 'good' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 2448 bytes smem, 560 bytes cmem[0]
"""
    assert [k.kernel for k in over_budget(_ptxas.usage(log))] == ["spills", "greedy"]


@pytest.mark.slow
@needs_nvcc
def test_a_planted_spill_is_found_by_ptxas(tmp_path):
    bound = "template <class T, class S>\n__global__ void upfirdn2d_tile("
    sources = planted(
        tmp_path, "upfirdn2d.cu", bound, bound.replace("void", "void __launch_bounds__(256, 8)")
    )  # eight blocks an SM leave 32 registers a thread
    command = [_build.find_nvcc(), "-O3", "-std=c++17", "-arch=sm_80", "-Xptxas=-v", "-cubin"]
    done = subprocess.run(
        [*command, str(sources / "upfirdn2d.cu"), "-o", str(tmp_path / "k.cubin")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert any(k.spilled for k in over_budget(_ptxas.usage(done.stderr)))


def run_check(sanitizer, sources=_build.SOURCES, order="forward"):
    program = _build.build(_emulated.check_program(sanitizer, sources))
    environment = {"CUDA_OPS_EMU_ORDER": order, "TSAN_OPTIONS": "halt_on_error=0"}
    return subprocess.run([str(program)], env=environment, capture_output=True, text=True, timeout=500)


FIRST, SECOND = (
    "__syncthreads();  // the tile before has been used",
    "__syncthreads();  // the tile is complete",
)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_the_sanitizers_have_nothing_to_say(sanitizer):
    done = run_check(sanitizer)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING: ThreadSanitizer" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a race is seen where threads do overlap: two cores"
)
@pytest.mark.parametrize("barrier", [FIRST, SECOND])
def test_a_removed_barrier_is_a_data_race_to_tsan(cache, barrier):
    sources = planted(cache, "upfirdn2d.cu", barrier, "// removed")
    runs = (run_check("thread", sources) for _ in range(5))  # a race is seen when the threads do overlap
    assert any(done.returncode != 0 and "data race" in done.stderr for done in runs)


@pytest.mark.slow
def test_a_removed_barrier_changes_the_result_with_the_thread_order(cache):
    good = run_check("none")
    assert good.returncode == 0, good.stderr
    for order in ("reverse", "random"):
        assert run_check("none", order=order).stdout == good.stdout
    sources = planted(cache, "upfirdn2d.cu", SECOND, "// removed")
    assert run_check("none", sources, "random").stdout != good.stdout


@pytest.mark.slow
def test_a_divergent_barrier_aborts(cache):
    sources = planted(cache, "upfirdn2d.cu", SECOND, "if (threadIdx.x > 7) __syncthreads();")
    done = run_check("none", sources)
    assert done.returncode != 0
    assert "divergent barrier" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("upfirdn2d.cu", "px < a.in_w;\n      tile", "px <= a.in_w;\n      tile"),
        ("cpu_conv3x3.cpp", "top + 6 <= a.h", "top + 5 <= a.h"),
        ("cpu_conv3x3.cpp", "if (i < height)", "if (i <= height)"),
    ],
)
def test_an_off_by_one_is_found_by_asan(cache, file, right, wrong):
    sources = planted(cache, file, right, wrong)
    done = run_check("address", sources)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_the_benchmark_says_where_there_is_no_gpu(monkeypatch):
    from benchmarks.ops import measure

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert measure("gpu", {}) == {"gpu": "no GPU"}


@pytest.mark.gpu
def test_there_is_a_gpu_for_the_gpu_tests():
    assert torch.cuda.is_available(), "run the tests marked gpu on a machine with an NVIDIA GPU and nvcc"
