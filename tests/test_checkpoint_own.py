"""Our own format: what is saved comes back, with its card; a damaged or foreign file gives one message."""

from __future__ import annotations

import json

import pytest
import torch
from checkpoint_files import random_discriminator, random_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stylegan_surv import InputError, Refused
from stylegan_surv._files import sha256
from stylegan_surv.gan import (
    Encoder,
    EncoderConfig,
    load_discriminator,
    load_encoder,
    load_generator,
    save_network,
)
from stylegan_surv.gan.formats.checkpoint import find


@settings(max_examples=15, deadline=None)
@given(
    resolution=st.sampled_from([8, 16, 32]),
    c_dim=st.sampled_from([0, 1, 5]),
    layers=st.integers(1, 4),
    base=st.integers(40, 300),
    widest=st.integers(2, 20),
    clamp=st.sampled_from([None, 2.0]),
    architecture=st.sampled_from(["skip", "resnet", "orig"]),
    noise=st.booleans(),
)
def test_any_generator_comes_back(
    tmp_path_factory, resolution, c_dim, layers, base, widest, clamp, architecture, noise
):
    G = random_generator(
        resolution=resolution,
        c_dim=c_dim,
        mapping_layers=layers,
        channel_base=base,
        channel_max=widest,
        conv_clamp=clamp,
        architecture=architecture,
        use_noise=noise,
    )
    file = tmp_path_factory.mktemp("own") / "G.safetensors"
    save_network(G, file, {"licence": "CC0-1.0"})
    again = load_generator(file)
    z, c = torch.randn(2, 8), torch.eye(5)[:2, :c_dim] if c_dim else None
    assert torch.equal(G(z, c), again(z, c))
    assert again.card["licence"] == "CC0-1.0"
    assert again.card["sha256"] == sha256(file)
    assert again.config.conv_clamp == clamp


def test_encoder_and_discriminator_come_back(tmp_path):
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    E = Encoder(EncoderConfig(16, num_ws=6, w_dim=8, channel_base=128, channel_max=12))
    E.to(memory_format=torch.channels_last)
    save_network(E, tmp_path / "E.safetensors", {})
    assert torch.equal(E(images), load_encoder(tmp_path / "E.safetensors")(images))
    D = random_discriminator(mbstd_group=2)
    save_network(D, tmp_path / "D.safetensors", {})
    assert torch.equal(D(images), load_discriminator(tmp_path / "D.safetensors")(images))


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ""])
def test_the_name_does_not_matter(suffix, tmp_path):
    G = random_generator()
    save_network(G, tmp_path / f"G{suffix}", {})
    again = load_generator(tmp_path / f"G{suffix}")
    assert torch.equal(again.synthesis.b4.const, G.synthesis.b4.const)
    assert again.card["kind"] == "generator"
    assert again.card["config"]["resolution"] == 16


def test_the_encoder_beside_a_generator_is_found_by_the_generators_file(tmp_path):
    bundled = find("synthetic-64", ".encoder")
    (tmp_path / "G.encoder.safetensors").write_bytes(bundled.read_bytes())
    save_network(random_generator(), tmp_path / "G.safetensors", {})
    assert (
        load_encoder(tmp_path / "G.safetensors").card["sha256"] == load_encoder("synthetic-64").card["sha256"]
    )
    (tmp_path / "G.encoder.safetensors").unlink()
    with pytest.raises(InputError, match="expected one of kind encoder"):
        load_encoder(tmp_path / "G.safetensors")


def test_half_precision_is_stored_and_float32_is_loaded(tmp_path):
    G = random_generator()
    save_network(G, tmp_path / "G.safetensors", {}, half=True)
    again = load_generator(tmp_path / "G.safetensors")
    assert again.synthesis.b4.const.dtype == torch.float32
    assert torch.equal(again.synthesis.b4.const, G.synthesis.b4.const.half().float())


def test_bundled_networks_load():
    G, E = load_generator("synthetic-64"), load_encoder("synthetic-64")
    assert (G.config.resolution, E.shape.num_ws, E.shape.w_dim) == (64, G.config.num_ws, G.config.w_dim)
    assert G.card["provenance"]["patients"] == []


def rewrite(path, change):
    """Save a generator, let ``change(tensors, card)`` spoil it."""
    save_network(random_generator(), path, {})
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["card"])
    change(tensors, card)
    save_file(tensors, path, metadata={"card": json.dumps(card)})


FAULTS = {
    "other kind": (lambda t, c: c.update(kind="encoder"), "holds encoder; expected one of kind generator"),
    "missing": (lambda t, c: t.pop("synthesis.b8.conv0.bias"), "synthesis.b8.conv0.bias"),
    "extra": (lambda t, c: t.update(extra=torch.zeros(1)), "extra"),
    "a gap": (lambda t, c: [t.pop(k) for k in list(t) if ".b8." in k], r"blocks at \[4, 16\]"),
    "huge config": (lambda t, c: c["config"].update(conv_clamp="1e9"), "conv_clamp is '1e9'"),
    "config no dict": (lambda t, c: c.update(config=3), "card that is not"),
    "StyleGAN3": (lambda t, c: t.update({"synthesis.input.freqs": torch.zeros(1)}), "StyleGAN3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault, tmp_path):
    change, said = FAULTS[fault]
    rewrite(tmp_path / "G.safetensors", change)
    with pytest.raises(InputError, match=said):
        load_generator(tmp_path / "G.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG" + bytes(100), bytes(1000)])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "G.safetensors").write_bytes(content)
    with pytest.raises(Refused, match="no network file"):
        load_generator(tmp_path / "G.safetensors")


@pytest.mark.parametrize("name", ["nothing-64", "missing.pkl", "."])
def test_names_that_lead_nowhere(name):
    with pytest.raises(InputError, match=r"neither a file nor one of .*synthetic-64"):
        load_generator(name)


def test_cut_off_file(tmp_path):
    file = tmp_path / "G.safetensors"
    save_network(random_generator(), file, {})
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(Refused, match=r"G\.safetensors: it cannot be read as safetensors"):
        load_generator(file)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "G.safetensors"
    save_network(random_generator(), file, {})
    before = file.read_bytes()

    def full(_tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match="No space"):
        save_network(random_generator(1), file, {})
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["G.safetensors"]
