"""Tuning for display: the picture gets closer, the generator stays as it was, the delta file is bound to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stylegan_surv.errors import Refused
from stylegan_surv.gan import LPIPS, Generator, GeneratorConfig
from stylegan_surv.inversion.faithful import load_delta, save_delta, tune
from stylegan_surv.inversion.inverter import Inverter
from stylegan_surv.inversion.origin import network_sha256
from stylegan_surv.inversion.settings import Settings

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)


def test_the_tuned_copy_draws_the_photograph_and_the_original_is_untouched(tmp_path):
    torch.manual_seed(0)
    generator = Generator(CONFIG).requires_grad_(False)
    pivot = generator.mapping(torch.randn(1, 8))
    image = generator.synthesis(generator.mapping(torch.randn(1, 8))).clamp(-1, 1)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generator.card = {"name": "tiny", "sha256": "of its file"}
    tuned = tune(generator, image, pivot, steps=20, rate=0.02, locality=0.0)
    distance = LPIPS()
    assert distance(tuned.synthesis(pivot), image) < 0.7 * distance(generator.synthesis(pivot), image)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    save_delta(tuned, generator, tmp_path / "delta.safetensors")
    again = load_delta(generator, tmp_path / "delta.safetensors")
    assert torch.allclose(again.synthesis(pivot), tuned.synthesis(pivot), atol=0.01)
    for bent in (tuned, again):
        assert network_sha256(bent) != network_sha256(generator)
        with pytest.raises(Refused, match="for display only"):
            Inverter(bent, None, Settings("projector"))
    with pytest.raises(Refused, match="another generator"):
        load_delta(Generator(CONFIG), tmp_path / "delta.safetensors")


def test_a_generator_with_labels_is_tuned():
    generator = Generator(replace(CONFIG, c_dim=2)).requires_grad_(False)
    pivot = generator.mapping(torch.randn(1, 8), torch.zeros(1, 2))
    tuned = tune(generator, torch.zeros(1, 3, 32, 32), pivot, steps=1)
    assert not torch.equal(tuned.synthesis(pivot), generator.synthesis(pivot))


def test_locality_keeps_other_faces():
    torch.manual_seed(1)
    generator = Generator(CONFIG).requires_grad_(False)
    pivot = generator.mapping(torch.randn(1, 8))
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    others = generator.mapping(torch.randn(4, 8))
    moved = []
    for locality in (0.0, 20.0):
        tuned = tune(generator, image, pivot, steps=10, rate=0.02, locality=locality)
        moved.append((tuned.synthesis(others) - generator.synthesis(others)).square().mean())
    assert moved[1] < 0.5 * moved[0]
