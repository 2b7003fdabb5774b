"""Simulated cohorts: the truth is what it says, and the camera does not know the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_surv.errors import InputError
from stylegan_surv.gan import Generator, GeneratorConfig
from stylegan_surv.simulate import AGE_IN_FACE, plan, sample_w, simulate_cohort


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(
        GeneratorConfig(16, z_dim=32, w_dim=32, mapping_layers=2, channel_base=128, channel_max=8)
    ).eval()


def chips(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "chips").glob("*.png"))}


def test_the_seed_decides_everything(generator: Generator, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate_cohort(generator, 20, seed, out=tmp_path / name)
    assert (tmp_path / "a/clinical.csv").read_bytes() == (tmp_path / "b/clinical.csv").read_bytes()
    assert chips(tmp_path / "a") == chips(tmp_path / "b")
    assert chips(tmp_path / "a") != chips(tmp_path / "c")


def test_the_camera_is_blind_to_the_outcome_unless_asked(generator: Generator, tmp_path: Path) -> None:
    simulate_cohort(generator, 20, 0, out=tmp_path / "real")
    simulate_cohort(generator, 20, 0, out=tmp_path / "null", null=True)
    simulate_cohort(generator, 20, 0, out=tmp_path / "confounded", confound=1.0)
    assert chips(tmp_path / "real") == chips(tmp_path / "null")
    assert chips(tmp_path / "real") != chips(tmp_path / "confounded")


def test_the_planted_scores_have_unit_variance_and_are_uncorrelated(generator: Generator) -> None:
    planted = plan(generator, 5, 0.7)
    w = sample_w(generator, 20_000, 99, 0.7)
    scores = (w - planted.mean) @ np.stack([planted.hazard, planted.age], axis=1)
    np.testing.assert_allclose(np.cov(scores, rowvar=False), np.eye(2), atol=0.06)


def test_the_cohort_is_as_described(generator: Generator, tmp_path: Path) -> None:
    cohort, truth = simulate_cohort(generator, 2000, 1, out=tmp_path, events=0.6, camera=0.0)
    assert cohort.patients["event"].mean() == pytest.approx(0.6, abs=0.01)
    assert truth.photo_log_hazard.std() == pytest.approx(1, abs=0.1)
    assert 0.68 < truth.oracle_c < 0.8
    face_age = (truth.w - truth.w_mean) @ plan(generator, 1, 1.0).age
    assert np.corrcoef(face_age, cohort.patients["age"])[0, 1] == pytest.approx(AGE_IN_FACE, abs=0.05)
    assert cohort.flags == ()
    # what the photograph does not tell is independent of what it tells
    rest = truth.log_hazard - truth.photo_log_hazard
    assert abs(np.corrcoef(rest, truth.photo_log_hazard)[0, 1]) < 0.06


def test_a_null_cohort_has_no_signal(generator: Generator, tmp_path: Path) -> None:
    _, truth = simulate_cohort(generator, 2000, 2, out=tmp_path, camera=0.0, null=True)
    assert truth.oracle_c == pytest.approx(0.5, abs=0.03)


def test_cosines_know_the_truth(generator: Generator, tmp_path: Path) -> None:
    _, truth = simulate_cohort(generator, 20, 0, out=tmp_path)
    layers = generator.config.num_ws
    beta = np.repeat(truth.direction[None] / layers, layers, axis=0)
    assert truth.score_cosine(3 * beta) == pytest.approx(1, abs=1e-6)
    assert truth.pattern_cosine(3 * beta) == pytest.approx(1, abs=1e-6)
    fresh = sample_w(generator, 20_000, 7, 1.0)
    other = np.random.default_rng(0).normal(size=beta.shape)
    seen = np.corrcoef(fresh @ other.sum(axis=0), fresh @ truth.direction)[0, 1]
    assert truth.score_cosine(other) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize(("n", "events"), [(5, 0.5), (50, 0.0), (50, 1.0)])
def test_impossible_cohorts_are_refused(generator: Generator, tmp_path: Path, n: int, events: float) -> None:
    with pytest.raises(InputError, match="expected n ≥ 10"):
        simulate_cohort(generator, n, out=tmp_path, events=events)
