"""The reliability of a latent: what belongs to the photograph, and what to the search's chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stylegan_surv.errors import Refused
from stylegan_surv.faces.chips import Chips
from stylegan_surv.gan import Generator, GeneratorConfig
from stylegan_surv.inversion import EmbedSettings, embed
from stylegan_surv.inversion.seeds import SeedVariance, seed_variance

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)


def test_pure_chance_has_no_reliability_and_certainty_has_all():
    rng = np.random.default_rng(0)
    chance, face = rng.normal(size=(3, 200, 50)), rng.normal(size=(1, 200, 50))
    assert SeedVariance.of(chance).reliability == pytest.approx(0, abs=0.01)
    assert SeedVariance.of(face.repeat(3, axis=0)).reliability == 1
    half = SeedVariance.of(face + chance)
    assert half.reliability == pytest.approx(0.5, abs=0.02)
    assert (half.within, half.between) == pytest.approx((1, 1), abs=0.02)
    assert SeedVariance.of(np.zeros((3, 4, 5))).reliability == 0


def test_latents_that_went_on_from_others_are_refused(tmp_path):
    torch.manual_seed(0)
    generator = Generator(CONFIG).requires_grad_(False)
    chips = Chips.create(tmp_path / "chips", [np.zeros((32, 32, 3), np.uint8)] * 2, ["a", "b"])
    asked = EmbedSettings("projector", schedule={"steps": 1}, batch=2)
    first = embed(chips, generator=generator, settings=asked)
    onward = replace(asked, schedule={"steps": 1, "start": "previous"}, start=first)
    embed(chips, generator=generator, settings=onward, out=tmp_path / "l")
    with pytest.raises(Refused, match="went on from earlier latents"):
        seed_variance(tmp_path / "l", chips, generator=generator)
