"""Simulated cohorts: the truth is what it says, and the camera does not know the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_surv.errors import InputError
from stylegan_surv.gan import Generator, GeneratorConfig, load_generator
from stylegan_surv.simulate import AGE_IN_FACE, plan, sample_w, simulate_cohort
from stylegan_surv.simulate.apparent import apparent_sex
from stylegan_surv.simulate.patients import draw_doses, draw_patients, unit_weights, weighted
from stylegan_surv.simulate.pictures import drawn_faces, painted_faces


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
    cohort, truth = simulate_cohort(generator, 2000, 1, out=tmp_path, truth="latent", events=0.6, camera=0.0)
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
    _, truth = simulate_cohort(generator, 2000, 2, out=tmp_path, truth="latent", camera=0.0, null=True)
    assert truth.oracle_c == pytest.approx(0.5, abs=0.03)


def test_cosines_know_the_truth(generator: Generator, tmp_path: Path) -> None:
    _, truth = simulate_cohort(generator, 20, 0, out=tmp_path, truth="latent")
    assert truth.direction is not None
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


def test_signs_make_the_hazard_and_know_nothing_else(generator: Generator, tmp_path: Path) -> None:
    """Doses, weights and table of many patients; the pictures are left out of it."""
    rng = np.random.default_rng(0)
    n, weights = 5000, unit_weights({"pallor": 1.0, "wasting": 2.0, "droop": 0.0})
    assert sum(weight**2 for weight in weights.values()) == pytest.approx(1)
    planted = plan(generator, 0, 1.0)
    w = sample_w(generator, n, 3, 1.0)
    doses = draw_doses(weights, n, rng)
    male = apparent_sex(generator, w, planted)
    drawn = draw_patients(w, planted, rng, male=male, signs=weighted(doses, weights, n))
    assert drawn.photo_part.std() == pytest.approx(1, abs=0.04)
    known = np.stack([*doses.values(), drawn.age, male, (w - planted.mean) @ planted.hazard])
    off = np.corrcoef(known) - np.eye(len(known))
    assert np.abs(off[:3]).max() < 0.05
    told = [np.corrcoef(dose, drawn.log_hazard)[0, 1] for _, dose in sorted(doses.items())]
    assert told[2] > told[1] > 0.3 > 0.05 > abs(told[0])
    assert 0.3 < male.mean() < 0.7


def test_a_planted_effect_of_sex_is_that_of_the_drawn_face(generator: Generator, tmp_path: Path) -> None:
    plain, planted = (
        simulate_cohort(generator, 30, 5, out=tmp_path / str(effect), camera=0.0, sex_effect=effect)[1]
        for effect in (0.0, 2.0)
    )
    difference = planted.photo_log_hazard - plain.photo_log_hazard
    np.testing.assert_allclose(difference, np.where(planted.male, 1.0, -1.0))
    assert chips(tmp_path / "0.0") == chips(tmp_path / "2.0")


def test_the_table_states_the_apparent_sex(generator: Generator, tmp_path: Path) -> None:
    cohort, truth = simulate_cohort(generator, 20, 0, out=tmp_path, signs={"pallor": 1.0})
    np.testing.assert_array_equal(cohort.patients["sex"] == "M", truth.male)
    assert set(truth.doses) == set(truth.weights) == {"pallor"}
    np.testing.assert_allclose(truth.sign_score(), truth.doses["pallor"])
    with pytest.raises(InputError, match="painted signs"):
        truth.score_cosine(np.zeros((1, 32)))


def test_the_bundled_generators_faces_have_a_sex() -> None:
    bundled = load_generator("synthetic-64")
    w = sample_w(bundled, 2000, 11, 1.0)
    planted = plan(bundled, 0, 1.0)
    male = apparent_sex(bundled, w, planted)
    assert male.mean() == pytest.approx(0.5, abs=0.06)
    assert np.corrcoef(male, (w - planted.mean) @ planted.other)[0, 1] < 0.9


def test_a_sham_looks_like_nothing_at_all(generator: Generator) -> None:
    """Painted and taken off again, a face is the one that was resampled twice with no sign."""
    bundled = load_generator("synthetic-64")
    w = sample_w(bundled, 12, 4, 0.7)
    doses = {"pallor": np.full(12, 1.5), "wasting": np.full(12, 1.5), "shadow": np.full(12, -1.5)}
    none = {name: np.zeros(12) for name in doses}
    sham, plain, painted = (
        np.stack(list(painted_faces(drawn_faces(bundled, w), d, 0, sham=s))).astype(float)
        for d, s in ((doses, True), (none, True), (doses, False))
    )
    left, painted_change = np.abs(sham - plain).mean(), np.abs(painted - plain).mean()
    assert left < 0.15 * painted_change


def test_signs_are_refused_where_none_are_painted(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="truth='latent'"):
        simulate_cohort(generator, 20, out=tmp_path, truth="latent", signs={"pallor": 1.0})
    with pytest.raises(InputError, match="unknown sign"):
        simulate_cohort(generator, 20, out=tmp_path, signs={"fever": 1.0})
