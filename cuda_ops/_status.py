"""What this machine runs, and why: the facts behind `stylegan-surv doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ops import _allocator, _build, _dispatch

_LOG_LINES = 20


@dataclass(frozen=True)
class DeviceStatus:
    """Compiled kernels for one kind of device."""

    device: str
    # what a call gets where the kernels are the faster: "native", "torch", "reference", or "none" (an error)
    implementation: str
    reason: str
    library: str | None
    cached: bool  # built already
    log: str  # tail of the build log


@dataclass(frozen=True)
class Status:
    """What `cuda_ops` found on this machine."""

    mode: str
    torch: str
    cuda: str | None
    allocator: str
    compiler: str
    nvcc: str
    architectures: tuple[str, ...]
    cache: str
    cpu_capability: str
    devices: tuple[DeviceStatus, ...]


def status(build: bool = True) -> Status:
    """Tell which implementation runs on the CPU and on CUDA devices, and why.

    Parameters
    ----------
    build : bool
        Build and load what is not built yet, as the first use would.
    """
    return Status(
        mode=_dispatch.mode,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        allocator=_allocator.allocator,
        compiler=_found(_build.find_compiler),
        nvcc=_found(_build.find_nvcc),
        architectures=_architectures(),
        cache=str(_build.cache_folder()),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        devices=(_device("cpu", build), _device("cuda", build)),
    )


def rebuild() -> Status:
    """Forget the libraries of this configuration, failures included, and build them again.

    A library that this process has loaded stays in use until it ends.
    """
    for plan in (_build.cpu_plan, _build.cuda_plan):
        try:
            _build.forget(plan())
        except _build.BuildError:
            continue  # nothing that can be forgotten; the status tells why
    _dispatch.forget()
    return status()


def _device(device: str, build: bool) -> DeviceStatus:
    try:
        plan = _build.cpu_plan() if device == "cpu" else _build.cuda_plan()
    except _build.BuildError as problem:
        return DeviceStatus(device, _fallback(), str(problem), None, False, "")
    library = _build.cache_folder() / plan.key / plan.steps[-1].output
    cached, log = library.exists(), _log(_build.build_log(plan))
    if _dispatch.mode in ("torch", "reference"):
        reason = f"STYLEGAN_SURV_OPS={_dispatch.mode}"
        return DeviceStatus(device, _dispatch.mode, reason, None, cached, log)
    if not build and not cached:
        return DeviceStatus(device, _fallback(), "not built yet: the first use builds", None, False, log)
    try:
        backend = _dispatch.backend(device)
    except RuntimeError as problem:  # of STYLEGAN_SURV_OPS=require, which a report must survive
        backend = _dispatch.Backend(device, None, str(problem))
    log = _log(_build.build_log(plan))
    if backend.library is None:
        return DeviceStatus(device, _fallback(), backend.reason, None, False, log)
    reason = "; ".join(("built and loaded", *plan.remarks))
    return DeviceStatus(device, "native", reason, str(backend.library), True, log)


def _fallback() -> str:
    return {"reference": "reference", "require": "none"}.get(_dispatch.mode, "torch")


def _found(find: Callable[[], str]) -> str:
    try:
        path = find()
        return f"{path}: {_build.version_of(path).splitlines()[-1 if 'nvcc' in path else 0]}"
    except (_build.BuildError, IndexError) as problem:
        return str(problem)


def _architectures() -> tuple[str, ...]:
    try:
        return _build.architectures(_build.find_nvcc()).names
    except _build.BuildError:
        return ()


def _log(path: Path) -> str:
    return "\n".join(path.read_text().splitlines()[-_LOG_LINES:]) if path.exists() else ""
