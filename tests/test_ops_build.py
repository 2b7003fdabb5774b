"""A build that goes wrong never hurts: each accident ends in seconds, with working operations."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cuda_ops import _build
from cuda_ops._build import BuildPlan, Step

ROOT = Path(__file__).parents[1]

USE = """
import json, time, warnings
started = time.monotonic()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, cuda_ops
    imported = time.monotonic() - started
    x = torch.randn(1, 2, 64, 64)
    for _ in range(2):
        y = cuda_ops.upfirdn2d(x, cuda_ops.setup_filter([1, 3, 3, 1]), up=2, padding=(2, 1))
    wanted = cuda_ops.upfirdn2d(x, cuda_ops.setup_filter([1, 3, 3, 1]), up=2, padding=(2, 1), impl="reference")
device = cuda_ops.status(build=False).devices[0]
print(json.dumps({
    "right": bool(torch.allclose(y, wanted, atol=1e-6)),
    "implementation": device.implementation,
    "reason": device.reason,
    "warnings": [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)],
    "seconds": time.monotonic() - started - imported,
}))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(tmp_path / "cache"))
    return tmp_path


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def compiler(folder, before="", name="cxx"):
    """A compiler that notes each call in ``calls`` and does as told before it works."""
    return script(
        folder / name,
        f"""import os, sys, time
if "--version" in sys.argv: print("{name} 1.0"); sys.exit()
with open({str(folder / "calls")!r}, "a") as calls: calls.write("x")
{before}
os.execvp("g++", ["g++", *sys.argv[1:]])
""",
    )


def calls(folder):
    path = folder / "calls"
    return len(path.read_text()) if path.exists() else 0


def tiny_plan(folder, cxx):
    source = folder / "tiny.cpp"
    source.write_text("int answer() { return 42; }\n")
    compile_step = Step("tiny.o", (str(source),), (str(cxx), "-fPIC", "-c", "@in"))
    link_step = Step("tiny.so", ("tiny.o",), (str(cxx), "-shared", "@in"))
    return BuildPlan("tiny", (compile_step, link_step), ("1",))


def use(environment):
    """Run the operations in a fresh process; the environment replaces variables, None removes one."""
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    whole = {key: value for key, value in whole.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=whole, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_fell_back(found, cause):
    assert found["right"]
    assert found["implementation"] == "torch"
    assert found["seconds"] < 60
    assert len(found["warnings"]) == 1
    assert cause in found["warnings"][0]


def test_without_a_compiler_torch_takes_over(tmp_path):
    found = use({"PATH": str(tmp_path), "CXX": None, "STYLEGAN_SURV_CACHE": str(tmp_path / "c")})
    assert_fell_back(found, "no C++ compiler found")


def test_an_unusable_cache_folder_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_fell_back(use({"STYLEGAN_SURV_CACHE": str(tmp_path / "file")}), "cannot be used")


def test_a_failing_compiler_is_tried_once_and_again_when_asked(tmp_path):
    broken = compiler(tmp_path, "print('boom: no such flag'); sys.exit(1)")
    environment = {"CXX": str(broken), "STYLEGAN_SURV_CACHE": str(tmp_path / "cache")}
    assert_fell_back(use(environment), "boom: no such flag")
    tried = calls(tmp_path)
    assert tried > 0
    assert_fell_back(use(environment), "an earlier build failed")
    assert calls(tmp_path) == tried
    report, _ = doctor("--rebuild", "--json", **environment)
    cpu = json.loads(report)["devices"][0]
    assert calls(tmp_path) > tried
    assert cpu["implementation"] == "torch"
    assert "boom: no such flag" in cpu["log"]


def test_require_refuses_to_fall_back(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env={**os.environ, "PATH": str(tmp_path), "CXX": "", "STYLEGAN_SURV_OPS": "require",
             "STYLEGAN_SURV_CACHE": str(tmp_path / "c")},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "STYLEGAN_SURV_OPS=require" in done.stderr
    assert "no C++ compiler found" in done.stderr


def test_torch_mode_and_import_compile_nothing(tmp_path):
    environment = {"CXX": str(compiler(tmp_path)), "STYLEGAN_SURV_CACHE": str(tmp_path / "cache")}
    found = use({**environment, "STYLEGAN_SURV_OPS": "torch"})
    assert found["right"]
    assert found["warnings"] == []
    assert calls(tmp_path) == 0
    assert not (tmp_path / "cache").exists()


def test_unknown_modes_are_said_and_nothing_else_is_lost():
    report, error = doctor(STYLEGAN_SURV_OPS="nonsense", STYLEGAN_SURV_ALLOCATOR="")
    assert "STYLEGAN_SURV_ALLOCATOR is ''; expected tuned or system" in error
    assert "STYLEGAN_SURV_OPS is 'nonsense'; expected one of auto, native" in error
    assert "auto (STYLEGAN_SURV_OPS)" in report


BUILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_ops_build import tiny_plan
from cuda_ops import _build
print(_build.build(tiny_plan(Path({folder!r}), {cxx!r})))
"""


def start_build(folder, cxx):
    code = BUILD.format(tests=str(ROOT / "tests"), folder=str(folder), cxx=str(cxx))
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_once(cache):
    cxx = compiler(cache, "time.sleep(1)")
    both = [start_build(cache, cxx) for _ in range(2)]
    paths = {process.communicate(timeout=120)[0].strip() for process in both}
    assert len(paths) == 1
    assert Path(paths.pop()).exists()
    assert calls(cache) == 2  # one to compile, one to link


def test_a_killed_build_leaves_nothing_in_the_way(cache):
    marker = cache / "calls"
    killed = start_build(
        cache, compiler(cache, f"while not os.path.exists({str(cache / 'go')!r}): time.sleep(0.1)")
    )
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = list(_build.cache_folder().glob("*.tmp"))
    assert len(left) == 1, "the kill came too late to mean anything"
    started = time.monotonic()
    (cache / "go").touch()  # lets the orphaned compiler end, and the next one run
    library = _build.build(tiny_plan(cache, cache / "cxx"))
    assert library.exists()
    assert time.monotonic() - started < 30
    assert list(_build.cache_folder().glob("*.tmp")) == []


def test_a_build_that_takes_too_long_is_stopped_whole(cache, monkeypatch):
    monkeypatch.setattr(_build, "BUILD_SECONDS", 3.0)
    started = time.monotonic()
    note = f"open({str(cache / 'pid')!r}, 'w').write(str(os.getpid())); "
    with pytest.raises(_build.BuildError, match="stopped after"):
        _build.build(tiny_plan(cache, compiler(cache, note + "time.sleep(60)")))
    assert time.monotonic() - started < 20
    stat = Path(f"/proc/{(cache / 'pid').read_text()}/stat")
    ended = not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX"  # if not yet buried
    assert ended


def test_a_library_that_somebody_has_removed_is_built_again(cache):
    plan = tiny_plan(cache, compiler(cache))
    _build.build(plan).unlink()
    assert _build.build(plan).exists()
    assert _build.build(plan).parent.stat().st_mode & 0o055 == 0o055


def test_a_compiler_that_was_killed_is_tried_again(cache):
    killed = "os.kill(os.getpid(), 9) if not os.path.exists(sys.argv[0] + '.again') else None"
    plan = tiny_plan(cache, compiler(cache, killed))
    with pytest.raises(_build.BuildError, match="the build ended with status"):
        _build.build(plan)
    (cache / "cxx.again").touch()
    assert _build.build(plan).exists()


def test_paths_with_spaces_and_dollars_build(tmp_path, monkeypatch):
    folder = tmp_path / "a $folder: name"
    folder.mkdir()
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(folder))
    assert _build.build(tiny_plan(folder, compiler(folder))).exists()


def test_the_key_tells_configurations_apart(cache, monkeypatch):
    plan = _build.cpu_plan()
    assert _build.cpu_plan().key == plan.key
    keys = {plan.key}
    for name, other in (
        ("identity", lambda *a: ("other sources",)),
        ("_processor", lambda: "another processor"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(_build, name, other)
            keys.add(_build.cpu_plan().key)
    monkeypatch.setenv("CXX", str(compiler(cache)))
    keys.add(_build.cpu_plan().key)
    assert len(keys) == 4


def nvcc_that_knows(folder, monkeypatch, known):
    """The only nvcc here: prints a version, and refuses architectures as nvcc does."""
    (folder / "bin").mkdir()
    script(
        folder / "bin" / "nvcc",
        f"""import re, sys
if "--version" in sys.argv: print("Cuda compilation tools, release 13.0, V13.0.88"); sys.exit()
for name in re.findall(r"arch=compute_(\\w+)", " ".join(sys.argv)):
    if name not in {known!r}:
        print(f"nvcc fatal   : Unsupported gpu architecture 'compute_{{name}}'", file=sys.stderr); sys.exit(1)
""",
    )
    monkeypatch.setenv("CUDA_HOME", str(folder))
    monkeypatch.setattr("torch.version.cuda", "13.0")


def see_devices(monkeypatch, *capabilities):
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(capabilities))
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(capabilities))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda i: capabilities[i])


def code_of(plan):
    """What the device sources are compiled to."""
    words = next(step for step in plan.steps if step.output == "bias_act.o").words()
    return [word.partition(",code=")[2] for word in words if word.startswith("-gencode")]


@pytest.mark.parametrize(
    ("listed", "devices", "code", "remarks"),
    [
        ("", [(9, 0), (8, 0), (9, 0)], "sm_80 sm_90", []),
        ("8.0;9.0", [], "sm_80 sm_90", []),
        ("8.0 9.0+PTX", [], "sm_80 sm_90 compute_90", []),
        ("8.0;8.0+PTX", [], "sm_80 compute_80", []),
        (
            "7.0;8.0",
            [],
            "sm_80",
            ["70 is left out: nvcc fatal   : Unsupported gpu architecture 'compute_70'"],
        ),
        ("8.0", [(8, 6)], "sm_80", []),
        ("8.0", [(8, 7)], "sm_80 sm_87", ["87 is added"]),
        ("8.6", [(8, 0)], "sm_86 sm_80", ["80 is added"]),
        ("8.0+PTX", [(12, 0)], "sm_80 compute_80", []),
        ("9.0+PTX", [(8, 0), (9, 0)], "sm_90 compute_90 sm_80", ["80 is added"]),
        ("9.0a", [(9, 0)], "sm_90a", []),
        ("7.0+PTX", [(8, 0)], "sm_80", ["70+PTX is left out", "80 is added"]),
        ("8.0", [(15, 0)], "sm_80", ["150 is left out"]),
    ],
)
def test_the_architectures_are_those_listed_known_and_visible(
    tmp_path, monkeypatch, listed, devices, code, remarks
):
    nvcc_that_knows(tmp_path, monkeypatch, ("80", "86", "87", "90", "90a"))
    see_devices(monkeypatch, *devices)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    plan = _build.cuda_plan()
    assert code_of(plan) == code.split()
    assert len(plan.remarks) == len(remarks)
    for got, wanted in zip(plan.remarks, remarks, strict=True):
        assert f"architecture {wanted}" in got


def test_without_a_known_architecture_the_reason_is_nvccs(tmp_path, monkeypatch):
    nvcc_that_knows(tmp_path, monkeypatch, ("80",))
    see_devices(monkeypatch)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "5.2;Ampere")
    with pytest.raises(_build.BuildError, match=r"52 is left out: .*'compute_52'; .*'compute_Ampere'"):
        _build.cuda_plan()
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    with pytest.raises(_build.BuildError, match="TORCH_CUDA_ARCH_LIST is not set"):
        _build.cuda_plan()


@pytest.mark.parametrize("before", ["", "print('boom'); sys.exit(1)"])
def test_the_log_ends_with_what_was_decided(cache, before):
    plan = replace(tiny_plan(cache, compiler(cache, before)), remarks=("architecture 70 is left out",))
    with pytest.raises(_build.BuildError, match="70 is left out") if before else nullcontext():
        _build.build(plan)
    assert "architecture 70 is left out" in _build.build_log(plan).read_text()


def doctor(*options, **environment):
    """(report, standard error) of the command in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "stylegan_surv", "doctor", *options],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("options", [(), ("--rebuild",)])
def test_doctor_reports_where_kernels_are_required_and_fail(tmp_path, options):
    broken = compiler(tmp_path, "print('boom: no such flag'); sys.exit(1)")
    report, error = doctor(
        *options, CXX=str(broken), STYLEGAN_SURV_OPS="require", STYLEGAN_SURV_CACHE=str(tmp_path / "cache")
    )
    assert error == ""
    (row,) = (line for line in report.splitlines() if line.startswith("cpu kernels"))
    assert "none: STYLEGAN_SURV_OPS=require" in row
    assert "boom: no such flag" in report


@pytest.mark.parametrize("options", [(), ("--rebuild",)])
def test_doctor_reports_where_a_file_is_in_place_of_the_cache(tmp_path, options):
    (tmp_path / "file").write_text("in the way")
    report, error = doctor(*options, STYLEGAN_SURV_CACHE=str(tmp_path / "file"))
    assert error == ""
    (row,) = (line for line in report.splitlines() if line.startswith("cpu kernels"))
    assert f"torch: the cache folder {tmp_path / 'file'}" in row
    assert "cannot be used" in row


def test_doctor_tells_what_runs_and_why(monkeypatch):
    from click.testing import CliRunner

    from stylegan_surv.cli import cli

    monkeypatch.setattr("cuda_ops._dispatch.mode", "torch")
    shown = CliRunner().invoke(cli, ["doctor"])
    assert shown.exit_code == 0, shown.output
    for line in ("compiler", "nvcc", "CUDA architectures", "cache", "allocator"):
        assert line in shown.output
    assert "torch: STYLEGAN_SURV_OPS=torch" in shown.output
