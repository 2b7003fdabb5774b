"""What is kept with the model for whoever shows one prediction: no patient, and right at what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

import stylegan_surv as ss
from stylegan_surv.errors import InputError
from stylegan_surv.study.page import (
    GRID,
    PageData,
    held_out_places,
    held_out_risks,
    latent_space,
    spectrum,
    survival_on_grid,
)
from stylegan_surv.study.refits import REFITS, refit
from stylegan_surv.survival.outcome import Outcome

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(150, 60)) @ RNG.normal(size=(60, 60)) / 8 + 3).astype(np.float32)


def test_components_are_those_of_scikit_learn() -> None:
    space = latent_space(X)
    pca = PCA(50).fit(X.astype(float))
    assert space.components.shape == (50, 60)
    np.testing.assert_allclose(space.mean, pca.mean_, rtol=1e-6)
    along = np.abs((space.components * pca.components_).sum(axis=1))
    np.testing.assert_allclose(along, 1, atol=1e-4)


def test_variances_are_shrunken_as_ledoit_and_wolf_do() -> None:
    centred = X.astype(float) - X.mean(axis=0, dtype=float)
    found = spectrum(centred @ centred.T, X.shape[1])
    covariance, share = ledoit_wolf(X.astype(float))
    expected = np.linalg.eigvalsh(covariance)[::-1][: len(found.shrunken)]
    assert 0 < share < 1
    np.testing.assert_allclose(found.shrunken, expected, rtol=1e-8)


def test_held_out_places_are_those_of_components_fitted_without_the_fold() -> None:
    fold = np.arange(150) % 5
    fold[:7] = -1
    distance, left_over = held_out_places(X, fold)
    kept = np.flatnonzero(fold >= 0)
    for k in range(5):
        d, rest = latent_space(X[fold != k]).place(X[fold == k])
        np.testing.assert_allclose(distance[fold[kept] == k], d, rtol=1e-4)
        np.testing.assert_allclose(left_over[fold[kept] == k], rest, rtol=1e-3)


def test_a_strange_latent_lies_far_out_and_fitted_ones_nearer_than_held_out_ones() -> None:
    space = latent_space(X)
    inside, _ = space.place(X)
    outside, _ = held_out_places(X, np.arange(150) % 5)
    assert np.median(inside) < np.median(outside)
    assert space.place(X[:1] + 30)[0] > np.quantile(outside, 0.999)


def test_survival_is_read_off_the_kaplan_meier_curve() -> None:
    outcome = Outcome(list("abcd"), np.array([1.0, 2, 3, 4]), np.array([1, 0, 1, 0]))
    found = survival_on_grid(outcome)
    assert len(found.time) == GRID
    np.testing.assert_allclose(found.survival[found.time < 1], 1)
    np.testing.assert_allclose(found.survival[(found.time >= 1) & (found.time < 3)], 0.75)
    np.testing.assert_allclose(found.survival[found.time >= 3], 0.375)


def test_risks_of_folds_with_other_zeros_are_brought_together() -> None:
    photo = pd.DataFrame({"repeat": 0, "fold": [0, 0, 1, 1], "risk": [10.0, 12.0, -3.0, -1.0]})
    np.testing.assert_allclose(held_out_risks(photo, np.array([4.0, 6.0])), [4, 6, 4, 6])


@pytest.fixture(scope="module")
def study() -> ss.Study:
    n = 90
    rng = np.random.default_rng(1)
    w = rng.normal(size=(n, 3, 8)).astype(np.float32)
    who = [f"P{i:02d}" for i in range(n)]
    death, end = rng.exponential(np.exp(-w[:, 0, 0])) + 0.01, rng.exponential(2.0, n) + 0.01
    table = pd.DataFrame({"patient_id": who, "photo": [f"{p}.png" for p in who]})
    table["time"], table["event"] = np.minimum(death, end), (death <= end).astype(int)
    settings = ss.StudySettings(repeats=1, permutations=0, n_boot=20, n_jobs=1)
    return ss.evaluate(
        ss.Latents.from_arrays(w, who, who), ss.read_cohort(table, check_photos=False), settings=settings
    )


def test_it_is_read_back_as_it_was_written(study: ss.Study, tmp_path: Path) -> None:
    assert study.final is not None
    page = study.final.page
    page.save(tmp_path)
    again = PageData.open(tmp_path)
    for name in ("distance", "left_over", "risk", "survival", "calibration", "latents", "refits"):
        for key, value in vars(getattr(page, name)).items():
            np.testing.assert_allclose(vars(getattr(again, name))[key], value, rtol=1e-6)
    assert again.time_unit == "years"
    assert {a.dtype for a in load_file(tmp_path / "page.safetensors").values()} == {np.dtype(np.float32)}
    assert again.calibration is not None
    assert again.calibration.horizon == study.metrics["settings"]["main_horizon"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("page.json", b'{"format": 7}', "has the format 7"), ("page.json", b"{", "is damaged"),
     ("page.safetensors", b"nothing", "no usable"),
     ("page.safetensors", save({"mean": np.zeros(2)}, {"format": "7"}), "has the format 7")],
)  # fmt: skip
def test_a_damaged_or_other_file_is_one_message(
    study: ss.Study, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    assert study.final is not None
    study.final.page.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        PageData.open(tmp_path)


def test_refits_are_the_models_of_resampled_patients(study: ss.Study) -> None:
    assert study.final is not None
    assert study.outcome is not None
    model, page, x = study.final.model, study.final.page, X[:90, :24]
    rng = np.random.default_rng(0)
    times = page.survival.time
    y = study.outcome
    fitted = type(model)(alphas=(3.0,)).fit(x, y.y)
    found = refit(fitted, x, y, times)
    assert found is not None
    assert len(found.centre) == REFITS
    count = np.bincount(rng.integers(0, 90, 90), minlength=90)
    rows = np.repeat(
        np.arange(90), count
    )  # the first sample, with its patients in it as often as they were drawn
    again = type(model)(alphas=(3.0,), ties="breslow").fit(x[rows], y.y[rows])
    once = refit(type(model)(alphas=(3.0,), ties="breslow").fit(x, y.y), x, y, times)
    assert once is not None
    np.testing.assert_allclose(once.coef[0], again.coef_, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        once.survival(x[5])[0], again.predict_survival_function(x[5:6], times)[0], rtol=1e-3, atol=1e-5
    )
    low, high = once.band(x[5])
    assert np.all(low <= high)
    assert refit(object(), x, y, times) is None
