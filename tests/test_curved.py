"""Penalised natural splines of clinical numbers: found where they are, absent where they are not."""

import numpy as np
import pandas as pd
import pytest

from stylegan_surv._types import Array, Floats
from stylegan_surv.survival import CurvedDesign, concordance, nested_cv
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.splines import Bend, restricted_cubic
from stylegan_surv.survival.validation.nested import Validation


def u_shaped(n: int, seed: int = 0, bend: float = 1.0, share: float = 0.6) -> tuple[pd.DataFrame, Outcome]:
    """Age whose youngest and oldest die first; about `share` of the patients die."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 90, n)
    z = (age - 55) / 20
    death = rng.exponential(np.exp(-bend * (z**2 - 1)))
    end = np.quantile(death, share) * rng.uniform(0.5, 1.5, n)
    outcome = Outcome(np.arange(n), np.minimum(death, end), death <= end)
    return pd.DataFrame({"age": age, "grade": rng.integers(0, 4, n)}), outcome


def test_the_basis_is_orthonormal_and_straight_outside_the_knots() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(3, size=300)
    bend = Bend.of(x)
    assert bend is not None
    B = np.column_stack([np.ones(300), (x - x.mean()) / x.std(), bend.columns(x)])
    np.testing.assert_allclose(B.T @ B / 300, np.eye(4), atol=1e-9)
    far = bend.columns(np.linspace(20, 40, 9))
    np.testing.assert_allclose(np.diff(far, 2, axis=0), 0, atol=1e-9)
    low = bend.columns(np.linspace(-10, x.min(), 9))
    np.testing.assert_allclose(np.diff(low, 2, axis=0), 0, atol=1e-9)
    np.testing.assert_array_equal(bend.columns(np.array([np.nan])), [[0.0, 0.0]])
    assert Bend.of(np.ones(20)) is None
    assert Bend.of(np.repeat([0.0, 1.0], 20)) is None


def test_the_terms_are_those_of_harrell() -> None:
    """Equation 2.24 of Regression Modeling Strategies, knots 0, 1, 2, 3: by hand at 2.5."""
    cube = 2.5**3 - 0.5**3 * 3  # (x - t1)^3 - (x - t3)^3 (t4 - t1) / (t4 - t3), (x - t4)+ = 0
    second = 1.5**3 - 0.5**3 * 2
    basis = restricted_cubic(np.array([2.5]), np.arange(4.0))
    np.testing.assert_allclose(basis, [[2.5, cube / 9, second / 9]])


def test_a_u_shaped_effect_is_found_and_a_line_is_left_alone() -> None:
    table, outcome = u_shaped(400)
    curved = CurvedDesign().fit(table, outcome)
    assert list(curved.bends_) == ["age"]  # four grades are a line
    assert curved.feature_names_out_[:2] == ["age", "grade"]
    assert curved.transform(table).shape[1] == len(curved.feature_names_out_)
    assert CurvedDesign(linear=True).fit(table, outcome).bends_ == {}
    assert CurvedDesign().fit(table).bends_ == {}  # nothing to choose by
    bent = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        age = rng.uniform(20, 90, 200)
        death = rng.exponential(np.exp(-0.04 * (age - 55)))
        line = Outcome(np.arange(200), np.minimum(death, 1.0), death <= 1.0)
        bent.append(CurvedDesign().fit(pd.DataFrame({"age": age}), line).bend_alpha_)
    assert np.mean(np.array(bent) > 20) >= 0.9  # a prior SD of the bend below .22


def test_a_dozen_deaths_bend_nothing() -> None:
    table, outcome = u_shaped(60, share=0.2)
    assert outcome.event.sum() < 20
    assert CurvedDesign().fit(table, outcome).bends_ == {}


@pytest.mark.parametrize("linear", [False, True])
def test_the_clinical_model_reads_the_curve_that_a_face_would_have_been_credited_with(linear: bool) -> None:
    """The latents show age as it acts, bent; a straight clinical age leaves that to the photograph."""
    table, outcome = u_shaped(500, seed=2)
    z = ((table["age"] - 55) / 20).to_numpy()
    rng = np.random.default_rng(0)
    X = np.column_stack([z**2, rng.standard_normal((500, 5))]).astype(np.float32)
    how = Validation(folds=5, linear=linear)
    oof = nested_cv("cox-ridge", X, outcome, how, clinical=table[["age"]])
    c = {name: _pooled(oof.model(name), outcome) for name in ("clinical", "photo", "both")}
    assert c["photo"] > 0.68
    if linear:
        assert c["clinical"] < 0.58
        assert c["both"] - c["clinical"] > 0.1
    else:
        assert c["clinical"] > 0.67
        assert abs(c["both"] - c["clinical"]) < 0.03


def _pooled(frame: pd.DataFrame, outcome: Outcome) -> float:
    risk: Floats = frame.set_index("patient_id").loc[outcome.patient_id, "risk"].to_numpy()
    fold: Array = frame.set_index("patient_id").loc[outcome.patient_id, "fold"].to_numpy()
    return concordance(outcome.time, outcome.event, risk, strata=fold).estimate
