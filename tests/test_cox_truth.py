"""CoxRidge against published coefficients of data sets that lifelines and scikit-survival carry.

Rossi, GBSG2 and kidney transplant are the published coefficients. For lung and veteran the digits that circulate come
from an iteration that was stopped early; `test_the_sixth_digit...` shows which are converged.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, CoxTimeVaryingFitter
from lifelines.datasets import (
    load_kidney_transplant,
    load_lung,
    load_rossi,
    load_stanford_heart_transplants,
)
from sksurv.datasets import load_gbsg2, load_veterans_lung_cancer
from sksurv.linear_model import CoxPHSurvivalAnalysis

from stylegan_surv.survival.cox.ridge import CoxRidge

Array = np.ndarray


def structured(event: Array, time: Array) -> Array:
    y = np.empty(len(time), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = np.asarray(event, bool), time
    return y


def rossi() -> tuple[Array, Array]:
    table = load_rossi()
    columns = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    return table[columns].to_numpy(float), structured(table["arrest"], table["week"])


def lung() -> tuple[Array, Array]:
    table = load_lung().dropna(subset=["age", "sex", "ph.ecog"])
    return table[["age", "sex", "ph.ecog"]].to_numpy(float), structured(table["status"], table["time"])


def veteran() -> tuple[Array, Array]:
    table, y = load_veterans_lung_cancer()
    X = pd.DataFrame(
        {
            "trt": table["Treatment"] == "test",
            "karno": table["Karnofsky_score"],
            "diagtime": table["Months_from_Diagnosis"],
            "age": table["Age_in_years"],
            "prior": 10 * (table["Prior_therapy"] == "yes"),
            **{kind: table["Celltype"] == kind for kind in ("smallcell", "adeno", "large")},
        }
    )
    return X.to_numpy(float), structured(y["Status"], y["Survival_in_days"])


def gbsg2() -> tuple[Array, Array]:
    table, y = load_gbsg2()
    grade = table["tgrade"].map({"I": 0, "II": 1, "III": 2}).astype(int).to_numpy()
    polynomial = np.array([[-(0.5**0.5), 0, 0.5**0.5], np.array([1, -2, 1]) / 6**0.5])  # R's contr.poly
    numbers = table[["age", "tsize", "pnodes", "progrec", "estrec"]].to_numpy(float)
    X = np.column_stack(
        [
            table["horTh"] == "yes",
            numbers[:, 0],
            table["menostat"] == "Post",
            numbers[:, 1:],
            *polynomial[:, grade],
        ]
    )
    return X.astype(float), structured(y["cens"], y["time"])


PUBLISHED = {
    "rossi": (
        rossi,
        [-0.379422, -0.057438, 0.313900, -0.149796, -0.433704, -0.084871, 0.091497],
        -658.7477,
    ),
    "lung": (lung, [0.011067, -0.552612, 0.463728], -729.2301),
    "veteran": (
        veteran,
        [0.294603, -0.032815, 0.000081, -0.008706, 0.007159, 0.861560, 1.196066, 0.401292],
        -474.3971,
    ),
    "gbsg2": (
        gbsg2,
        [-0.346279, -0.009459, 0.258445, 0.007796, 0.048789, -0.002217, 0.000197, 0.551299, -0.201091],
        -1735.7321,
    ),
}


@pytest.mark.parametrize("solver", ["gram", "primal"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_coefficients_and_log_likelihood(name: str, solver: str) -> None:
    load, coefficients, log_likelihood = PUBLISHED[name]
    X, y = load()
    model = CoxRidge(alphas=(1.0,), unpenalized=np.arange(X.shape[1]), solver=solver, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(model.coef_, coefficients, atol=6e-7)
    assert model.log_likelihood_ == pytest.approx(log_likelihood, abs=6e-5)


@pytest.mark.parametrize(
    ("name", "circulating"),
    [
        ("lung", [0.011067, -0.552610, 0.463728]),
        ("veteran", [0.294605, -0.032816, 0.000083, -0.008706, 0.007159, 0.861556, 1.196075, 0.401290]),
    ],
)
def test_the_sixth_digit_is_that_of_every_converged_fit(name: str, circulating: list[float]) -> None:
    """lifelines' default stops a little early; made precise it agrees with scikit-survival and with us."""
    X, y = PUBLISHED[name][0]()
    table = pd.DataFrame(X).assign(T=y["time"], E=y["event"])
    early = CoxPHFitter().fit(table, "T", "E").params_
    precise = CoxPHFitter().fit(table, "T", "E", fit_options={"precision": 1e-12}).params_
    theirs = CoxPHSurvivalAnalysis(ties="efron", tol=1e-14, n_iter=100).fit(X, y).coef_
    ours = CoxRidge(alphas=(1.0,), unpenalized=np.arange(X.shape[1]), tol=1e-10).fit(X, y).coef_
    np.testing.assert_allclose(early, circulating, atol=6e-7)
    np.testing.assert_allclose(precise, theirs, atol=1e-9)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert np.abs(ours - circulating).max() > 1e-6


def test_kidney_transplants() -> None:
    """Klein & Moeschberger (2003), Survival Analysis, example 8.3: Breslow's ties, white women the reference."""
    table = load_kidney_transplant()
    X = table[["black_male", "white_male", "black_female"]].to_numpy(float)
    y = structured(table["death"], table["time"])
    model = CoxRidge(alphas=(1.0,), ties="breslow", unpenalized=np.arange(3), tol=1e-10).fit(X, y)
    np.testing.assert_allclose(model.coef_, [0.1596, 0.2484, 0.6567], atol=6e-5)


def test_time_varying_covariates_are_rows_that_enter_late() -> None:
    """The Stanford heart transplants: a patient is a row before and a row after the operation."""
    table = load_stanford_heart_transplants()
    columns = ["age", "year", "surgery", "transplant"]
    named = {"id_col": "id", "event_col": "event", "start_col": "start", "stop_col": "stop"}
    theirs = CoxTimeVaryingFitter().fit(table, **named, fit_options={"precision": 1e-12})
    X, y = table[columns].to_numpy(float), structured(table["event"], table["stop"])
    entry = table["start"].to_numpy(float)
    ours = CoxRidge(alphas=(1.0,), unpenalized=np.arange(4), tol=1e-10).fit(X, y, entry=entry)
    np.testing.assert_allclose(ours.coef_, theirs.params_[columns], atol=1e-8)
    assert ours.log_likelihood_ == pytest.approx(theirs.log_likelihood_, abs=1e-8)


def test_rossi_with_breslow_ties() -> None:
    X, y = rossi()
    model = CoxRidge(alphas=(1.0,), ties="breslow", unpenalized=np.arange(7), tol=1e-10).fit(X, y)
    published = [-0.37902, -0.05725, 0.31413, -0.15111, -0.43278, -0.08498, 0.09111]
    np.testing.assert_allclose(model.coef_, published, atol=6e-6)


@pytest.mark.parametrize("solver", ["gram", "primal"])
def test_rossi_with_a_ridge_penalty(solver: str) -> None:
    """R: coxph(Surv(week, arrest) ~ ridge(..., theta = 1, scale = FALSE), ties = "breslow")."""
    X, y = rossi()
    model = CoxRidge(alphas=(1.0,), ties="breslow", solver=solver, tol=1e-10).fit(X, y)
    published = [-0.36367, -0.05779, 0.28961, -0.15083, -0.38296, -0.08230, 0.09095]
    np.testing.assert_allclose(model.coef_, published, atol=6e-6)


@pytest.mark.parametrize("solver", ["gram", "primal"])
@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 1e-5)])
def test_equals_scikit_survival(
    ties: str, solver: str, dtype: type, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stylegan_surv.survival.cox.primal.SMALL", 0
    )  # float32 stays float32, as for a large X
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30)).astype(dtype)
    y = structured(rng.random(200) < 0.6, np.ceil(20 * rng.exponential(np.exp(-X[:, 0] + 0.5 * X[:, 1]))))
    theirs = CoxPHSurvivalAnalysis(alpha=5.0, ties=ties, tol=1e-14, n_iter=200).fit(X.astype(float), y)
    ours = CoxRidge(alphas=(500.0, 50.0, 5.0), ties=ties, solver=solver, tol=1e-11).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=tolerance)


def test_the_penalty_conversion_of_the_documentation() -> None:
    """lifelines' penalizer is alpha / n on columns of SD 1; it scales others to that."""
    X, y = rossi()
    X = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    table = pd.DataFrame(X).assign(T=y["time"], E=y["event"])
    theirs = CoxPHFitter(penalizer=0.05).fit(table, "T", "E", fit_options={"precision": 1e-12})
    ours = CoxRidge(alphas=(0.05 * len(X),), tol=1e-10).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.params_, atol=1e-6)
