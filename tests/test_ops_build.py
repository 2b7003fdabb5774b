"""A build that goes wrong never hurts: each accident ends in seconds, with working operations."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cuda_ops import _build
from cuda_ops._build import Recipe, Step

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


def tiny_recipe(folder, cxx):
    source = folder / "tiny.cpp"
    source.write_text("int answer() { return 42; }\n")
    compile_step = Step("tiny.o", (str(source),), (str(cxx), "-fPIC", "-c", "@in"))
    link_step = Step("tiny.so", ("tiny.o",), (str(cxx), "-shared", "@in"))
    return Recipe("tiny", (compile_step, link_step), ("1",))


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
    doctor = [sys.executable, "-m", "stylegan_surv", "doctor", "--rebuild", "--json"]
    done = subprocess.run(doctor, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cpu = json.loads(done.stdout)["devices"][0]
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


BUILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_ops_build import tiny_recipe
from cuda_ops import _build
print(_build.build(tiny_recipe(Path({folder!r}), {cxx!r})))
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
    library = _build.build(tiny_recipe(cache, cache / "cxx"))
    assert library.exists()
    assert time.monotonic() - started < 30
    assert list(_build.cache_folder().glob("*.tmp")) == []


def test_a_build_that_takes_too_long_is_stopped_whole(cache, monkeypatch):
    monkeypatch.setattr(_build, "BUILD_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(_build.BuildError, match="stopped after"):
        _build.build(tiny_recipe(cache, compiler(cache, "time.sleep(60)")))
    assert time.monotonic() - started < 20


def test_paths_with_spaces_and_dollars_build(tmp_path, monkeypatch):
    folder = tmp_path / "a $folder: name"
    folder.mkdir()
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(folder))
    assert _build.build(tiny_recipe(folder, compiler(folder))).exists()


def test_the_key_tells_configurations_apart(cache, monkeypatch):
    recipe = _build.cpu_recipe()
    assert _build.cpu_recipe().key == recipe.key
    keys = {recipe.key}
    for name, other in (
        ("identity", lambda *a: ("other sources",)),
        ("_processor", lambda: "another processor"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(_build, name, other)
            keys.add(_build.cpu_recipe().key)
    monkeypatch.setenv("CXX", str(compiler(cache)))
    keys.add(_build.cpu_recipe().key)
    assert len(keys) == 4


def test_doctor_tells_what_runs_and_why(monkeypatch):
    from click.testing import CliRunner

    from stylegan_surv.cli import cli

    monkeypatch.setattr("cuda_ops._dispatch.mode", "torch")
    shown = CliRunner().invoke(cli, ["doctor"])
    assert shown.exit_code == 0, shown.output
    for line in ("compiler", "nvcc", "CUDA architectures", "cache", "allocator"):
        assert line in shown.output
    assert "torch: STYLEGAN_SURV_OPS=torch" in shown.output
