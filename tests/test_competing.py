"""Competing deaths: cumulative incidence, its models and its metrics, against definitions written out."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sksurv.datasets import load_bmt
from sksurv.nonparametric import cumulative_incidence_competing_risks

from stylegan_surv._types import Array
from stylegan_surv.cohort import read_cohort
from stylegan_surv.errors import InputError
from stylegan_surv.survival import CoxRidge, nested_cv
from stylegan_surv.survival.engines.competing import cumulative_incidence_from_hazards
from stylegan_surv.survival.metrics import names
from stylegan_surv.survival.metrics.curves import incidence_curve
from stylegan_surv.survival.metrics.kaplan_meier import cumulative_incidence, event_free, kaplan_meier
from stylegan_surv.survival.metrics.table import metric_samples
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.nested import Validation


def cohort_of(n: int = 160, seed: int = 0) -> tuple[Array, Outcome]:
    """Two causes of death with opposite effects of the first column; a third, rare cause; whole times, so ties."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    times = rng.exponential(size=(4, n)) * np.array([1.0, 1.0, 30.0, 1.5])[:, None]
    times[0] *= np.exp(-X[:, 0])
    times[1] *= np.exp(X[:, 0])
    time = np.ceil(20 * times.min(axis=0)) / 10
    cause = np.array([1, 2, 3, 0])[times.argmin(axis=0)]
    return X, Outcome(np.arange(n), time, cause == 1, cause=cause)


def test_aalen_johansen_is_that_of_scikit_survival_on_the_bone_marrow_data() -> None:
    """Data of Scrucca, Santucci & Aversa 2007 (Bone Marrow Transplant. 40:381)."""
    x, y = load_bmt()
    for disease, cause in product(("0", "1"), (1, 2)):
        m = (x["dis"] == disease).to_numpy()
        status, time = y["status"][m], y["ftime"][m].astype(float)
        ours = cumulative_incidence(time, status == cause, (status > 0) & (status != cause))
        at, theirs = cumulative_incidence_competing_risks(status, time)
        np.testing.assert_allclose(ours.at(at)[:, 0], theirs[cause], atol=1e-12)


def test_incidences_and_survival_sum_to_one_with_delayed_entry_and_weights() -> None:
    _, outcome = cohort_of()
    rng = np.random.default_rng(1)
    entry, w = (
        outcome.time * rng.random(len(outcome)) * 0.9,
        rng.integers(1, 4, (len(outcome), 3)).astype(float),
    )
    assert outcome.cause is not None
    total = kaplan_meier(outcome.time, outcome.cause > 0, entry=entry, weight=w)
    parts = [
        cumulative_incidence(
            outcome.time,
            outcome.cause == k,
            (outcome.cause > 0) & (outcome.cause != k),
            entry=entry,
            weight=w,
        ).at(total.times)
        for k in (1, 2, 3)
    ]
    np.testing.assert_allclose(sum(parts) + total.at(total.times), 1.0, atol=1e-12)


def test_incidences_from_hazards_sum_to_one_and_fall_back_on_one_minus_survival() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.cumsum(rng.exponential(0.1, (5, 40)), axis=1) for _ in range(2))
    at = np.arange(-1, 40)
    one, two = cumulative_incidence_from_hazards([a, b], at), cumulative_incidence_from_hazards([b, a], at)
    survival = np.exp(-np.hstack([np.zeros((5, 1)), a + b]))
    np.testing.assert_allclose(one + two + survival, 1.0, atol=1e-12)
    alone = cumulative_incidence_from_hazards([a], np.arange(40))
    np.testing.assert_allclose(alone, 1 - np.exp(-a), atol=1e-12)
    quick = [np.cumsum(np.full((1, 4000), rate / 1000), axis=1) for rate in (0.3, 0.9)]
    closed = 0.25 * -np.expm1(-1.2 * 4.0)  # constant hazards .3 and .9 over 4 years
    np.testing.assert_allclose(cumulative_incidence_from_hazards(quick, np.array([3999]))[0, 0], closed)


@pytest.fixture(scope="module")
def predicted() -> tuple[Outcome, pd.DataFrame]:
    X, outcome = cohort_of()
    how = Validation(folds=2, horizons=(0.5, 1.0))
    return outcome, nested_cv("cox-ridge", X, outcome, how, clinical=pd.DataFrame({"x": X[:, 0]})).frame


def test_out_of_fold_incidences_are_near_the_truth_where_naive_risks_are_not() -> None:
    X, outcome = cohort_of(1500, seed=3)
    how, model = Validation(folds=3, horizons=(1.0,)), {"cox": CoxRidge(alphas=(0.1,))}
    risk = 1 - nested_cv(model, X[:, :1], outcome, how).frame["S(1)"].to_numpy()
    one, two = np.exp(X[:, 0]), np.exp(-X[:, 0])
    total = one + two + 1 / 30
    truth = one / total * -np.expm1(-total * 0.5)  # time is doubled
    assert np.abs(risk - truth).mean() < 0.04
    censored = Outcome(outcome.patient_id, outcome.time, outcome.event)  # other deaths as censorings
    naive = 1 - nested_cv(model, X[:, :1], censored, how).frame["S(1)"].to_numpy()
    wrong = -np.expm1(-one * 0.5)
    assert (wrong - truth).mean() > 0.04
    np.testing.assert_allclose(naive.mean(), wrong.mean(), atol=0.02)


def test_metrics_are_their_definitions(predicted: tuple[Outcome, pd.DataFrame]) -> None:
    """AUC(t) of Blanche et al. 2013, Brier of the incidence, and C of Wolbers et al. 2014, pair by pair."""
    outcome, oof = predicted
    tau = 1.01
    found = metric_samples(oof, outcome, horizons=[0.5, 1.0], tau=tau, n_boot=3).values["photo"]
    frame = oof[oof["model"] == "photo"]
    fold, cause, time = frame["fold"].to_numpy(), outcome.cause, outcome.time
    assert cause is not None
    leaving = np.where(cause > 0, np.nextafter(time, -np.inf), time)  # deaths come before censorings
    g = kaplan_meier(time, cause == 0)
    before = np.array(
        [
            np.prod(
                [
                    1 - ((leaving == s) & (cause == 0)).sum() / (leaving >= s).sum()
                    for s in np.unique(time[cause == 0])
                    if s < t
                ]
            )
            for t in time
        ]
    )
    assert len(g.times)
    for t in (0.5, 1.0):
        risk = 1 - frame[f"S({t:g})"].to_numpy()
        g_t = np.prod(
            [
                1 - ((leaving == s) & (cause == 0)).sum() / (leaving >= s).sum()
                for s in np.unique(time[cause == 0])
                if s <= t
            ]
        )
        w = np.where(time > t, 1 / g_t, np.where(cause > 0, 1 / before, 0.0))
        case = (time <= t) & (cause == 1)
        np.testing.assert_allclose(
            found[names.at(names.BRIER, t)][0], np.mean(w * (case - risk) ** 2), rtol=1e-5
        )
        pairs = [
            (i, j)
            for i in np.flatnonzero(case)
            for j in np.flatnonzero(~case & (w > 0))
            if fold[i] == fold[j]
        ]
        right = sum(w[i] * w[j] * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])) for i, j in pairs)
        auc = right / sum(w[i] * w[j] for i, j in pairs)
        np.testing.assert_allclose(found[names.at(names.AUC, t)][0], auc, rtol=1e-5)
    risk, above, below = 1 - frame["S(1)"].to_numpy(), [0.0, 0.0], [0.0, 0.0]
    for i, j in product(np.flatnonzero((cause == 1) & (time < tau)), range(len(time))):
        if fold[i] != fold[j] or i == j:
            continue
        outlives = time[j] > time[i] or (time[j] == time[i] and cause[j] == 0)
        precluded = cause[j] > 1 and time[j] <= time[i]
        w = 1 / before[i] ** 2 if outlives else 1 / (before[i] * before[j]) if precluded else 0.0
        score = (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
        above[0], below[0] = above[0] + w * score, below[0] + w
    np.testing.assert_allclose(found[names.UNO_C][0], above[0] / below[0], rtol=1e-5)
    assert names.SLOPE not in found
    np.testing.assert_allclose(
        found[names.OE][0],
        (1 - event_free(outcome).at(np.array([1.0]))[0, 0]) / risk.mean(), rtol=1e-6,
    )  # fmt: skip


def test_a_rank_that_predicts_the_event_alone_has_c_above_one_half_only_by_incidence() -> None:
    """Those at high risk of the other death are precluded, not compared as if they had been cured."""
    X, outcome = cohort_of(800, seed=5)
    how = Validation(folds=2, horizons=(1.0, 2.0))
    frame = nested_cv("cox-ridge", X, outcome, how).frame
    found = metric_samples(frame, outcome, horizons=[1.0, 2.0], tau=2.0, n_boot=20)
    c = found.table()["photo"][names.UNO_C]
    assert 0.7 < c.estimate < 0.95
    assert c.low is not None
    assert c.high is not None
    assert c.low < c.estimate < c.high


def test_with_delayed_entry_the_curve_starts_where_enough_are_at_risk_and_accuracy_is_left_out() -> None:
    X, outcome = cohort_of(300)
    rng = np.random.default_rng(0)
    late = Outcome(
        outcome.patient_id,
        outcome.time,
        outcome.event,
        outcome.time * rng.random(300) * 0.9,
        cause=outcome.cause,
    )
    curve = incidence_curve(late, np.ones(300, bool))
    assert ((curve.low <= curve.survival + 1e-9) & (curve.survival <= curve.high + 1e-9)).mean() > 0.9
    frame = nested_cv("cox-ridge", X, late, Validation(folds=2, horizons=(1.0,))).frame
    found = metric_samples(frame, late, horizons=[1.0], n_boot=0).values["photo"]
    assert set(found) == {names.HARRELL_C}


def test_models_that_cannot_tell_causes_apart_are_refused() -> None:
    X, outcome = cohort_of(60)
    with pytest.raises(InputError, match="cannot tell causes of death apart"):
        nested_cv("rsf", X, outcome, Validation(folds=2))


def table_of(tmp_path: Path, event: list[object]) -> Path:
    n = len(event)
    frame = pd.DataFrame(
        {"patient_id": range(n), "photo": [f"{i}.png" for i in range(n)], "time": 1.5, "event": event}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_causes_in_the_table(tmp_path: Path) -> None:
    path = table_of(tmp_path, [0, 1, 2, 7, 2])
    cohort = read_cohort(path, cause=2)
    assert cohort.patients["event"].tolist() == [False, False, True, False, True]
    assert Outcome.from_frame(cohort.patients).cause.tolist() == [0, 2, 1, 3, 1]  # type: ignore[union-attr]
    assert any("cause 2 count (2 patients); 2 patients died of other causes" in flag for flag in cohort.flags)
    with pytest.raises(InputError, match="--cause 1") as told:
        read_cohort(path)
    assert "no censorings" in str(told.value)
    with pytest.raises(InputError, match="no row of `event` holds it"):
        read_cohort(path, cause=9)
    with pytest.raises(InputError, match="number of a cause of death"):
        read_cohort(table_of(tmp_path, [0, 1, "1.5"]), cause=1)
