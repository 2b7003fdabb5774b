"""The trainer's parts against mathematics: losses, augmentation, order of the data, averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import nn

from stylegan_surv.gan.data import captioned, hold_out, sample_order
from stylegan_surv.gan.networks import binomial_filter, ema_decay, update_ema
from stylegan_surv.gan.networks.discriminator import minibatch_stddev
from stylegan_surv.gan.networks.feature_critic import spectral_norm
from stylegan_surv.gan.networks.layers import downsample
from stylegan_surv.gan.training import losses
from stylegan_surv.gan.training.augment import AdaptiveP, Ranges, augment
from stylegan_surv.gan.training.gaussian import Gaussian, fit_mapping, root_by_products, symmetric_root
from stylegan_surv.gan.training.objective import shifted
from stylegan_surv.gan.training.watch import by_chance

STILL = Ranges(shift=0, scale=0, rotation=0, stretch=0, brightness=0, contrast=0)


@given(st.integers(0, 500), st.integers(1, 60), st.integers(16, 90), st.integers(0, 5))
@settings(deadline=None)
def test_order_has_no_state_and_every_pass_is_complete(at: int, count: int, total: int, seed: int) -> None:
    whole = sample_order(0, 600, total, seed)
    assert (sample_order(at, count, total, seed) == whole[at : at + count]).all()
    for k in range(600 // total):
        assert sorted(whole[k * total : (k + 1) * total]) == list(range(total))


@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=40, unique=True), st.integers(0, 9))
def test_hold_out_depends_on_the_name_alone(names: list[str], seed: int) -> None:
    train, held = hold_out(names, 0.3, seed)
    assert sorted(train + held) == list(range(len(names)))
    fewer = names[::2]
    again = {fewer[i] for i in hold_out(fewer, 0.3, seed)[1]}
    assert again == {names[i] for i in held} & set(fewer)


def test_hold_out_share() -> None:
    assert len(hold_out([f"p{i}" for i in range(4000)], 0.1)[1]) == pytest.approx(400, abs=60)


def test_checks_take_one_photograph_of_every_patient_first() -> None:
    whose = [f"P{i // 3}" for i in range(30)]
    order = by_chance(whose, 0)
    assert sorted(order) == list(range(30))
    assert all(len({whose[i] for i in order[k : k + 10]}) == 10 for k in (0, 10, 20))
    assert (order == by_chance(whose, 0)).all()
    assert (order != by_chance(whose, 1)).any()


def test_caption_detector() -> None:
    rng = np.random.default_rng(0)
    face = rng.integers(40, 130, (128, 128, 3), dtype=np.uint8)
    assert not captioned(face)
    night = face.copy()
    night[:20] = 5  # dark, but no letters
    assert not captioned(night)
    sheet = night.copy()
    sheet[6:12, 30:90:4] = 240
    assert captioned(sheet)
    assert captioned(np.rot90(sheet))


def test_sliced_wasserstein_in_one_dimension_is_the_known_distance() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(400, 1, dtype=torch.float64), torch.randn(400, 1, dtype=torch.float64) * 2 + 1
    squared = (a.sort(0).values - b.sort(0).values).square().mean()
    torch.testing.assert_close(losses.sliced_wasserstein(a, b, 3), squared)
    shifted = losses.sliced_wasserstein(a, a + 0.7, 3)
    assert float(shifted) ** 0.5 == pytest.approx(wasserstein_distance(a[:, 0], a[:, 0] + 0.7))


def test_sliced_wasserstein_of_unequal_clouds_vanishes_for_the_same_distribution() -> None:
    torch.manual_seed(0)
    small, large, moved = torch.randn(500, 8), torch.randn(4000, 8), torch.randn(4000, 8) + 0.5
    same = losses.sliced_wasserstein(small, large, 64)
    assert same < 0.02 < 0.15 < losses.sliced_wasserstein(small, moved, 64)
    assert losses.sliced_wasserstein(large, small, 64) < 0.02


def test_r1_of_a_known_function() -> None:
    """‖∇(Σ a·x + x²)‖² = Σ (a + 2x)²; and its gradient reaches the parameters."""
    a = torch.randn(1, 3, 4, 4, requires_grad=True)
    x = torch.randn(5, 3, 4, 4)
    penalty = losses.r1_penalty(lambda images: (a * images + images**2).sum(dim=(1, 2, 3)), x)
    torch.testing.assert_close(penalty, (a + 2 * x).square().sum(dim=(1, 2, 3)))
    penalty.sum().backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, (2 * (a + 2 * x)).sum(dim=0, keepdim=True))


def test_path_length_of_a_linear_generator() -> None:
    """Images J·w with orthonormal columns scaled by s: the expected length of Jᵀy is s·√(w_dim / pixels)."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, 6)).Q * 5
    w = torch.randn(4000, 1, 6, requires_grad=True)
    lengths = losses.path_lengths((w[:, 0] @ basis.T).view(-1, 3, 8, 8), w)
    assert float(lengths.square().mean()) == pytest.approx(25 * 6 / 64, rel=0.05)


def test_logistic_and_hinge_losses() -> None:
    logits = torch.tensor([[-2.0], [0.0], [3.0]])
    torch.testing.assert_close(losses.real_loss(logits), torch.log1p(torch.exp(-logits[:, 0])))
    torch.testing.assert_close(losses.fake_loss(logits), torch.log1p(torch.exp(logits[:, 0])))
    assert losses.hinge_real(logits).tolist() == [3, 1, 0]
    assert losses.hinge_fake(logits).tolist() == [0, 1, 4]


# ------------------------------------------------------------------------------------------------ augmentation


def test_nothing_drawn_is_the_identity() -> None:
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    assert augment(x, Ranges(), p=0) is x
    torch.testing.assert_close(augment(x, STILL, p=1), x, rtol=1e-5, atol=1e-5)


def test_probability_is_the_share_of_changed_images() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 3, 4, 4)
    changed = (augment(x, STILL.model_copy(update={"brightness": 0.3}), p=0.3) - x).abs().amax(
        dim=(1, 2, 3)
    ) > 1e-4
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.04)


def test_flip_mirrors_half_of_the_images() -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 3, 8, 8)
    y = augment(x, STILL.model_copy(update={"flip": True}), p=1)
    mirrored = (y - x.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    same = (y - x).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (mirrored ^ same).all()
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.1)


def test_clinical_default_keeps_hue_saturation_and_laterality() -> None:
    """Colours move along grey only (brightness) or in proportion (contrast): ratios of differences stay."""
    torch.manual_seed(0)
    x = (torch.rand(50, 3, 1, 1) * 2 - 1).expand(-1, -1, 8, 8).contiguous()
    y = augment(x, Ranges(), p=1).mean(dim=(2, 3))
    a, b = (v - v.mean(dim=1, keepdim=True) for v in (x.mean(dim=(2, 3)), y))
    cosine = nn.functional.cosine_similarity(a, b)
    assert float(cosine.min()) > 0.999
    assert not Ranges().flip


def test_hue_turns_about_grey_and_saturation_scales_from_it() -> None:
    torch.manual_seed(0)
    x = torch.rand(20, 3, 4, 4)
    hue = augment(x, STILL.model_copy(update={"hue": 1.0}), p=1)
    torch.testing.assert_close(hue.mean(dim=1), x.mean(dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(hue.norm(dim=1), x.norm(dim=1), rtol=1e-4, atol=1e-4)
    dull = augment(x, STILL.model_copy(update={"saturation": 1.0}), p=1)
    torch.testing.assert_close(dull.mean(dim=1), x.mean(dim=1), rtol=1e-4, atol=1e-4)


def test_augmentation_is_differentiable() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)

    def fixed(images: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return augment(images, Ranges(flip=True, hue=0.5, saturation=0.5, tint=0.1), p=0.8)

    assert torch.autograd.gradcheck(fixed, (x,))


def test_adaptive_p_follows_the_sign() -> None:
    ada = AdaptiveP(0.0, target=0.6, speed=1000, maximum=0.8)
    assert ada.update(0.9, 100) == pytest.approx(0.1)
    assert ada.update(0.3, 100) == pytest.approx(0.0)
    assert ada.update(0.3, 100) == 0.0
    for _ in range(20):
        ada.update(1.0, 100)
    assert ada.p == 0.8


# ----------------------------------------------------------------------------------------- averages, mapping


def test_ema_half_life_and_ramp() -> None:
    assert ema_decay(32, 3200) ** 100 == pytest.approx(0.5)
    assert ema_decay(32, 3200, seen=640) == pytest.approx(0.5)  # half-life 5 % of 640 = 32
    net, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    net.running_mean.fill_(7.0)
    with torch.no_grad():
        net.weight.fill_(3.0)
    update_ema(average, net, 0.75)
    torch.testing.assert_close(average.weight.data, torch.full((3,), 1.5))
    assert average.running_mean.tolist() == [7, 7, 7]


def test_transport_has_the_moments_of_the_codes() -> None:
    torch.manual_seed(0)
    codes = torch.randn(5000, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    z = torch.randn(200_000, 6, dtype=torch.float64)
    z = z / z.square().mean(dim=1, keepdim=True).sqrt()  # on the sphere, as the mapping scales it
    drawn = Gaussian.of(codes).transport(z)
    torch.testing.assert_close(drawn.mean(dim=0), codes.mean(dim=0), rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), rtol=0.05, atol=0.15)


def test_fitted_mapping_hits_the_codes_better() -> None:
    from training import small_recipe

    from stylegan_surv.gan.training.start import fresh_networks

    torch.manual_seed(0)
    mapping = fresh_networks(small_recipe())[0].mapping
    codes = torch.randn(500, 16) @ torch.diag(torch.linspace(0.2, 2, 16)) + torch.randn(16)
    before = losses.sliced_wasserstein(mapping(torch.randn(500, 16))[:, 0], codes, 64)
    fit_mapping(mapping, codes, 300)
    after = losses.sliced_wasserstein(mapping(torch.randn(500, 16))[:, 0], codes, 64)
    assert after < 0.15 * before
    torch.testing.assert_close(mapping.w_avg, codes.mean(dim=0))


def test_the_root_by_products_is_the_eigenvalues_root() -> None:
    vectors = torch.linalg.qr(torch.randn(64, 64)).Q
    matrix = (vectors * torch.logspace(0, -4, 64)) @ vectors.T
    torch.testing.assert_close(root_by_products(matrix), symmetric_root(matrix), rtol=1e-3, atol=1e-5)


def test_spectral_norm_is_the_largest_singular_value() -> None:
    for shape in ((64, 576), (1, 576)):
        rows = torch.randn(shape)
        torch.testing.assert_close(
            spectral_norm(rows), torch.linalg.matrix_norm(rows, 2), rtol=1e-3, atol=0.0
        )


def test_shifting_moves_and_mirrors() -> None:
    x = torch.randn(2, 3, 8, 9)
    moved = shifted(x, torch.tensor([2, 1]))
    torch.testing.assert_close(moved[:, :, 1:, 2:], x[:, :, :-1, :-2])
    torch.testing.assert_close(moved[:, :, 1:, :2], x[:, :, :-1, [2, 1]])


def test_code_noise_keeps_the_moments_of_codes(tmp_path: Path) -> None:
    """Codes of a Gaussian stay of that Gaussian, and lose no more of themselves than was asked for."""
    from training import small_trainer

    torch.manual_seed(0)
    codes = torch.randn(20_000, 16) @ torch.diag(torch.linspace(0.2, 2, 16)) + 3
    gaussian = Gaussian.of(codes)
    moved = small_trainer(tmp_path).objective._blurred(codes, gaussian, 0.5)
    torch.testing.assert_close(moved.mean(dim=0), codes.mean(dim=0), rtol=0, atol=0.05)
    torch.testing.assert_close(moved.T.cov(), codes.T.cov(), rtol=0.05, atol=0.08)
    kept = torch.corrcoef(torch.stack([codes[:, 0], moved[:, 0]]))[0, 1]
    assert 0.8 < kept < 0.95  # the mean of sqrt(1 - share) over shares up to a half is .86


def test_any_batch_can_be_divided_into_groups() -> None:
    """The largest that divides it, up to four: 6 images are two groups of 3."""
    x = torch.randn(6, 2, 4, 4)
    added = minibatch_stddev(x, 4)[:, 2:]
    for k in (0, 1):
        expected = x[k::2].var(dim=0, unbiased=False).add(1e-8).sqrt().mean()
        torch.testing.assert_close(added[k::2], expected.expand(3, 1, 4, 4))
    assert minibatch_stddev(torch.randn(5, 2, 4, 4), 4).shape == (5, 3, 4, 4)


def test_downsampling_is_the_strided_filter() -> None:
    x = torch.randn(2, 5, 16, 16, dtype=torch.float64)
    f = binomial_filter()
    direct = nn.functional.conv2d(x, f.double().expand(5, 1, 4, 4), stride=2, padding=1, groups=5)
    torch.testing.assert_close(downsample(x, f), direct)


def test_benchmark_compares_the_same_mathematics() -> None:
    """Plain operations and ours give the same images and the same judgement of them."""
    from training import small_recipe

    from benchmarks.training import plain
    from stylegan_surv.gan.training.start import fresh_networks

    generator, discriminator, _ = fresh_networks(small_recipe())
    z = torch.randn(4, 16)
    with torch.no_grad():
        images = generator.synthesis(generator.mapping(z))
        logits = discriminator(images)
        with plain():
            torch.testing.assert_close(
                generator.synthesis(generator.mapping(z)), images, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(discriminator(images), logits, rtol=1e-4, atol=1e-5)
