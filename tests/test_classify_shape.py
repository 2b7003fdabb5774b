"""Shapes, averages and measures: superimposition against scipy, false discoveries against what is promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.stats import binom

from stylegan_surv.classify.averages import difference_image
from stylegan_surv.classify.lengths import measure_all
from stylegan_surv.classify.shape import (
    compare_shapes,
    permuted_cases,
    rejected,
    set_differences,
    superimpose,
)
from stylegan_surv.classify.warp import FaceWarp
from stylegan_surv.faces.mesh.find import find_faces

K = 30
RNG = np.random.default_rng(2)
MEAN = RNG.normal(0, 20, (K, 2)) + 75


def shapes(rng: np.random.Generator, n: int, noise: float = 1.0) -> np.ndarray:
    """Faces of one mean in any attitude."""
    made = MEAN + rng.normal(0, noise, (n, K, 2))
    angle, size = rng.normal(0, 0.2, n), np.exp(rng.normal(0, 0.1, n))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(n, 2, 2)
    return size[:, None, None] * np.einsum("nij,nkj->nki", turn, made) + rng.normal(0, 5, (n, 1, 2))


def test_two_shapes_are_superimposed_as_scipy_does():
    a, b = shapes(np.random.default_rng(1), 2)
    aligned, _ = superimpose(np.stack([a, b]))
    unit = [x - x.mean(axis=0) for x in aligned]
    unit = [x / np.linalg.norm(x) for x in unit]
    cosine = float((unit[0] * unit[1]).sum())
    assert 1 - cosine**2 == pytest.approx(procrustes(a, b)[2], rel=1e-6)


def test_attitude_and_size_drop_out():
    rng = np.random.default_rng(3)
    aligned, mean = superimpose(shapes(rng, 20, noise=0))
    np.testing.assert_allclose(aligned, np.broadcast_to(mean, aligned.shape), atol=1e-6)


def test_differences_within_sets_are_those_by_hand():
    case, sets = np.array([1, 0, 0, 1, 0], bool), np.array([7, 7, 7, 3, 3])
    found = set_differences(np.array([5.0, 1, 2, 9, 4]), case, sets)[:, 0]
    np.testing.assert_allclose(found, [5.0, 3.5])  # sets 3 and 7


def test_classes_are_dealt_out_within_sets():
    case, sets = np.array([1, 0, 0, 0, 1, 0], bool), np.array([0, 0, 0, 1, 1, 1])
    dealt = [permuted_cases(case, sets, np.random.default_rng(k)) for k in range(60)]
    assert all(d[:3].sum() == 1 and d[3:].sum() == 1 for d in dealt)
    assert len({tuple(d) for d in dealt}) == 9


def test_false_discoveries_stay_within_five_percent_and_a_shift_is_found():
    rates, power = [], []
    for seed in range(20):
        rng = np.random.default_rng([seed, 1])
        n, moved = 60, np.zeros((K, 2))
        moved[:6] = [1.2, 0.6]
        case, sets = np.arange(2 * n) % 2 == 0, np.arange(2 * n) // 2
        raw = shapes(rng, 2 * n)
        # the truth is the displacement after the same superimposition
        planted = raw + case[:, None, None] * moved
        truth = superimpose(np.stack([MEAN, MEAN + moved]))[0]
        shift = np.hypot(*(truth[1] - truth[0]).T)
        null = shift < 0.1
        found = compare_shapes(planted, case, sets, permutations=1).found
        rates.append((found & null).sum() / max(found.sum(), 1))
        power.append(found[:6].mean())
    assert np.mean(rates) <= 0.05 + 2 * np.std(rates) / np.sqrt(20)
    assert np.mean(power) > 0.8


def test_without_a_difference_few_studies_find_one():
    hits = whole = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 2])
        case, sets = np.arange(80) % 2 == 0, np.arange(80) // 2
        covariate = rng.normal(60, 8, (80, 1))
        found = compare_shapes(shapes(rng, 80), case, sets, covariate, permutations=19, seed=seed)
        hits, whole = hits + bool(found.found.any()), whole + (found.whole_p <= 0.05)
    assert hits <= binom.ppf(0.999, 60, 0.05)
    assert whole <= binom.ppf(0.999, 60, 0.05)


def test_a_covariate_that_explains_the_shift_takes_it_away():
    rng = np.random.default_rng(8)
    case, sets = np.arange(120) % 2 == 0, np.arange(120) // 2
    weight = rng.normal(size=120) + 1.5 * case
    direction = np.zeros((K, 2))
    direction[:8] = [1.5, 0]
    made = shapes(rng, 120, 0.5) + weight[:, None, None] * direction
    raw = compare_shapes(made, case, sets, permutations=99)
    adjusted = compare_shapes(made, case, sets, weight[:, None], permutations=99)
    assert raw.whole_p <= 0.05 < adjusted.whole_p
    assert raw.found[:8].all()
    assert not adjusted.found[:8].any()


def test_benjamini_hochberg_is_the_published_example():
    """Benjamini & Hochberg (1995), section 3.2: four of fifteen hypotheses are rejected."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    assert rejected(np.array(p)).sum() == 4


def test_a_picture_on_its_own_mean_face_stays_as_it_is():
    side = 60
    warp = FaceWarp(MEAN, side)
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    picture = np.stack([rows, columns], axis=-1) / side
    np.testing.assert_allclose(warp.lay(picture, warp.points), picture, atol=1e-9)
    turned = warp.points @ np.array([[0, 1], [-1, 0]]) + [side, 0]  # a quarter turn
    np.testing.assert_allclose(warp.lay(np.rot90(picture, -1), turned), picture, atol=1e-9)


def test_a_difference_image_finds_the_spot_and_nothing_else():
    rng = np.random.default_rng(4)
    case, sets, side = np.arange(80) % 2 == 0, np.arange(80) // 2, 16
    laid = np.clip(0.5 + rng.normal(0, 0.05, (80, side, side, 3)), 0, 1)
    laid[case, 4:7, 4:7] -= 0.06
    found = difference_image(laid, np.ones((side, side), bool), case, sets, 99, 0)
    beyond = found.beyond.any(axis=2)
    assert beyond[4:7, 4:7].mean() > 0.7
    beyond[4:7, 4:7] = False
    assert beyond.sum() <= 1
    assert found.p == pytest.approx(0.01)
    assert (found.low <= found.difference).all()
    assert (found.difference <= found.high).all()


def test_measures_follow_the_face_and_not_its_place(drawn_points):
    one = drawn_points[None]
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    plain, moved = measure_all(one), measure_all(2 * one @ turn.T + 30)
    for name, values in plain.items():
        assert moved[name] == pytest.approx(values, rel=1e-6), name
    wide = one * [1.1, 1.0]
    assert measure_all(wide)["face width to height"] > plain["face width to height"]
    assert measure_all(wide)["lid aperture"] < plain["lid aperture"]


@pytest.fixture(scope="module")
def drawn_points():
    import torch
    from drawn_face import draw_face

    pixels = np.asarray(draw_face())
    faces = find_faces(torch.from_numpy(pixels.copy()).movedim(2, 0).float() / 255)
    return faces[0].points.xy
