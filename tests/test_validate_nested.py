"""Nested cross-validation: nothing leaks, the fast path is the slow one, folds can be trusted and reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.registry import make_model
from stylegan_surv.survival.metrics.table import pooled_concordance
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import leave_group_out, make_folds, temporal_split
from stylegan_surv.survival.validation.gram_cv import GramCV
from stylegan_surv.survival.validation.nested import Validation, nested_cv
from stylegan_surv.survival.validation.out_of_fold import OutOfFold

Array = np.ndarray


def cohort(n: int = 150, p: int = 160, seed: int = 0, **other: Any) -> tuple[Array, Outcome, pd.DataFrame]:
    """Latents that share a few factors, an outcome that depends on the first, and a clinical table."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 10))
    X = (factors @ rng.normal(size=(10, p)) + rng.normal(size=(n, p)) + 2).astype(np.float32)
    age = rng.normal(60, 10, n)
    time = np.ceil(30 * rng.exponential(np.exp(-0.8 * factors[:, 0] - 0.04 * (age - 60))))
    clinical = pd.DataFrame(
        {"age": age, "sex": rng.choice(["f", "m"], n), "stage": rng.choice(["1", "2", None], n)}
    )
    clinical.loc[rng.random(n) < 0.1, "age"] = np.nan
    outcome = Outcome(np.array([f"p{i:03d}" for i in range(n)]), time, rng.random(n) < 0.6, **other)
    return X, outcome, clinical


# nothing leaks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cox-ridge", "cox-ridge-groups", "cox-elasticnet", "extra-trees"])
def test_a_copy_of_the_outcome_in_the_test_fold_alone_changes_nothing(name: str) -> None:
    X, outcome, clinical = cohort(p=120)
    settings = {"cox-elasticnet": {"alphas": 5}, "extra-trees": {"n_estimators": 10}}.get(name, {"alphas": 4})
    model = {name: make_model(name, 12, 10).set_params(**settings)}
    fold = make_folds(outcome, 5)[0]
    only = np.where(fold == 2, 0, -1)  # test fold 2, train on the others
    honest = np.hstack([X, np.zeros((len(X), 1), np.float32)])
    cheat, cheat_clinical = honest.copy(), clinical.assign(copy=0.0)
    cheat[fold == 2, -1] = 10 * outcome.time[fold == 2]
    cheat_clinical.loc[fold == 2, "copy"] = outcome.time[fold == 2]
    if name == "cox-ridge-groups":
        model[name].set_params(penalty_groups={"coarse": np.arange(40), "fine": np.arange(40, 121)})
    a = nested_cv(model, honest, outcome, Validation(folds=only), clinical=clinical.assign(copy=0.0))
    b = nested_cv(model, cheat, outcome, Validation(folds=only), clinical=cheat_clinical)
    pd.testing.assert_frame_equal(a.frame, b.frame, atol=1e-7)
    pd.testing.assert_frame_equal(a.chosen, b.chosen)


@pytest.mark.slow
def test_a_hundred_permuted_outcomes_give_no_concordance() -> None:
    _permutations(n=500, p=2560, times=100, tolerance=0.01)


def test_permuted_outcomes_give_no_concordance() -> None:
    _permutations(n=150, p=300, times=20, tolerance=0.03)


def _permutations(n: int, p: int, times: int, tolerance: float) -> None:
    X, outcome, _ = cohort(n, p)
    fold = make_folds(outcome, 5)[0]
    cv = GramCV(X, fold)
    rng = np.random.default_rng(0)

    def pooled_c(order: Array) -> float:
        permuted = outcome.subset(order)
        frame = pd.DataFrame({"patient_id": permuted.patient_id, "repeat": 0, "fold": fold})
        return pooled_concordance(frame.assign(risk=cv.out_of_fold_risk(permuted)), permuted).estimate

    assert pooled_c(np.arange(n)) > 0.6
    assert abs(np.mean([pooled_c(rng.permutation(n)) for _ in range(times)]) - 0.5) < tolerance


# the fast path is the slow one -----------------------------------------------------------------------------


@pytest.mark.parametrize("use", [(), ("strata",), ("entry", "strata")])
def test_shared_gram_matrix_equals_the_pipeline(use: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    X, outcome, clinical = cohort()
    extra = {"strata": rng.choice(["a", "b"], len(X)), "entry": outcome.time - rng.uniform(0.5, 9, len(X))}
    outcome = Outcome(outcome.patient_id, outcome.time, outcome.event, **{name: extra[name] for name in use})
    ridge = {"alphas": 6, "tol": 1e-9}
    fast = nested_cv(
        {"m": make_model("cox-ridge").set_params(**ridge)}, X, outcome, Validation(inner=4), clinical=clinical
    )
    slow_model = make_pipeline(StandardScaler(with_std=False), make_model("cox-ridge").set_params(**ridge))
    slow = nested_cv({"m": slow_model}, X, outcome, Validation(inner=4, folds=fast.folds), clinical=clinical)
    pd.testing.assert_frame_equal(fast.frame, slow.frame, atol=1e-6, rtol=0)
    pd.testing.assert_frame_equal(fast.chosen, slow.chosen)


def test_out_of_fold_risks_are_those_of_fits_by_hand() -> None:
    X, outcome, _ = cohort()
    found = nested_cv("cox-ridge", X, outcome, Validation(horizons=[10.0, 30.0]))
    rows = found.frame.set_index("patient_id")
    for fold in range(5):
        test = np.flatnonzero(rows.loc[outcome.patient_id, "fold"] == fold)
        train = np.setdiff1d(np.arange(len(X)), test)
        model = CoxRidge(cv=5).fit(X[train].astype(float), outcome.y[train])
        expected = rows.loc[outcome.patient_id[test]]
        np.testing.assert_allclose(model.predict(X[test]), expected["risk"], atol=1e-6)
        curves = model.predict_survival_function(X[test], [10.0, 30.0])
        np.testing.assert_allclose(curves, expected[["S(10)", "S(30)"]], atol=1e-6)


def test_gram_cv_equals_fits_by_hand() -> None:
    X, outcome, _ = cohort()
    fold = make_folds(outcome, 5)[0]
    order = np.random.default_rng(0).permutation(len(X))
    risk = GramCV(X, fold, tol=1e-9).out_of_fold_risk(outcome.subset(order), alphas=[300.0])
    y = outcome.y[order]
    for k in range(5):
        model = CoxRidge(alphas=(300.0,)).fit(X[fold != k].astype(float), y[fold != k])
        np.testing.assert_allclose(model.predict(X[fold == k]), risk[fold == k], atol=1e-6)


# folds -----------------------------------------------------------------------------------------------------


def test_folds_are_balanced_in_events_and_strata() -> None:
    rng = np.random.default_rng(0)
    _, outcome, _ = cohort(n=203, strata=rng.choice(["x", "y", "z"], 203, p=[0.7, 0.28, 0.02]))
    division = make_folds(outcome, 5, repeats=2)
    assert (division[0] != division[1]).any()
    assert outcome.strata is not None
    for fold in division:
        for kind in ("x", "y"):
            for event in (False, True):
                here = fold[(outcome.strata == kind) & (outcome.event == event)]
                counts = np.bincount(here, minlength=5)
                assert counts.max() - counts.min() <= 1
        sizes = np.bincount(fold)
        assert sizes.max() - sizes.min() <= 1


def test_groups_stay_in_one_fold() -> None:
    _, outcome, _ = cohort(n=200)
    family = np.random.default_rng(0).integers(0, 40, 200)
    fold = make_folds(outcome, 5, groups=family)[0]
    assert all(len(np.unique(fold[family == f])) == 1 for f in np.unique(family))
    assert all(outcome.event[fold == k].any() for k in range(5))


def test_the_same_folds_give_the_same_results_and_can_be_saved(tmp_path: Path) -> None:
    X, outcome, clinical = cohort()
    first = nested_cv("cox-ridge", X, outcome, Validation(repeats=2, horizons=[5, 12.5]), clinical=clinical)
    first.save(tmp_path / "oof.parquet")
    loaded = OutOfFold.load(tmp_path / "oof.parquet")
    pd.testing.assert_frame_equal(loaded.frame, first.frame)
    pd.testing.assert_frame_equal(loaded.chosen, first.chosen)
    assert loaded.horizons == (5.0, 12.5)
    assert list(loaded.frame.columns) == ["patient_id", "repeat", "fold", "model", "risk", "S(5)", "S(12.5)"]
    order = np.random.default_rng(0).permutation(len(X))  # other order of patients, same folds by name
    again = nested_cv(
        "cox-ridge",
        X[order],
        outcome.subset(order),
        Validation(folds=loaded.folds, horizons=[5, 12.5]),
        clinical=clinical.iloc[order],
    )
    for name in first.models:
        a, b = (r.model(name).set_index(["repeat", "patient_id"])["fold"] for r in (first, again))
        pd.testing.assert_series_equal(a, b.loc[a.index])
    clinical_risk = [r.model("clinical").set_index(["repeat", "patient_id"])["risk"] for r in (first, again)]
    np.testing.assert_allclose(clinical_risk[0], clinical_risk[1].loc[clinical_risk[0].index], atol=1e-9)


def test_leave_group_out_and_temporal_splits() -> None:
    X, outcome, _ = cohort(strata=np.repeat(["north", "south", "west"], 50))
    assert outcome.strata is not None
    left_out = nested_cv("cox-ridge", X, outcome, Validation(folds=leave_group_out(outcome.strata)))
    assert left_out.frame.groupby("fold")["patient_id"].count().tolist() == [50, 50, 50]
    assert left_out.frame.notna().all(axis=None)  # a stratum that was left out gets the pooled baseline
    year = np.linspace(2000, 2010, 150)
    late = nested_cv("cox-ridge", X, outcome, Validation(folds=temporal_split(year, 2007)))
    tested = outcome.patient_id[year >= 2007]
    assert sorted(late.frame["patient_id"]) == sorted(tested)
    model = CoxRidge(cv=5).fit(
        X[year < 2007].astype(float), outcome.y[year < 2007], strata=outcome.strata[year < 2007]
    )
    np.testing.assert_allclose(model.predict(X[year >= 2007]), late.frame["risk"], atol=1e-6)
    with pytest.raises(InputError, match="expected both kinds"):
        temporal_split(year, 1990)


# models ----------------------------------------------------------------------------------------------------


def test_every_model_is_evaluated_on_the_same_folds_under_its_name() -> None:
    X, outcome, clinical = cohort()
    nuisance = np.random.default_rng(0).normal(size=(150, 3))
    models = {"cox-ridge": make_model("cox-ridge"), "rsf": make_model("rsf").set_params(n_estimators=5)}
    seen: list[tuple[int, int]] = []
    found = nested_cv(
        models,
        X,
        outcome,
        Validation(folds=3),
        clinical=clinical,
        extra_matrices={"nuisance": nuisance},
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found.models == ["clinical", "photo", "both", "photo/rsf", "both/rsf", "nuisance"]
    assert seen[-1] == (18, 18)
    fold = {name: found.model(name).set_index("patient_id")["fold"] for name in found.models}
    assert all(fold[name].equals(fold["photo"]) for name in found.models)
    curves = found.frame.filter(like="S(").to_numpy()
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    c = {name: pooled_concordance(found.model(name), outcome).estimate for name in found.models}
    assert min(c["photo"], c["both"]) > c["nuisance"] + 0.03
    assert set(found.chosen["model"]) >= {"photo", "both"}
    with pytest.raises(InputError, match="these results hold clinical, photo"):
        found.model("lasso")


def test_forests_tell_their_cost_before_anything_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    X, outcome, clinical = cohort(n=1000, p=20)
    models = {"rsf": make_model("rsf").set_params(n_estimators=2)}

    def fitting(*_: Any) -> None:
        raise RuntimeError("fitting begins")

    monkeypatch.setattr("stylegan_surv.survival.engines.forests.LONG", 0.0)
    monkeypatch.setattr("stylegan_surv.survival.validation.nested._run", fitting)
    with pytest.warns(RuntimeWarning) as caught, pytest.raises(RuntimeError, match="fitting begins"):
        nested_cv(models, X, outcome, Validation(folds=3, repeats=2), clinical=clinical)
    photo, both = (str(warning.message) for warning in caught)
    assert photo.startswith("photo (rsf): 6 forests will take about")
    assert both.startswith(
        "both (rsf): 36 forests will take about"
    )  # late fusion has an inner cross-validation


def test_threads_give_the_same_results() -> None:
    X, outcome, clinical = cohort()
    alone = nested_cv("cox-ridge", X, outcome, clinical=clinical)
    with joblib.parallel_config(backend="threading"):
        side_by_side = nested_cv("cox-ridge", X, outcome, Validation(n_jobs=2), clinical=clinical)
    pd.testing.assert_frame_equal(alone.frame, side_by_side.frame)


@pytest.mark.slow
def test_processes_and_a_dask_cluster_give_the_same_results() -> None:
    distributed = pytest.importorskip("distributed")
    X, outcome, clinical = cohort()
    alone = nested_cv("cox-ridge", X, outcome, clinical=clinical)
    processes = nested_cv("cox-ridge", X, outcome, Validation(n_jobs=2), clinical=clinical)
    pd.testing.assert_frame_equal(alone.frame, processes.frame)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        spread = nested_cv("cox-ridge", X, outcome, Validation(n_jobs=-1), clinical=clinical)
    pd.testing.assert_frame_equal(alone.frame, spread.frame)


# bad and unusual input -------------------------------------------------------------------------------------


def _with(outcome: Outcome, **changes: Any) -> Outcome:
    kept = {name: getattr(outcome, name) for name in ("patient_id", "time", "event", "entry", "strata")}
    return Outcome(**(kept | changes))


def test_too_few_events_or_patients_are_told() -> None:
    X, outcome, _ = cohort()
    with pytest.raises(InputError, match="5-fold cross-validation: 0 of 150 patients have an event"):
        nested_cv("cox-ridge", X, _with(outcome, event=np.zeros(150, bool)))
    with pytest.raises(InputError, match="5-fold cross-validation: 1 of 150 patients have an event"):
        nested_cv("cox-ridge", X, _with(outcome, event=np.arange(150) == 7))
    with pytest.raises(InputError, match="have an event; expected at least 200"):
        nested_cv("cox-ridge", X, outcome, Validation(folds=200))
    six = outcome.subset(np.flatnonzero(outcome.event)[:6])
    with pytest.raises(InputError, match="folds: 5 folds for 4 patients"):
        nested_cv("cox-ridge", X[:6], six, Validation(folds=3))


def test_wrong_latents_and_tables_are_told() -> None:
    X, outcome, clinical = cohort()
    bad = X.copy()
    bad[4, 7] = np.nan
    with pytest.raises(InputError, match=r"1 of 150 rows hold NaN or infinity \(rows \[4\]"):
        nested_cv("cox-ridge", bad, outcome)
    with pytest.raises(InputError, match="got 149 rows for 150 patients"):
        nested_cv("cox-ridge", X[1:], outcome)
    with pytest.raises(InputError, match="clinical: got 149 rows"):
        nested_cv("cox-ridge", X, outcome, clinical=clinical[1:])
    with pytest.raises(InputError, match="got 'cox-rigde', expected one of cox-ridge"):
        nested_cv("cox-rigde", X, outcome)
    folds = pd.DataFrame({"patient_id": outcome.patient_id[1:], "repeat": 0, "fold": 0})
    with pytest.raises(InputError, match="1 patients have no fold"):
        nested_cv("cox-ridge", X, outcome, Validation(folds=folds))


@pytest.mark.parametrize("name", ["rsf", "extra-trees", "deepsurv", "cox-elasticnet"])
@pytest.mark.parametrize("what", ["entry", "strata"])
def test_who_cannot_do_entry_or_strata_refuses_them_by_name(name: str, what: str) -> None:
    X, outcome, _ = cohort(p=10)
    given: Array = outcome.time - 1 if what == "entry" else np.repeat(["a", "b"], 75)
    with pytest.raises(InputError, match=f"model photo: .* cannot take {what} into account"):
        nested_cv(name, X, _with(outcome, **{what: given}))
    with pytest.raises(InputError, match=f"cannot take {what} into account"):
        make_model(name).fit(X, outcome.y, **{what: given})


def test_an_entity_with_three_patients_and_ties_everywhere_are_handled() -> None:
    X, outcome, clinical = cohort()
    entity = np.where(np.arange(150) < 3, "rare", np.repeat(["a", "b"], 75))
    coarse = _with(outcome, time=np.ceil(outcome.time / 40), strata=entity)
    found = nested_cv("cox-ridge", X, coarse, clinical=clinical.assign(entity=entity))
    assert found.frame.notna().all(axis=None)
    assert found.frame["risk"].abs().max() < 20
    day_zero = _with(outcome, time=np.where(np.arange(150) % 10 == 0, 0.0, outcome.time))
    assert nested_cv("cox-ridge", X, day_zero).frame.notna().all(axis=None)
