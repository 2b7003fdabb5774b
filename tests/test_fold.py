"""Folding an encoder's offsets into its generator."""

import copy

import pytest
import torch

from stylegan_surv.gan.networks import Encoder, EncoderConfig, Generator, GeneratorConfig
from stylegan_surv.gan.training.fold import LinearOffsets

RESOLUTIONS = [8, 32]


def pair(resolution: int) -> tuple[Generator, Encoder]:
    torch.manual_seed(resolution)
    config = GeneratorConfig(resolution, 8, 8, mapping_layers=2, channel_base=128, channel_max=16)
    encoder = Encoder(EncoderConfig(resolution, config.num_ws, 8, channel_base=128, channel_max=16))
    return Generator(config).double(), encoder.double()


def linear_offsets(n: int, layers: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    w = torch.randn(n, 8, dtype=torch.float64) + 1
    slopes, level = torch.randn(layers, 8, 8, dtype=torch.float64) / 8, torch.randn(layers, 8)
    return w, torch.einsum("ni,lij->nlj", w, slopes) + level + noise * torch.randn(n, layers, 8)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_the_folded_generator_draws_from_w_what_it_drew_with_linear_offsets(resolution: int) -> None:
    generator, _ = pair(resolution)
    w, offsets = linear_offsets(200, generator.config.num_ws, noise=0.0)
    linear, folded = LinearOffsets.of(w, offsets, ridge=1e-12), copy.deepcopy(generator)
    linear.fold(folded)
    assert linear.explained == pytest.approx(1)
    with torch.no_grad():
        before = generator.synthesis(w[:4, None] + offsets[:4])
        after = folded.synthesis(w[:4, None].expand(-1, generator.config.num_ws, -1))
        plain = generator.synthesis(w[:4, None].expand(-1, generator.config.num_ws, -1))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
    assert (plain - before).abs().max() > 0.01


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_encoder_and_generator_together_draw_the_same_pictures(resolution: int) -> None:
    generator, encoder = pair(resolution)
    images = torch.randn(3, 3, resolution, resolution, dtype=torch.float64)
    with torch.no_grad():
        before, w_before = generator.synthesis(encoder(images)), encoder.split(images)[0]
        linear = LinearOffsets.of(*linear_offsets(50, generator.config.num_ws, noise=0.5), ridge=0.01)
        linear.fold(generator)
        linear.unfold(encoder)
        after, w_after = generator.synthesis(encoder(images)), encoder.split(images)[0]
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(w_after, w_before, rtol=0, atol=0)


def test_offsets_that_have_nothing_to_do_with_w_stay() -> None:
    torch.manual_seed(0)
    w, offsets = torch.randn(4000, 8), torch.randn(4000, 3, 8)
    linear = LinearOffsets.of(w, offsets, ridge=0.01)
    assert linear.explained < 0.01
    assert (linear.matrix - torch.eye(8)).abs().max() < 0.1
    assert linear.bias.abs().max() < 0.1


def test_an_encoder_without_offsets_has_nothing_to_fold() -> None:
    linear = LinearOffsets.of(torch.randn(50, 8), torch.zeros(50, 3, 8), ridge=0.01)
    assert linear.explained == 0
    assert torch.equal(linear.matrix, torch.eye(8, dtype=torch.float64).expand(3, 8, 8))
