"""What must hold for CoxRidge whatever the data: equivalences, invariances, survival curves, bad input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.outcome import Outcome

Array = np.ndarray
SOLVERS = pytest.mark.parametrize("solver", ["gram", "primal"])


def patients(
    n: int = 120, p: int = 20, ties: bool = True, seed: int = 0
) -> tuple[Array, Array, dict[str, Array]]:
    """X, y, and entry, strata and weights that may be used with them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 3
    time = rng.exponential(10 * np.exp(-0.7 * (X[:, 0] - 3)))
    time = np.ceil(time) if ties else time
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = rng.random(n) < 0.7, time
    entry = np.floor(rng.uniform(0, 1, n) * time) - 0.5
    return (
        X,
        y,
        {
            "entry": entry,
            "strata": rng.choice(["a", "b", "c"], n),
            "sample_weight": rng.choice([0.0, 1.0, 2.0], n),
        },
    )


def fit(X: Array, y: Array, penalty: float = 5.0, **given: Any) -> CoxRidge:
    settings = {k: given.pop(k) for k in list(given) if k in CoxRidge().get_params()}
    return CoxRidge(**({"alphas": (penalty,), "tol": 1e-11} | settings)).fit(X, y, **given)


# equivalences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("use", [(), ("entry",), ("strata",), ("entry", "strata", "sample_weight")])
@pytest.mark.parametrize("p", [20, 300])
def test_gram_equals_primal(ties: str, use: tuple[str, ...], p: int) -> None:
    X, y, extra = patients(p=p)
    given = {name: extra[name] for name in use}
    settings = {
        "ties": ties,
        "alphas": (300.0, {"x": 5.0, "rest": 50.0}),
        "penalty_groups": {"x": np.arange(5, 10)},
        "unpenalized": [0, 11],
    }
    gram, primal = (fit(X, y, solver=solver, **settings, **given) for solver in ("gram", "primal"))
    np.testing.assert_allclose(gram.coef_path_, primal.coef_path_, atol=1e-9)
    np.testing.assert_allclose(gram.predict(X), primal.predict(X), atol=1e-9)
    assert gram.alpha_ == primal.alpha_ == {"x": 5.0, "rest": 50.0}


def test_torch_products_equal_numpy() -> None:
    X, y, _ = patients()
    torch_cpu = fit(X, y, solver="primal:cpu")
    np.testing.assert_allclose(torch_cpu.coef_, fit(X, y, solver="primal").coef_, atol=1e-12)


@SOLVERS
def test_the_gradient_of_the_objective_vanishes(solver: str) -> None:
    """Checked by finite differences of the objective as documented, unpenalised column and groups included."""
    X, y, _ = patients(n=60, p=6)
    model = fit(
        X, y, alphas=({"a": 2.0, "rest": 7.0},), penalty_groups={"a": [1, 2]}, unpenalized=[0], solver=solver
    )
    alpha = np.array([0.0, 2.0, 2.0, 7.0, 7.0, 7.0])

    def objective(b: Array) -> float:
        eta = X @ b
        value = 0.0
        for t in np.unique(y["time"][y["event"]]):  # Efron, straight from the definition
            dead, risk = y["event"] & (y["time"] == t), y["time"] >= t
            d = dead.sum()
            sums = [np.exp(eta[risk]).sum() - k / d * np.exp(eta[dead]).sum() for k in range(d)]
            value += eta[dead].sum() - np.log(sums).sum()
        return float(-value + 0.5 * alpha @ b**2)

    step = 1e-5 * np.eye(6)
    slope = [(objective(model.coef_ + s) - objective(model.coef_ - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(slope, 0, atol=1e-6)


@SOLVERS
def test_efron_is_breslow_without_ties(solver: str) -> None:
    X, y, _ = patients(ties=False)
    efron, breslow = (fit(X, y, ties=ties, solver=solver).coef_ for ties in ("efron", "breslow"))
    np.testing.assert_allclose(efron, breslow, atol=1e-11)


@SOLVERS
def test_weight_two_is_the_row_twice_and_weight_zero_is_no_row(solver: str) -> None:
    X, y, extra = patients()
    weight = extra["sample_weight"]
    weighted = fit(X, y, ties="breslow", solver=solver, sample_weight=weight)
    rows = np.repeat(np.arange(len(X)), weight.astype(int))
    repeated = fit(X[rows], y[rows], ties="breslow", solver=solver)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-10)
    np.testing.assert_allclose(  # the baselines differ in their reference point, the curves do not
        weighted.predict_survival_function(X, [5, 10]),
        repeated.predict_survival_function(X, [5, 10]),
        atol=1e-10,
    )


@pytest.mark.parametrize("use", [("strata",), ("entry",), ("entry", "strata")])
def test_strata_and_left_truncation_equal_lifelines(use: tuple[str, ...]) -> None:
    X, y, extra = patients(p=4)
    extra["entry"] = np.maximum(extra["entry"], 0.0)
    table = pd.DataFrame(X).assign(T=y["time"], E=y["event"], **{name: extra[name] for name in use})
    lifelines = CoxPHFitter().fit(
        table,
        "T",
        "E",
        strata=["strata"] if "strata" in use else None,
        entry_col="entry" if "entry" in use else None,
        fit_options={"precision": 1e-12},
    )
    ours = fit(X, y, unpenalized=np.arange(4), **{name: extra[name] for name in use})
    np.testing.assert_allclose(ours.coef_, lifelines.params_, atol=1e-7)
    assert ours.log_likelihood_ == pytest.approx(lifelines.log_likelihood_, abs=1e-7)


# invariances -----------------------------------------------------------------------------------------------


@SOLVERS
def test_rotating_the_latent_space_rotates_the_coefficients(solver: str) -> None:
    X, y, _ = patients(p=200)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(200, 200)))[0]
    plain, rotated = fit(X, y, solver=solver), fit(X @ Q, y, solver=solver)
    np.testing.assert_allclose(rotated.coef_, Q.T @ plain.coef_, atol=1e-9)
    np.testing.assert_allclose(rotated.predict(X @ Q), plain.predict(X), atol=1e-8)


@SOLVERS
def test_shifting_the_columns_changes_nothing(solver: str) -> None:
    X, y, _ = patients()
    shift = np.linspace(-50, 50, X.shape[1])
    plain, shifted = fit(X, y, solver=solver), fit(X + shift, y, solver=solver)
    np.testing.assert_allclose(shifted.coef_, plain.coef_, atol=1e-9)
    times = np.arange(0, 60, 5)
    np.testing.assert_allclose(
        shifted.predict_survival_function(X + shift, times),
        plain.predict_survival_function(X, times),
        atol=1e-9,
    )


def test_a_path_equals_its_single_fits_in_any_order() -> None:
    X, y, _ = patients(p=200)
    path = fit(X, y, alphas=(1.0, 100.0, 10.0))
    for alpha, coefficients in zip(path.alphas_, path.coef_path_):
        np.testing.assert_allclose(fit(X, y, alpha).coef_, coefficients, atol=1e-9)
    assert path.alpha_ == 10.0
    np.testing.assert_array_equal(path.coef_, path.coef_path_[2])


def test_alpha_need_not_be_on_the_path() -> None:
    X, y, _ = patients()
    model = fit(X, y, alphas=(100.0, 1.0), alpha=10.0)
    np.testing.assert_allclose(model.coef_, fit(X, y, 10.0).coef_, atol=1e-9)
    assert model.coef_path_.shape == (2, 20)


# survival functions ----------------------------------------------------------------------------------------


def test_survival_functions_equal_scikit_survival() -> None:
    X, y, _ = patients()
    theirs = CoxPHSurvivalAnalysis(alpha=5.0, ties="breslow", tol=1e-14, n_iter=200).fit(X, y)
    ours = fit(X, y, ties="breslow")
    times = np.unique(y["time"])
    expected = np.array([[f(t) for t in times] for f in theirs.predict_survival_function(X)])
    np.testing.assert_allclose(ours.predict_survival_function(X, times), expected, atol=1e-8)


@pytest.mark.parametrize("use", [(), ("strata",), ("entry", "strata")])
def test_survival_functions_fall_from_one_within_bounds(use: tuple[str, ...]) -> None:
    X, y, extra = patients()
    model = fit(X, y, **{name: extra[name] for name in use})
    strata = extra["strata"] if "strata" in use else None
    curves = model.predict_survival_function(20 * X, np.linspace(0, 200, 50), strata)  # extreme risks too
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    np.testing.assert_array_equal(curves[:, 0], 1)


def test_each_stratum_has_its_own_baseline() -> None:
    X, y, extra = patients()
    y["time"][extra["strata"] == "b"] *= 10
    model = fit(X, y, strata=extra["strata"])
    a, b = (model.predict_survival_function(X[:1], [8.0], np.array([s]))[0, 0] for s in "ab")
    assert b > a + 0.2
    with pytest.raises(InputError, match="give the stratum of every row"):
        model.predict_survival_function(X, [8.0])
    with pytest.raises(InputError, match=r"strata the model has not seen \(new\)"):
        model.predict_survival_function(X[:2], [8.0], np.array(["a", "new"]))
    pooled = model.survival_from_risk(model.predict(X[:1]), [8.0], np.array(["new"]), pool_unseen=True)[0, 0]
    assert a < pooled < b


# choice of the penalty -------------------------------------------------------------------------------------


def test_cross_validation_takes_the_best_and_one_se_a_heavier_penalty() -> None:
    X, y, _ = patients(p=100)
    best, heavier = fit(X, y, alphas=12, cv=5), fit(X, y, alphas=12, cv=5, one_se=True)
    assert best.cv_scores_.shape == (5, 12)
    assert best.alpha_ == best.alphas_[np.argmax(best.cv_scores_.sum(axis=0))]
    assert heavier.alpha_ > best.alpha_
    np.testing.assert_allclose(best.coef_, fit(X, y, best.alpha_).coef_, atol=1e-9)


def test_cross_validation_by_gram_and_by_weights_agree() -> None:
    X, y, extra = patients(p=150)
    gram, primal = (
        fit(X, y, alphas=5, cv=4, solver=s, unpenalized=[3], strata=extra["strata"])
        for s in ("gram", "primal")
    )
    np.testing.assert_allclose(gram.cv_scores_, primal.cv_scores_, rtol=1e-8)


def test_the_group_with_the_signal_gets_the_lighter_penalty() -> None:
    X, y, _ = patients(n=300, p=60, seed=2)
    model = fit(X, y, alphas=8, cv=5, penalty_groups={"signal": np.arange(3), "noise": np.arange(3, 60)})
    assert model.alpha_["noise"] >= 10 * model.alpha_["signal"]


def test_groups_without_names_are_numbered() -> None:
    X, y, _ = patients()
    named = fit(X, y, alphas=((2.0, 7.0),), penalty_groups={"a": range(8), "b": range(8, 20)})
    listed = fit(X, y, alphas=({"0": 2.0, "1": 7.0},), penalty_groups=[range(8), range(8, 20)])
    np.testing.assert_array_equal(listed.coef_, named.coef_)
    assert listed.alpha_ == {"0": 2.0, "1": 7.0}


def test_groups_stay_together_in_cross_validation() -> None:
    X, y, _ = patients()
    X, y = np.repeat(X, 3, axis=0), np.repeat(y, 3)  # every patient three times
    family = np.repeat(np.arange(120), 3)
    blind = fit(X, y, alphas=8, cv=5)
    grouped = fit(X, y, alphas=8, cv=5, groups=family)
    assert grouped.alpha_ > blind.alpha_  # copies in training and test make any penalty look too heavy


# scikit-learn ----------------------------------------------------------------------------------------------


def test_a_grid_search_routes_entry_and_strata_to_fit_and_score() -> None:
    X, y, extra = patients()
    routed = {"entry": extra["entry"], "strata": extra["strata"]}
    with config_context(enable_metadata_routing=True):
        cox = CoxRidge(alphas=(1.0,)).set_fit_request(strata=True, entry=True)
        cox.set_score_request(strata=True, entry=True)
        model = make_pipeline(StandardScaler(), cox)
        search = GridSearchCV(model, {"coxridge__alphas": [(1e6,), (10.0,)]}, cv=KFold(3)).fit(X, y, **routed)
    by_hand = []
    for train, test in KFold(3).split(X):
        scaler = StandardScaler().fit(X[train])
        known, new = ({name: v[rows] for name, v in routed.items()} for rows in (train, test))
        part = CoxRidge(alphas=(10.0,)).fit(scaler.transform(X[train]), y[train], **known)
        by_hand.append(part.score(scaler.transform(X[test]), y[test], **new))
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(np.mean(by_hand))
    best = search.best_estimator_.steps[-1][1]
    assert list(best.strata_) == ["a", "b", "c"]
    again = clone(best).fit(StandardScaler().fit_transform(X), y, **routed)
    np.testing.assert_array_equal(again.coef_, best.coef_)


# bad and unusual input -------------------------------------------------------------------------------------


def test_all_censored_and_nan_are_refused() -> None:
    X, y, _ = patients()
    censored = y.copy()
    censored["event"] = False
    with pytest.raises(InputError, match="all 120 rows are censored"):
        fit(X, censored)
    with pytest.raises(InputError, match="all 120 rows are censored"):  # all deaths have weight 0
        fit(X, y, sample_weight=(~y["event"]).astype(float))
    X[[3, 7], 5] = np.nan
    with pytest.raises(InputError, match=r"2 of 120 rows hold NaN or infinity \(rows \[3, 7\]"):
        fit(X, y)


def test_impossible_times_and_shapes_are_refused() -> None:
    X, y, _ = patients()
    with pytest.raises(InputError, match=r"entry: row 0 enters at .* expected entry < time"):
        fit(X, y, entry=y["time"])
    with pytest.raises(InputError, match=r"strata: got shape \(3,\), expected \(120,\)"):
        fit(X, y, strata=np.array(["a", "b", "c"]))
    with pytest.raises(InputError, match="structured array"):
        fit(X, y["time"])
    negative = y.copy()
    negative["time"][4] = -1
    with pytest.raises(InputError, match=r"row 4: -1"):
        fit(X, negative)
    with pytest.raises(InputError, match="19 features, but CoxRidge is expecting 20"):
        fit(X, y).predict(X[:, :19])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": (0.0,)}, "finite and > 0"),
        ({"alphas": ((1.0, 2.0),)}, r"expected a number or 1 numbers"),
        ({"alphas": ({"x": 1.0},), "penalty_groups": {"x": [1]}}, "one for each of"),
        ({"penalty_groups": {"a": [0, 1], "b": [1, 2]}}, "column 1 of 'b' is in use twice"),
        ({"unpenalized": [20]}, r"column indices in \[0, 20\)"),
        ({"ties": "exact"}, '"efron" or "breslow"'),
        ({"solver": "magic"}, "magic"),
        ({"cv": 200}, "200 folds for 120 patients"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    X, y, _ = patients()
    with pytest.raises(InputError, match=message):
        fit(X, y, **settings)


@SOLVERS
def test_one_event_gives_the_exact_minimiser(solver: str) -> None:
    X, y, _ = patients(p=3)
    y["event"] = np.arange(120) == 17
    model = fit(X, y, solver=solver)
    risk = y["time"] >= y["time"][17]
    share = np.exp(X[risk] @ model.coef_)
    mean = share @ X[risk] / share.sum()
    np.testing.assert_allclose(5.0 * model.coef_, X[17] - mean, atol=1e-9)


@SOLVERS
def test_constant_columns_get_no_coefficient(solver: str) -> None:
    X, y, _ = patients()
    X[:, [2, 5]] = 7.0
    model = fit(X, y, unpenalized=[5, 6], solver=solver)
    np.testing.assert_allclose(model.coef_[[2, 5]], 0, atol=1e-12)
    kept = np.setdiff1d(np.arange(20), [2, 5])
    without = fit(X[:, kept], y, unpenalized=[4], solver=solver)
    np.testing.assert_allclose(model.coef_[kept], without.coef_, atol=1e-9)


@SOLVERS
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_everyone_dies_at_once_or_on_day_zero(solver: str, ties: str) -> None:
    X, y, _ = patients()
    y["time"], y["event"] = 0.0, True
    model = fit(X, y, ties=ties, solver=solver)
    np.testing.assert_allclose(model.coef_, 0, atol=1e-9)  # nobody outlives anybody
    curves = model.predict_survival_function(X, [0.0, 1.0])
    assert (curves < 1).all()  # S(0) is after the deaths of day 0


def test_a_separating_column_is_told() -> None:
    X, y, _ = patients(p=3)
    X[:, 0] = y["time"] < np.quantile(y["time"], 0.3)
    y["event"] = (X[:, 0] == 1) & y["event"]  # only they die: the coefficient is infinite
    y["event"][0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        infinite = fit(X, y, unpenalized=[0])
    light = fit(X, y, unpenalized=[0], unpenalized_alpha=0.1)
    assert np.isfinite(infinite.predict(X)).all()
    assert 0 < light.coef_[0] < 15


def test_outcome_tells_every_fault() -> None:
    ids, time, event = np.array(["a", "b"]), np.array([1.0, 2.0]), np.array([1, 0])
    assert Outcome(ids, time, event).subset([1]).patient_id.tolist() == ["b"]
    with pytest.raises(InputError, match="'a' has 2 rows"):
        Outcome(np.array(["a", "a"]), time, event)
    with pytest.raises(InputError, match=r"row 1: -2"):
        Outcome(ids, -time + [2, 0], event)
    with pytest.raises(InputError, match="got 2 in row 1; expected 1"):
        Outcome(ids, time, np.array([1, 2]))
    with pytest.raises(InputError, match="'b' enters at 2 and ends at 2"):
        Outcome(ids, time, event, entry=np.array([0.0, 2.0]))
    with pytest.raises(InputError, match="1 of 2 patients have no stratum"):
        Outcome(ids, time, event, strata=np.array(["x", None], dtype=object))
    with pytest.raises(InputError, match="1 of 2 patients have an event; expected at least 5"):
        Outcome(ids, time, event).require_events(5, "5-fold cross-validation")


def test_outcome_from_a_table_with_a_death_on_day_zero() -> None:
    table = pd.DataFrame(
        {"patient_id": [1, 2, 3], "time": [0, 2, 5], "event": [1, 0, 1], "year": [1999, 2000, 2004]}
    )
    plain = Outcome.from_frame(table.assign(entry=0.0), strata="year:5")
    assert plain.entry is None
    assert plain.strata is not None
    assert plain.strata.tolist() == ["1995-2000", "2000-2005", "2000-2005"]
    truncated = Outcome.from_frame(table.assign(entry=[0.0, 1.0, np.nan]))
    assert truncated.entry is not None
    assert truncated.entry[0] < 0  # at risk on day 0
    assert truncated.entry[1:].tolist() == [1.0, 0.0]
