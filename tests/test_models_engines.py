"""Elastic net, forests, DeepSurv, late fusion: truth where there is one, behaviour everywhere."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxnetSurvivalAnalysis

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.elasticnet import CoxElasticNet
from stylegan_surv.survival.engines.forests import SurvivalForest, coarsen
from stylegan_surv.survival.engines.fusion import LateFusion
from stylegan_surv.survival.engines.persist import load_model, save_model
from stylegan_surv.survival.engines.registry import MODELS, make_model

Array = np.ndarray

QUICK: dict[str, dict[str, Any]] = {
    "cox-ridge": {"alphas": 4},
    "cox-ridge-groups": {"alphas": 3},
    "cox-elasticnet": {"alphas": 8},
    "rsf": {"n_estimators": 10},
    "extra-trees": {"n_estimators": 10},
    "deepsurv": {"max_epochs": 60},
}
EVERY = pytest.mark.parametrize("name", QUICK)


def patients(n: int = 200, p: int = 24, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)).astype(np.float32)
    X[:, 0] *= 3  # the signal is a leading component, as forests on components need it
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"] = rng.random(n) < 0.7
    y["time"] = np.ceil(50 * rng.exponential(np.exp(-0.5 * X[:, 0])))
    return X, y


# every model -----------------------------------------------------------------------------------------------


def test_every_name_is_tested() -> None:
    assert set(QUICK) | {"clinical", "nuisance"} == set(MODELS)


@EVERY
def test_finds_the_signal_and_gives_proper_survival_curves(name: str) -> None:
    X, y = patients()
    model = make_model(name, 12, 2).set_params(**QUICK[name]).fit(X[:150], y[:150])
    assert model.score(X[150:], y[150:]) > 0.65
    curves = model.predict_survival_function(X[150:], [0.0, 10, 30, 60, 1e4])
    assert curves.shape == (50, 5)
    np.testing.assert_array_equal(curves[:, 0], 1)
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    worse, better = (X[150:, 0] > 0.5), (X[150:, 0] < -0.5)
    assert curves[worse, 2].mean() < curves[better, 2].mean()


@EVERY
def test_a_clone_fits_the_same_and_a_saved_model_predicts_the_same(name: str, tmp_path: Path) -> None:
    X, y = patients(n=100)
    model = make_model(name, 12, 2).set_params(**QUICK[name])
    first, second = clone(model).fit(X, y), clone(model).fit(X, y)
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    loaded, _ = load_model(save_model(first, tmp_path))
    np.testing.assert_array_equal(loaded.predict(X), first.predict(X))
    times = [5.0, 50.0]
    np.testing.assert_array_equal(
        loaded.predict_survival_function(X, times), first.predict_survival_function(X, times)
    )


@EVERY
def test_works_in_a_pipeline_under_grid_search(name: str) -> None:
    X, y = patients(n=90)
    model = make_pipeline(StandardScaler(), make_model(name, 12, 2).set_params(**QUICK[name]))
    parameter = {"rsf": "min_samples_leaf", "extra-trees": "min_samples_leaf", "deepsurv": "patience"}
    key = f"{model.steps[-1][0]}__{parameter.get(name, 'alphas')}"
    search = GridSearchCV(model, {key: [3, 6]}, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@EVERY
def test_nan_latents_and_no_events_are_refused(name: str) -> None:
    X, y = patients(n=60)
    model = make_model(name, 12, 2).set_params(**QUICK[name])
    censored = y.copy()
    censored["event"] = False
    with pytest.raises(InputError, match="all 60 rows are censored"):
        model.fit(X, censored)
    X[3, 3] = np.inf
    with pytest.raises(InputError, match="1 of 60 rows hold NaN or infinity"):
        model.fit(X, y)


@EVERY
@pytest.mark.parametrize("same", [slice(5, 6), slice(None)])
def test_columns_that_are_the_same_in_everybody_do_no_harm(name: str, same: slice) -> None:
    X, y = patients(n=80)
    X[:, same] = 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_model(name, 12, 2).set_params(**QUICK[name]).fit(X, y)
    spread = model.predict(X).std()
    assert spread == pytest.approx(0, abs=1e-6) if same == slice(None) else spread > 0.1


@EVERY
def test_deaths_on_day_zero_count(name: str) -> None:
    X, y = patients(n=80)
    worst = np.argsort(-X[:, 0])[:10]
    y["time"][worst], y["event"][worst] = 0.0, True
    model = make_model(name, 12, 2).set_params(**QUICK[name]).fit(X, y)
    first_day = model.predict_survival_function(X, [0.0])[:, 0]
    others = np.setdiff1d(np.arange(80), worst)
    assert first_day[worst].mean() < first_day[others].mean() < 1


@EVERY
def test_where_nobody_outlives_anybody_there_is_no_risk_or_a_message(name: str) -> None:
    X, y = patients(n=80)
    y["time"], y["event"] = 7.0, True
    model = make_model(name, 12, 2).set_params(**QUICK[name])
    if name in ("rsf", "extra-trees"):
        with pytest.raises(
            InputError, match="all 80 patients leave at time 7, so that nobody outlives anybody"
        ):
            model.fit(X, y)
    else:
        assert np.abs(model.fit(X, y).predict(X)).max() < 1e-6


@pytest.mark.parametrize("name", ["cox-ridge", "cox-ridge-groups", "cox-elasticnet", "deepsurv"])
def test_fewer_events_or_patients_than_inner_folds_are_told(name: str) -> None:
    X, y = patients(n=80)
    model = make_model(name, 12, 2).set_params(**QUICK[name])
    with pytest.raises(InputError, match="5 folds for 4 patients"):
        model.fit(X[:4], y[:4])
    y["event"] = np.arange(80) == 7
    with pytest.raises(InputError, match="1 events among 80 patients cannot be spread over 5 folds"):
        model.fit(X, y)


@pytest.mark.parametrize("name", ["rsf", "extra-trees"])
@pytest.mark.parametrize("rank", [0, 40])
def test_a_forest_grows_on_one_event(name: str, rank: int) -> None:
    X, y = patients(n=80)
    y["event"] = False
    y["event"][np.argsort(y["time"], kind="stable")[rank]] = True
    model = make_model(name).set_params(**QUICK[name]).fit(X, y)
    curves = model.predict_survival_function(X, [0.0, y["time"].max()])
    np.testing.assert_array_equal(curves[:, 0], 1)
    assert (curves[:, 1] < 1).any()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="got 'svm', expected one of cox-ridge"):
        make_model("svm")
    with pytest.raises(InputError, match="needs num_ws and w_dim"):
        make_model("cox-ridge-groups")


# elastic net -----------------------------------------------------------------------------------------------


def test_elastic_net_has_coxnets_path_on_the_penalty_scale_of_cox_ridge() -> None:
    X, y = patients()
    X = X.astype(float)
    ours = CoxElasticNet(alphas=20, l1_ratio=0.3).fit(X, y)
    coxnet = CoxnetSurvivalAnalysis(alphas=ours.alphas_ / len(X), l1_ratio=0.3).fit(X, y)
    np.testing.assert_allclose(ours.coef_path_, coxnet.coef_.T, atol=1e-12)
    assert not ours.coef_path_[0].any()  # the grid begins where the first column enters
    assert ours.coef_path_[1].any()
    nearly = CoxElasticNet(alphas=[5.0], l1_ratio=0.01, tol=1e-12).fit(X, y)
    ridge = CoxRidge(alphas=(5.0,), ties="breslow").fit(X, y)
    np.testing.assert_allclose(nearly.coef_, ridge.coef_, atol=2e-3)  # 1 % of the penalty is still l1


def test_elastic_net_meets_its_optimality_conditions_with_unpenalised_columns() -> None:
    X, y = patients()
    X = X.astype(float) - X.mean(axis=0)
    model = CoxElasticNet(alphas=[40.0, 8.0], l1_ratio=0.7, unpenalized=[0, 1], tol=1e-14).fit(X, y)
    eta = X @ model.coef_
    gradient = np.zeros(X.shape[1])
    for i in np.flatnonzero(y["event"]):  # Breslow, straight from the definition
        risk = y["time"] >= y["time"][i]
        weight = np.exp(eta[risk])
        gradient += X[i] - weight @ X[risk] / weight.sum()
    np.testing.assert_allclose(gradient[:2], 0, atol=1e-3)
    b, g = model.coef_[2:], gradient[2:]
    active = b != 0
    assert 0 < active.sum() < len(b)
    np.testing.assert_allclose(g[active], 8 * (0.7 * np.sign(b[active]) + 0.3 * b[active]), atol=5e-3)
    assert (np.abs(g[~active]) <= 8 * 0.7 + 1e-3).all()


def test_penalties_above_the_first_column_give_the_unpenalised_fit() -> None:
    X, y = patients()
    model = CoxElasticNet(alphas=[1e6, 1e5, 10.0], unpenalized=[0]).fit(X, y)
    alone = CoxRidge(alphas=(1.0,), unpenalized=[0], ties="breslow").fit(X[:, :1], y).coef_
    np.testing.assert_allclose(model.coef_path_[:2, 0], [alone[0]] * 2, atol=1e-6)
    assert not model.coef_path_[:2, 1:].any()
    assert model.alphas_.tolist() == [1e6, 1e5, 10.0]


def test_elastic_net_chooses_by_cross_validation() -> None:
    X, y = patients()
    model = CoxElasticNet(alphas=15, cv=5).fit(X, y)
    assert model.alpha_ == model.alphas_[np.argmax(model.cv_scores_.sum(axis=0))]
    assert model.alphas_[-1] < model.alpha_ < model.alphas_[0]
    assert np.argmax(np.abs(model.coef_)) == 0
    named = CoxElasticNet(alphas=15, alpha=model.alpha_).fit(X, y)
    np.testing.assert_allclose(named.coef_, model.coef_, atol=1e-6)


def test_the_path_ends_gracefully_where_coxnet_fails() -> None:
    X, y = patients(n=60)
    X = np.hstack([100 * X, X**3])
    with pytest.warns(RuntimeWarning, match="the path ends there, after"):
        model = CoxElasticNet(alphas=np.geomspace(1e4, 1e-9, 15), max_iter=500).fit(X, y)
    assert 0 < len(model.alphas_) < 15
    assert np.isfinite(model.predict(X)).all()


def test_a_pure_ridge_and_weights_are_refused_by_the_elastic_net() -> None:
    X, y = patients(n=60)
    with pytest.raises(InputError, match="For a pure ridge penalty use cox-ridge"):
        CoxElasticNet(l1_ratio=0.0).fit(X, y)
    with pytest.raises(InputError, match="CoxElasticNet cannot take sample_weight into account"):
        CoxElasticNet().fit(X, y, sample_weight=np.ones(60))


# forests ---------------------------------------------------------------------------------------------------


def test_coarse_times_keep_the_order_of_deaths_and_never_lengthen_a_censoring() -> None:
    _, y = patients(n=400)
    coarse = coarsen(y["event"], y["time"], 20)
    dead = y["event"]
    np.testing.assert_array_equal(coarse["event"], dead)
    assert len(np.unique(coarse["time"][dead])) <= 20
    assert (coarse["time"][dead] >= y["time"][dead]).all()
    assert (coarse["time"][~dead] <= y["time"][~dead]).all()
    order = np.argsort(y["time"][dead], kind="stable")
    assert (np.diff(coarse["time"][dead][order]) >= 0).all()


def test_a_forest_is_forecast_before_it_is_grown(caplog: pytest.LogCaptureFixture) -> None:
    X, y = patients(n=1200)
    with caplog.at_level("INFO"):
        forest = SurvivalForest("extra-trees", n_estimators=20).fit(X, y)
    assert "about" in caplog.text
    kept = sum(tree.tree_.value.nbytes for tree in forest.forest_.estimators_)
    assert 0.5 < forest.forecast_.bytes / kept < 2
    asked = SurvivalForest("extra-trees", n_estimators=20).forecast(X, y)
    assert asked is not None
    assert asked.bytes == forest.forecast_.bytes
    assert SurvivalForest("extra-trees", n_estimators=2).fit(X[:300], y[:300]).forecast_ is None


def test_an_expensive_forest_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = patients(n=1000)
    monkeypatch.setattr("stylegan_surv.survival.engines.forests.LARGE", 1e4)
    with pytest.warns(RuntimeWarning, match=r"will take about .* MB. Fewer trees"):
        SurvivalForest("extra-trees", n_estimators=2).fit(X, y)


# DeepSurv and late fusion ----------------------------------------------------------------------------------


def test_deepsurv_learns_what_a_linear_model_cannot() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)).astype(np.float32)
    y = np.empty(600, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = True, rng.exponential(np.exp(-2 * np.abs(X[:, 0])))
    deep = make_model("deepsurv").set_params(lr=0.01, weight_decay=0.01).fit(X[:400], y[:400])
    linear = CoxRidge(cv=5).fit(X[:400], y[:400])
    assert deep.score(X[400:], y[400:]) > 0.65 > 0.6 > linear.score(X[400:], y[400:])


def test_deepsurv_stops_at_no_risk_when_there_is_none_and_leaves_torchs_random_state_alone() -> None:
    import torch

    X, y = patients(n=80, p=60)
    y["time"] = np.random.default_rng(5).permutation(y["time"])
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    model = make_model("deepsurv").fit(X, y)
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.n_epochs_ < 100
    assert model.predict(X).std() < 0.7


def test_a_fitted_deepsurv_predicts_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = patients(n=60)
    model = make_model("deepsurv").set_params(max_epochs=5).fit(X, y)
    expected = model.predict(X)
    monkeypatch.setitem(sys.modules, "torch", None)  # any import of it fails
    np.testing.assert_array_equal(model.predict(X), expected)


def test_late_fusion_weighs_the_photograph_by_what_it_predicts_out_of_fold() -> None:
    """A forest fits its own training rows almost perfectly; fused in-sample it would drown the clinic."""
    X, y = patients(n=300, p=40)
    noise = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    clinical = X[:, :1].astype(float)  # the truth
    forest = SurvivalForest("extra-trees", n_estimators=20, min_samples_leaf=3)
    fused = LateFusion(forest).fit((noise[:200], clinical[:200]), y[:200])
    parts = fused._scores((noise[200:], clinical[200:])) * fused.cox_.coef_
    assert parts[:, 0].std() < 0.25 * parts[:, 1].std()
    alone = CoxRidge(alphas=(0.1,)).fit(clinical[:200], y[:200])
    assert fused.score((noise[200:], clinical[200:]), y[200:]) > alone.score(clinical[200:], y[200:]) - 0.03
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves = fused.predict_survival_function((noise[200:], clinical[200:]), [10, 50])
    assert ((curves >= 0) & (curves <= 1)).all()
