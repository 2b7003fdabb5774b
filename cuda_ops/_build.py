"""Compile the kernels once per machine and configuration, in a way that cannot hang or half-finish.

A build happens in a folder of its own beside the cache, under a lock that the system releases when its
holder dies, and is renamed into place when it is complete. Whatever goes wrong raises `BuildError` with
the cause; the caller falls back to torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "csrc"
BUILD_SECONDS = 600.0  # a build that takes longer is stopped
WAIT_SECONDS = 900.0  # so long another process's build is waited for
_STABLE_ABI = "0x020a000000000000"  # torch 2.10, the oldest that has what the binding uses
_LOG_LINES = 12
# a step that was killed from outside, or a full disk or memory: worth another try
_NOT_ITS_FAULT = ("Killed", "signal terminated", "status 137", "No space left", "annot allocate memory")
_GRACE = 5.0  # seconds that ninja has to end its jobs


class BuildError(RuntimeError):
    """The kernels could not be built; the message is the cause."""


@dataclass(frozen=True)
class Step:
    """One command: a source to an object, or the objects to the library."""

    output: str
    inputs: tuple[str, ...]
    command: tuple[str, ...]  # "@in" stands for the inputs

    def words(self) -> tuple[str, ...]:
        """The command with its inputs."""
        at = self.command.index("@in")
        return (*self.command[:at], *self.inputs, *self.command[at + 1 :])


@dataclass(frozen=True)
class BuildPlan:
    """Everything that decides what a library contains."""

    name: str
    steps: tuple[Step, ...]
    identity: tuple[str, ...]  # what the commands do not show: versions, sources, processor
    remarks: tuple[str, ...] = ()  # what was decided against the user's wish, and why; for the log

    @property
    def key(self) -> str:
        """Digest of the plan, and the name of its folder in the cache."""
        commands = [" ".join((*step.words(), step.output)) for step in self.steps]
        digest = hashlib.sha256("\0".join((*commands, *self.identity)).encode()).hexdigest()
        return f"{self.name}-{digest[:16]}"


def cache_folder() -> Path:
    """Folder of built libraries; `STYLEGAN_SURV_CACHE` moves it."""
    home = os.environ.get("STYLEGAN_SURV_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).expanduser() / "stylegan-surv" / "cuda_ops"


def find_compiler() -> str:
    """Path of the C++ compiler: `CXX`, or the first of c++, g++, clang++."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("no C++ compiler found (CXX, c++, g++, clang++)")


def find_nvcc() -> str:
    """Path of nvcc: under `CUDA_HOME`, on the path, or in /usr/local/cuda."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (path := shutil.which("nvcc", path=str(Path(home) / "bin"))):
            return path
    if path := shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return path
    raise BuildError("no nvcc found (CUDA_HOME, path, /usr/local/cuda)")


def find_ninja() -> str:
    """Path of ninja: of its Python package, or on the path."""
    try:
        import ninja

        return str(Path(ninja.BIN_DIR) / "ninja")
    except ImportError:
        if path := shutil.which("ninja"):
            return path
    raise BuildError("no ninja found: pip install ninja")


@cache
def version_of(tool: str) -> str:
    """Output of ``tool --version``."""
    try:
        return subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise BuildError(f"{tool} --version failed: {problem}") from problem


@dataclass(frozen=True)
class Architectures:
    """CUDA architectures to build for ("80", or "90+PTX" for later ones too), and why not others."""

    names: tuple[str, ...]
    remarks: tuple[str, ...]


def architectures(nvcc: str) -> Architectures:
    """Those of `TORCH_CUDA_ARCH_LIST` that ``nvcc`` knows, and those of visible devices that none of them fits."""
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(".", "").replace(";", " ").split()
    visible = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    devices = sorted({"{}{}".format(*torch.cuda.get_device_capability(i)) for i in visible})
    if not listed and not devices:
        raise BuildError("no CUDA device is visible and TORCH_CUDA_ARCH_LIST is not set")
    known = [name for name in listed if not _refusal(nvcc, name)]
    missing = [device for device in devices if not any(_fits(name, device) for name in known)]
    wanted = dict.fromkeys((*listed, *missing))
    refused = {name: refusal for name in wanted if (refusal := _refusal(nvcc, name))}
    remarks = [f"architecture {name} is left out: {refusal}" for name, refusal in refused.items()]
    if listed:
        why = "is added: a visible device has it, and none that is listed fits"
        remarks += [f"architecture {name} {why}" for name in missing if name not in refused]
    names = tuple(name for name in wanted if name not in refused)
    if not names:
        raise BuildError("; ".join(remarks))
    return Architectures(names, tuple(remarks))


def _fits(name: str, device: str) -> bool:
    """Whether code for ``name`` runs on a device (CUDA C++ programming guide, binary and PTX compatibility)."""
    number = name.removesuffix("+PTX")
    if not number.isdigit():  # "90a": for that device and no other
        return number[:-1] == device
    (major, minor), actual = divmod(int(number), 10), divmod(int(device), 10)
    if name.endswith("+PTX") and (major, minor) <= actual:
        return True
    return number == device or (major == actual[0] and minor < actual[1] and device not in _EMBEDDED)


_EMBEDDED = ("87",)  # Orin: runs no binaries of desktop devices


@cache
def _refusal(nvcc: str, name: str) -> str:
    """What nvcc says against an architecture, or nothing. Its own list leaves out some that it knows, such as 90a."""
    command = [nvcc, "--dryrun", _targets(name)[0], "-cubin", "-x", "cu", os.devnull, "-o", os.devnull]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise BuildError(f"{shlex.join(command)} failed: {problem}") from problem
    return _tail(done.stdout + done.stderr) if done.returncode else ""


def cpu_plan() -> BuildPlan:
    """How the kernels for this machine's processor are built."""
    cxx = find_compiler()
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    fast = ("-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", native)
    names = ("cpu_upfirdn2d.cpp", "cpu_bias_act.cpp", "cpu_conv3x3.cpp")
    steps = [_compile(cxx, name, fast) for name in names]
    steps.append(_compile(cxx, "binding.cpp", torch_flags()))
    library = "cuda_ops_cpu.so"
    libmvec = ("-Wl,--as-needed", "-lmvec") if _has_libmvec() else ()
    steps.append(link(library, steps, (cxx, "-shared"), ("-ltorch_cpu", "-lc10", *libmvec, "-lm")))
    return BuildPlan("cpu", tuple(steps), (*identity(), version_of(cxx), _processor()))


def cuda_plan() -> BuildPlan:
    """How the kernels for the visible GPUs are built."""
    if torch.version.cuda is None:
        raise BuildError(f"this torch ({torch.__version__}) is built without CUDA")
    chosen = architectures(find_nvcc())
    return replace(cuda_plan_for(chosen.names, torch.version.cuda), remarks=chosen.remarks)


def cuda_plan_for(names: tuple[str, ...], torch_cuda: str, libraries: Path | None = None) -> BuildPlan:
    """BuildPlan for given architectures ("80", "90+PTX"); ``libraries`` is searched before torch's own."""
    cxx, nvcc = find_compiler(), find_nvcc()
    release = version_of(nvcc).partition("release ")[2].partition(",")[0]
    if release.partition(".")[0] != torch_cuda.partition(".")[0]:
        raise BuildError(
            f"nvcc is of CUDA {release} and torch of CUDA {torch_cuda}: the major versions must agree"
        )
    include = Path(nvcc).resolve().parent.parent / "include"
    toolkit = include if (include / "cuda_runtime_api.h").exists() else Path("/usr/local/cuda/include")
    targets = dict.fromkeys(target for name in names for target in _targets(name))
    device = ("-O3", "-std=c++17", "-Xcompiler=-fPIC", "-Xptxas=-v", "--threads=2", *targets)
    steps = [
        Step(f"{name}.o", (str(SOURCES / f"{name}.cu"),), (nvcc, *device, "-c", "@in"))
        for name in ("upfirdn2d", "bias_act")
    ]
    binding = (*torch_flags(), "-DUSE_CUDA", "-DCUDA_OPS_WITH_CUDA", f"-I{toolkit}")
    steps.append(_compile(cxx, "binding.cpp", binding))
    search = (f"-L{libraries}",) if libraries else ()
    linker = (nvcc, "-shared", *search)
    steps.append(link("cuda_ops_cuda.so", steps, linker, ("-ltorch_cuda", "-ltorch_cpu", "-lc10")))
    return BuildPlan("cuda", tuple(steps), (*identity(), version_of(cxx), version_of(nvcc)))


def _targets(name: str) -> tuple[str, ...]:
    number = name.removesuffix("+PTX")
    binary = f"-gencode=arch=compute_{number},code=sm_{number}"
    ptx = f"-gencode=arch=compute_{number},code=compute_{number}"
    return (binary, ptx) if name.endswith("+PTX") else (binary,)


def _compile(cxx: str, source: str, flags: tuple[str, ...]) -> Step:
    command = (cxx, "-O3", "-std=c++20", "-fPIC", "-Wno-unknown-pragmas", *flags, "-c", "@in")
    return Step(f"{Path(source).stem}.o", (str(SOURCES / source),), command)


def link(library: str, steps: list[Step], command: tuple[str, ...], libraries: tuple[str, ...]) -> Step:
    """Objects of ``steps`` to a library."""
    where = (f"-L{Path(torch.__file__).parent / 'lib'}", *libraries)
    return Step(library, tuple(step.output for step in steps), (*command, "@in", *where))


def torch_flags() -> tuple[str, ...]:
    """Compile against torch's headers, with the symbols of its stable ABI only."""
    return (f"-I{Path(torch.__file__).parent / 'include'}", f"-DTORCH_TARGET_VERSION={_STABLE_ABI}")


def _has_libmvec() -> bool:
    name, version = platform.libc_ver()
    return (
        name == "glibc" and platform.machine() == "x86_64" and tuple(map(int, version.split("."))) >= (2, 35)
    )


def identity(sources: Path = SOURCES) -> tuple[str, ...]:
    """What every library depends on: the sources, torch, CUDA, the Python ABI, the platform."""
    digest = hashlib.sha256()
    for source in sorted(sources.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    abi = str(sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag)
    return digest.hexdigest(), torch.__version__, str(torch.version.cuda), abi, platform.platform()


def _processor() -> str:
    """The instruction set that -march=native stands for; home folders are shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    words = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return " ".join(sorted(words.split()))


def build(plan: BuildPlan) -> Path:
    """Return the library of ``plan``, compiling it if no process has done so before."""
    target = cache_folder() / plan.key
    library = target / plan.steps[-1].output
    if library.exists():
        return library
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f"{plan.key}.lock"):
            if not library.exists():
                _build_into(target, plan)
    except OSError as problem:
        raise BuildError(f"the cache folder {target.parent} cannot be used: {problem}") from problem
    return library


def failure_log(plan: BuildPlan) -> Path:
    """Where the log of a failed build is kept; it stops further tries until it is removed."""
    return cache_folder() / f"{plan.key}.failed.log"


def build_log(plan: BuildPlan) -> Path:
    """Log of the build in the cache, successful or failed."""
    return failure_log(plan) if failure_log(plan).exists() else cache_folder() / plan.key / "build.log"


def forget(plan: BuildPlan) -> None:
    """Remove a library and the memory of its failure, so that the next use builds it again."""
    try:
        failure_log(plan).unlink(missing_ok=True)
    except OSError as problem:
        raise BuildError(f"the cache folder {cache_folder()} cannot be used: {problem}") from problem
    if cache_folder().is_dir():
        with _locked(cache_folder() / f"{plan.key}.lock"):
            shutil.rmtree(cache_folder() / plan.key, ignore_errors=True)


def _build_into(target: Path, plan: BuildPlan) -> None:
    if failure_log(plan).exists():
        tail = _tail(failure_log(plan).read_text())
        raise BuildError(f"an earlier build failed (`stylegan-surv doctor --rebuild` tries again):\n{tail}")
    for left in target.parent.glob(f"{plan.key}.*.tmp"):  # of a killed build: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{plan.key}.", suffix=".tmp", dir=target.parent))
    try:
        (folder / "build.ninja").write_text(ninja_file(plan))
        started = time.monotonic()
        code, output = _run([find_ninja(), "-v", "-C", str(folder)], BUILD_SECONDS)
        output = "\n".join((output.rstrip(), *plan.remarks)) + "\n"
        if 0 < code < 128 and not any(words in output for words in _NOT_ITS_FAULT):
            failure_log(plan).write_text(output)
        if code != 0:
            raise BuildError(f"the build ended with status {code}:\n{_tail(output)}")
        (folder / "build.log").write_text(f"{output}{time.monotonic() - started:.1f} s\n")
        shutil.rmtree(target, ignore_errors=True)  # one whose library somebody has removed
        folder.chmod(0o755)  # a cache may be shared
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ninja_file(plan: BuildPlan) -> str:
    """The plan in ninja's language."""
    text = ["ninja_required_version = 1.3"]
    for number, step in enumerate(plan.steps):
        line = " ".join(map(shlex.quote, (*step.words(), "-o", step.output))).replace("$", "$$")
        text += [f"rule step{number}", f"  command = {line}", f"  description = {step.output}"]
        text.append(f"build {_escaped(step.output)}: step{number} {' '.join(map(_escaped, step.inputs))}")
    return "\n".join(text) + "\n"


def _escaped(path: str) -> str:
    return path.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    """Run ninja in a process group of its own; on a timeout or an interrupt it is ended with all its jobs."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except BaseException as problem:
        process.terminate()  # ninja ends its jobs, which are in process groups of their own
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if isinstance(problem, subprocess.TimeoutExpired):
            raise BuildError(f"the build was stopped after {seconds:.0f} s") from problem
        raise
    return process.returncode, output


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; the system releases it when the process ends, however it ends."""
    with path.open("w") as file:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildError(f"another process has been building for {WAIT_SECONDS:.0f} s") from None
                time.sleep(0.1)
            except OSError:  # a file system without locks: the rename alone keeps builds apart
                break
        yield


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LOG_LINES:])
