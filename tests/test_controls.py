"""Controls: permutation, what latents betray, nuisance pixels, duplicates, stability of a risk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_face import draw_face
from PIL import Image

from stylegan_surv.audit.controls import (
    permutation_within,
    permuted_outcomes,
    predict_column,
    reconstruction_agreement,
    repeat_photo_icc,
)
from stylegan_surv.audit.photographs import PARTS, across_patients, layout, measure, pixel_features, region
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips
from stylegan_surv.faces.duplicates import same_picture
from stylegan_surv.faces.masks.chip import chip_regions
from stylegan_surv.survival.metrics.table import pooled_concordance
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import make_folds
from stylegan_surv.survival.validation.gram_cv import GramCV


def test_permuted_outcomes_give_chance_and_real_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 40)).astype(np.float32)
    death, censoring = rng.exponential(np.exp(-1.5 * x[:, 0])), rng.exponential(2.0, 150)
    outcome = Outcome(np.arange(150), np.minimum(death, censoring), death <= censoring)
    fold = make_folds(outcome, 4)[0]
    cv = GramCV(x, fold, inner=3)

    def c(order: np.ndarray) -> float:
        moved = outcome.subset(order)
        frame = {
            "patient_id": moved.patient_id,
            "repeat": 0,
            "fold": fold,
            "risk": cv.out_of_fold_risk(moved, 3),
        }
        return pooled_concordance(pd.DataFrame(frame), moved).estimate

    found = permuted_outcomes(c, 150, n_permutations=25)
    assert found.observed > 0.6
    assert found.p == 1 / 26
    assert found.mean == pytest.approx(0.5, abs=0.03)
    assert found.record()["n"] == 25


def test_p_counts_the_observed_data_set() -> None:
    values = iter([3.0, 1.0, 2.0, 3.0, 5.0])
    found = permuted_outcomes(lambda order: next(values), 10, n_permutations=4)
    assert found.observed == 3.0
    assert found.p == (1 + 2) / (1 + 4)


def test_permutation_within_strata() -> None:
    rng, strata = np.random.default_rng(1), np.array(list("aabbbbcaab"))
    for _ in range(20):
        order = permutation_within(strata, 10, rng)
        assert sorted(order) == list(range(10))
        assert (strata[order] == strata).all()
    seen = {tuple(permutation_within(np.array([0, 0, 0]), 3, rng)) for _ in range(200)}
    assert len(seen) == 6


def test_a_site_in_the_latents_is_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    site = pd.Series(rng.choice(["A", "B", "C"], 240))
    year = pd.Series(rng.uniform(1950, 2020, 240))
    x = rng.normal(size=(240, 300))
    fold = rng.integers(5, size=240)
    assert predict_column(x, site, fold).low < 0.5 < predict_column(x, site, fold).high  # type: ignore[union-attr]
    noise = predict_column(x, year, fold)
    assert noise is not None
    assert noise.estimate < 0.05
    x[:, 0] += 6.0 * (site == "A")
    x[:, 1:4] += 0.05 * (year.to_numpy()[:, None] - 1985)
    assert predict_column(x, site, fold).low > 0.6  # type: ignore[union-attr]
    found = predict_column(x, year, fold)
    assert found is not None
    assert found.measure == "r2"
    assert found.low > 0.1


def test_columns_that_cannot_be_predicted() -> None:
    x, fold = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) // 10
    assert predict_column(x, pd.Series(["one"] * 40), fold) is None
    rare = pd.Series(["a"] * 35 + ["b"] * 5)
    assert predict_column(x, rare, fold) is None  # "b" has too few patients
    holes = pd.Series(["a", "b", None, "a"] * 10)
    assert predict_column(x, holes, fold).levels == 2  # type: ignore[union-attr]


def chip(seed: int, size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def test_pixels_of_the_face_have_no_influence_when_it_is_masked_out() -> None:
    one, other = chip(1, 48), chip(2, 48)
    masks = chip_regions(np.asarray(draw_face(48)))
    for name in PARTS:
        weight, shown = region(masks, name), layout(name)
        assert weight[14:42, 20:28].max() == 0  # eyes, nose, mouth
        mixed = np.where(weight[..., None] > 0, one, other)
        of = [pixel_features(picture, weight, shown) for picture in (one, mixed, other)]
        np.testing.assert_allclose(of[1], of[0], atol=1e-6)
        assert np.abs(of[2] - of[0]).max() > 0.1
        assert of[0].shape == pixel_features(one, shown, shown).shape  # whatever the mask covers


def test_duplicates_count_across_patients_only(tmp_path: Path) -> None:
    pictures = {f"f{k}": chip(k) for k in range(12)}
    small = Image.fromarray(pictures["f3"]).resize((64, 64)).resize((96, 96))
    pictures["copy"] = np.clip(np.asarray(small) * 1.05 + 4, 0, 255).astype(np.uint8)
    pictures["again"] = pictures["f5"]
    owner = {name: f"p{name[1:]}" for name in pictures} | {"copy": "p99", "again": "p5"}
    chips = Chips.create(tmp_path / "chips", pictures.values(), list(pictures))
    found = across_patients(same_picture(chips), owner)
    assert [(p.patient_a, p.patient_b) for p in found] in ([("p3", "p99")], [("p99", "p3")])


def test_photographs_are_averaged_by_patient(tmp_path: Path) -> None:
    chips = Chips.create(tmp_path / "chips", [chip(1), chip(2), chip(3)], ["a1", "a2", "b"])
    photographs = measure(chips, ["a1", "a2", "b"], ["a", "a", "b"])
    assert np.isfinite(photographs.camera).all()
    means = photographs.by_patient(photographs.background, ["b", "a", "absent"])
    np.testing.assert_allclose(means[1], photographs.background[:2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(means[0], photographs.background[2], rtol=1e-5)
    np.testing.assert_allclose(means[2], means[:2].mean(axis=0), rtol=1e-5)


def test_icc_of_shrout_and_fleiss() -> None:
    """Their table 2: six targets, four judges, ICC(1, 1) = .17."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = repeat_photo_icc(np.ravel(ratings), np.repeat(np.arange(6), 4))
    assert found is not None
    assert found.icc == pytest.approx(0.17, abs=0.005)
    assert found.low == pytest.approx(-0.13, abs=0.01)
    assert found.high == pytest.approx(0.72, abs=0.01)


def test_icc_leaves_out_single_photographs() -> None:
    values, who = np.array([1.0, 1.1, 2.0, 2.1, 3.0, 3.1, 9.0]), np.array([0, 0, 1, 1, 2, 2, 3])
    found = repeat_photo_icc(values, who)
    assert found is not None
    assert (found.subjects, found.ratings) == (3, 6)
    assert found.icc > 0.98
    assert repeat_photo_icc(values, np.arange(7)) is None


def test_reconstruction_agreement_sees_noise_and_shift() -> None:
    """ICC(A, 1) of Shrout & Fleiss's first two judges by McGraw & Wong's formula, and its two failures."""
    rng = np.random.default_rng(3)
    risk = rng.normal(size=4000)
    noisy = reconstruction_agreement(risk, risk + rng.normal(size=4000))
    assert noisy.correlation == pytest.approx(np.sqrt(0.5), abs=0.02)
    shifted = reconstruction_agreement(risk, risk + 2)
    assert shifted.correlation == pytest.approx(1)
    assert shifted.icc == pytest.approx(1 / (1 + 4 / 2), abs=0.02)
    assert shifted.shift == pytest.approx(2, abs=0.05)
    assert reconstruction_agreement(risk, risk).icc == pytest.approx(1)
    with pytest.raises(InputError, match="expected two"):
        reconstruction_agreement(risk, risk[:5])
