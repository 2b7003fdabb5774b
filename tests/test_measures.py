"""Measures of generators: known values, invariances, and what each must and must not notice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from checkpoint_files import random_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from stylegan_surv import InputError
from stylegan_surv.gan import LPIPS, Encoder, EncoderConfig, Generator, GeneratorConfig, load_generator
from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.grading.measures import (
    features,
    frechet_distance,
    kernel_distance,
    path_length,
    precision_recall,
    quality,
    reconstruct,
    sample,
)
from stylegan_surv.gan.training.watch import reconstruction_errors


@pytest.fixture(scope="module")
def faces():
    return load_generator("synthetic-64")


def rows(seed: int, n: int, d: int = 6, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


# ----------------------------------------------------------------------------------------------- kernel distance


def test_kernel_distance_is_the_definition():
    a, b = rows(0, 7), rows(1, 9)

    def k(x, y):
        return (float(x @ y) / 6 + 1) ** 3

    within_a = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    within_b = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    between = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b).value == pytest.approx(within_a + within_b - 2 * between)


def test_kernel_distance_is_unbiased_and_its_error_is_right():
    draws = [kernel_distance(rows(2 * i, 40), rows(2 * i + 1, 60)) for i in range(200)]
    values = np.array([d.value for d in draws])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(200)
    assert np.mean([d.se for d in draws]) == pytest.approx(values.std(), rel=0.35)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(0.8, 3))
def test_kernel_distance_grows_with_the_difference(seed, shift):
    a, b = rows(seed, 60), rows(seed + 1, 60)
    near, far = kernel_distance(a, b), kernel_distance(a, b + shift)
    assert far.value > near.value
    assert kernel_distance(b, a).value == pytest.approx(near.value)


# ---------------------------------------------------------------------------------------------- Fréchet distance


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-2, 2), scale=st.floats(0.2, 3))
def test_frechet_distance_is_the_formula(seed, shift, scale):
    a, b = rows(seed, 50), rows(seed + 1, 70) * scale + shift
    ca, cb = np.cov(a.T), np.cov(b.T)
    mean = (a.mean(0) - b.mean(0)).square().sum()
    expected = float(mean) + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet_distance(a, b, dims=6) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert frechet_distance(a, a, dims=4) == pytest.approx(0, abs=1e-9)
    rotation = torch.linalg.qr(rows(seed, 6)).Q
    assert frechet_distance(a @ rotation, b @ rotation, dims=3) == pytest.approx(
        frechet_distance(a, b, dims=3)
    )


def test_frechet_distance_of_a_shift_is_its_square():
    a = rows(0, 100)
    assert frechet_distance(a, a + 2, dims=6) == pytest.approx(6 * 4)


# --------------------------------------------------------------------------------------------- precision, recall


def test_precision_and_recall_tell_copies_collapse_and_noise_apart():
    real = rows(0, 300, d=2)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = precision_recall(real, rows(1, 300, d=2) * 0.05)  # one kind of image only
    assert precision > 0.95
    assert recall < 0.2
    precision, recall = precision_recall(real, rows(1, 300, d=2) * 20)  # mostly outside
    assert precision < 0.1
    assert recall > 0.4


def test_precision_of_one_is_recall_of_the_other():
    a, b = rows(0, 80), rows(1, 80, shift=0.5)
    assert precision_recall(a, b) == precision_recall(b, a)[::-1]


@pytest.mark.parametrize("measure", [kernel_distance, frechet_distance, precision_recall])
def test_too_few_images_are_named(measure):
    with pytest.raises(InputError, match=r"1 and 50 images; this measure needs at least"):
        measure(rows(0, 1), rows(0, 50))
    with pytest.raises(ValueError, match=r"\[50, 6\] and \[50, 5\]"):
        measure(rows(0, 50), rows(0, 50, d=5))


# ---------------------------------------------------------------------------------------------- images, generator


def test_features_see_blur_and_not_the_batch(faces):
    images = sample(faces, 40)
    rows_ = features(images)
    assert rows_.shape == (40, 1152)
    assert rows_.dtype == torch.float64
    torch.testing.assert_close(features(images[33:34]), rows_[33:34], rtol=0, atol=1e-4)
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    same = kernel_distance(rows_, features(sample(faces, 40, seed=1)))
    assert kernel_distance(rows_, features(blurred)).value > same.value + 5 * same.se


def test_samples_are_pictures_and_the_first_do_not_depend_on_their_number(faces):
    images = sample(faces, 3, seed=5)
    levels = (images + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert images.abs().max() <= 1
    torch.testing.assert_close(sample(faces, 35, seed=5)[:3], images, rtol=0, atol=2 / 127.5)
    with pytest.raises(InputError, match=r"conditional: give labels c of shape \[4, 3\]"):
        sample(random_generator(c_dim=3), 4)


def test_path_length_does_not_depend_on_the_step(faces):
    coarse, fine = (path_length(faces, 24, step=step) for step in (4e-3, 1e-3))
    assert coarse.value == pytest.approx(fine.value, rel=0.05)
    assert fine.se < fine.value


def test_truncated_samples_are_less_varied(faces):
    real = features(sample(faces, 64, seed=1))
    whole, narrow = (features(sample(faces, 64, seed=2, truncation_psi=psi)) for psi in (1.0, 0.3))
    assert precision_recall(real, narrow)[1] < precision_recall(real, whole)[1]
    assert frechet_distance(real, narrow) > frechet_distance(real, whole)


def test_reconstruction_improves_with_steps_and_measures_given_codes(faces):
    w = faces.mapping(torch.randn(3, 256, generator=torch.Generator().manual_seed(0)))
    images = faces.synthesis(w)
    start, later = (reconstruct(faces, images, steps=steps) for steps in (0, 15))
    assert (later.lpips < 0.8 * start.lpips).all()
    assert (later.mse < start.mse).all()
    exact = reconstruct(faces, images, steps=0, start=w)
    torch.testing.assert_close(exact.lpips, LPIPS()(images.clamp(-1, 1), images), atol=1e-4, rtol=0)
    clipped = (images.clamp(-1, 1) - images).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(exact.mse, clipped, atol=1e-5, rtol=0)


def test_reconstruction_of_a_photograph_does_not_depend_on_the_others():
    G = random_generator(resolution=32)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    done = []
    together = reconstruct(G, images, steps=3, progress=lambda i, n: done.append((i, n)))
    for i in range(3):
        alone = reconstruct(G, images[i : i + 1], steps=3)
        torch.testing.assert_close(alone.lpips[0], together.lpips[i], rtol=1e-3, atol=1e-4)
    assert done == [(3, 3)]


def test_quality_of_a_generator_against_itself_and_against_noise(faces):
    parts = []
    own = quality(faces, sample(faces, 48, seed=9), progress=lambda done, total: parts.append((done, total)))
    assert parts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    noise = quality(faces, torch.rand(48, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert abs(own.kernel_distance) < 4 * own.kernel_distance_se + 1e-3
    assert noise.frechet_16 > 8 * own.frechet_16
    assert noise.precision == noise.recall == 0
    assert own.as_card()["n"] == 48
    with pytest.raises(InputError, match="39 real images"):
        quality(faces, torch.zeros(39, 3, 64, 64))


def test_large_images_go_through_in_small_batches():
    """At twice the resolution a quarter as many, and nothing else changes."""
    torch.manual_seed(0)
    shape = GeneratorConfig(128, 8, 8, mapping_layers=2, channel_base=128, channel_max=4)
    net, encoder = Generator(shape), Encoder(EncoderConfig(128, shape.num_ws, 8, 128, 4))
    drawn: list[int] = []
    net.synthesis.register_forward_pre_hook(lambda _, given: drawn.append(len(given[0])))
    images = sample(net, 20)
    assert drawn == [8, 8, 4]
    assert torch.equal(images[8:16], sample(net, 16)[8:])
    drawn.clear()
    reconstruct(net, images[:9], steps=1)
    assert drawn == [8, 8, 1, 1]
    drawn.clear()
    pixels = images.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    photos = ImageSet(tuple(map(str, range(20))), pixels)
    errors, sheet = reconstruction_errors(net, encoder, photos, LPIPS())
    assert drawn == [16, 16, 4, 4]
    assert sheet.shape == (60, 3, 128, 128)  # 16 originals, theirs twice, then of the other 4
    torch.testing.assert_close(sheet[48:52], photos.images(slice(16, 20)))
    assert errors["mse"] == pytest.approx(
        float(
            (sheet[[*range(16), *range(48, 52)]] - sheet[[*range(16, 32), *range(52, 56)]]).square().mean()
        ),
        rel=1e-4,
    )
