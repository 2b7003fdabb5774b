"""Added value: the permutation test, the adjusted hazard ratio, paired differences, subgroups, sample size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_rossi
from scipy.stats import chi2

from stylegan_surv.audit.added_value import (
    added_value,
    adjusted_score,
    c_by_censoring,
    proportional_hazards,
    subgroups,
)
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.sample_size import events_for_delta_c, events_for_hazard_ratio
from stylegan_surv.survival.metrics.table import MetricSamples, paired_differences
from stylegan_surv.survival.outcome import Outcome


def cohort(n: int, seed: int, photo: float = 0.0, age: float = 0.7) -> tuple[np.ndarray, np.ndarray, Outcome]:
    """Photo features [n, 5] whose first column acts on the hazard; age, correlated with the second."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    years = 0.6 * x[:, 1] + 0.8 * rng.normal(size=n)
    death = rng.exponential(np.exp(-photo * x[:, 0] - age * years))
    censoring = rng.exponential(1.5, n)
    return x, years[:, None], Outcome(np.arange(n), np.minimum(death, censoring), death <= censoring)


class LinearCV:
    """A small cross-validation: Cox model of the features, fitted on the other folds."""

    def __init__(self, x: np.ndarray, fold: np.ndarray) -> None:
        self.x, self.fold = x, fold

    def __call__(self, outcome: Outcome) -> np.ndarray:
        risk = np.empty(len(self.x))
        for k in np.unique(self.fold):
            train = self.fold != k
            coef = fit_cox(self.x[train], outcome.time[train], outcome.event[train]).coef
            risk[~train] = self.x[~train] @ coef
        return risk


def test_adjusted_hazard_ratio_is_the_one_of_lifelines() -> None:
    x, age, outcome = cohort(300, 0, photo=0.5)
    score = x[:, 0] + 3.0
    found = adjusted_score(score, outcome, age)
    table = pd.DataFrame({"z": (score - score.mean()) / score.std(), "age": age[:, 0]})
    table["time"], table["event"] = outcome.time, outcome.event
    fit = CoxPHFitter().fit(table, "time", "event")
    low, high = np.exp(fit.confidence_intervals_.loc["z"])
    assert found.hazard_ratio.estimate == pytest.approx(np.exp(fit.params_["z"]), rel=1e-5)
    assert (found.hazard_ratio.low, found.hazard_ratio.high) == pytest.approx((low, high), rel=1e-5)
    less = CoxPHFitter().fit(table.drop(columns="z"), "time", "event")
    statistic = 2 * (fit.log_likelihood_ - less.log_likelihood_)
    assert found.root**2 == pytest.approx(statistic, rel=1e-5)


def test_proportional_hazards_on_rossi() -> None:
    """Fox (2002), appendix on Cox regression: age drifts (chi-square 6.5), fin (.005) and prio (.77) do not.

    His values are those of the former approximation of ``cox.zph``; ours is the exact score test.
    """
    rossi = load_rossi()
    matrix = rossi[["fin", "age", "prio"]].to_numpy(float)
    time, event = rossi["week"].to_numpy(float), rossi["arrest"].to_numpy(bool)
    fit = fit_cox(matrix, time, event)
    fin, age, prio = (chi2.isf(proportional_hazards(matrix, fit, time, event, column=j), 1) for j in range(3))
    assert age == pytest.approx(6.54, abs=0.4)
    assert fin < 0.2
    assert prio == pytest.approx(0.77, abs=0.4)


def test_a_drifting_effect_is_seen_within_strata_too() -> None:
    rng = np.random.default_rng(0)
    x, strata = rng.normal(size=1500), rng.integers(3, size=1500)
    early = rng.exponential(np.exp(-1.2 * x))
    time = np.where(early < 0.4, early, 0.4 + rng.exponential(1.0, 1500)) * (1 + strata)
    event = np.ones(1500, bool)
    drifting, steady = (
        adjusted_score(x, Outcome(np.arange(1500), time, event), strata=strata),
        adjusted_score(x, Outcome(np.arange(1500), rng.exponential(np.exp(-x)), event), strata=strata),
    )
    assert drifting.p_proportional < 1e-6 < 0.01 < steady.p_proportional


def test_planted_information_is_found_and_age_alone_is_not() -> None:
    fold = np.arange(240) % 4
    x, age, outcome = cohort(240, 1, photo=0.6)
    found = added_value(LinearCV(x, fold), outcome, age, fold=fold, n_permutations=39)
    assert found.permutations.p == 1 / 40
    assert found.adjusted.hazard_ratio.low > 1
    assert found.concordance.observed > 0.58
    assert found.concordance.mean == pytest.approx(0.5, abs=0.04)
    x, age, outcome = cohort(240, 2, photo=0.0)  # the photograph shows age, and age is known to the clinic
    found = added_value(LinearCV(x, fold), outcome, age, fold=fold, n_permutations=39)
    assert found.permutations.p > 0.05
    alone = added_value(LinearCV(x, fold), outcome, fold=fold, n_permutations=39)
    assert alone.permutations.p < 0.05  # without age beside it, it does tell the outcome


def test_level_of_the_permutation_test() -> None:
    """Under the null p is uniform: 60 data sets here, 1,000 in benchmarks/results."""
    fold, p = np.arange(80) % 4, []
    for seed in range(60):
        x, age, outcome = cohort(80, 100 + seed)
        x = np.random.default_rng(seed).normal(size=x.shape)  # independent of everything
        p.append(added_value(LinearCV(x, fold), outcome, age, fold=fold, n_permutations=19).permutations.p)
    assert np.mean(np.array(p) <= 0.05) <= 0.15  # 3 expected, more than 9 has probability 0.1 %
    assert 0.38 < np.mean(p) < 0.66


def test_permutation_stays_within_strata() -> None:
    x, age, outcome = cohort(60, 3)
    strata, seen = np.arange(60) % 3, []

    def risk_of(moved: Outcome) -> np.ndarray:
        seen.append(moved.patient_id.astype(int))
        return x[:, 0]

    added_value(risk_of, outcome, age, strata=strata, n_permutations=5)
    assert len(seen) == 6
    assert all((strata[who] == strata).all() and sorted(who) == list(range(60)) for who in seen)
    assert (seen[0] == np.arange(60)).all()
    assert any((who != np.arange(60)).any() for who in seen[1:])


def test_constant_score_is_refused_and_constant_columns_are_dropped() -> None:
    x, _, outcome = cohort(60, 4)
    with pytest.raises(InputError, match="nothing to test"):
        adjusted_score(np.ones(60), outcome)
    odd = np.column_stack([x[:, 1], x[:, 1], np.ones(60)])
    assert adjusted_score(x[:, 0], outcome, odd).root == pytest.approx(
        adjusted_score(x[:, 0], outcome, x[:, 1:2]).root
    )
    site = np.arange(60) % 3  # a stratum that is among the clinical variables as well
    doubled = np.column_stack([x[:, 1], site == 1, site == 2])
    found = adjusted_score(x[:, 0], outcome, doubled, strata=site)
    alone = adjusted_score(x[:, 0], outcome, x[:, 1:2], strata=site)
    assert found.root == pytest.approx(alone.root)
    assert found.p_proportional == pytest.approx(alone.p_proportional)


def test_paired_differences_leave_out_what_is_missing() -> None:
    values = {
        "both": {"uno_c": np.array([0.7, 0.71, 0.69])},
        "clinical": {"uno_c": np.array([0.6, 0.62, 0.58])},
    }
    found = paired_differences(MetricSamples(values))
    assert list(found) == ["both - clinical"]
    assert found["both - clinical"]["uno_c"].estimate == pytest.approx(0.1)


def test_subgroups_suppress_small_ones() -> None:
    x, _, outcome = cohort(300, 5, photo=0.8)
    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "risk": x[:, 0]})
    table = pd.DataFrame({"sex": ["f", "m"] * 149 + ["x", None], "age": np.linspace(20, 90, 300)})
    found = subgroups(frame, outcome, table, ["sex", "age"], quality=np.arange(300.0))
    assert [group.patients for group in found] == [149, 149, 1, 100, 100, 100]
    assert [group.estimate for group in found if group.level == "x"] == [None]
    assert all(group.estimate > 0.55 for group in found if group.estimate is not None)
    assert found[-1].quality == pytest.approx(249.5)


def test_censoring_that_depends_on_the_score_needs_its_model() -> None:
    """Follow-up is short where the score is high: KM weights are off, a Cox model of the censoring is not."""
    rng = np.random.default_rng(6)
    n = 8000
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(0.8 * np.exp(-1.2 * x))
    who = np.arange(n)
    frame = pd.DataFrame({"patient_id": who, "repeat": 0, "fold": 0, "risk": x})
    tau = 0.8
    truth = c_by_censoring(frame, Outcome(who, death, np.ones(n)), tau=tau)["km"].estimate
    outcome = Outcome(who, np.minimum(death, censoring), death <= censoring)
    strata = np.digitize(x, np.quantile(x, np.linspace(0, 1, 21)[1:-1]))
    found = c_by_censoring(frame, outcome, tau=tau, strata=strata, covariates=x[:, None])
    error = {name: abs(c.estimate - truth) for name, c in found.items()}
    assert error["km"] > 0.012
    assert max(error["cox"], error["stratified"]) < error["km"] / 2


def test_sample_size() -> None:
    # Schoenfeld's formula for two equal groups is the same with SD 1/2
    assert events_for_hazard_ratio(np.sqrt(2.0)) == pytest.approx(
        (1.959964 + 0.841621) ** 2 / np.log(2) ** 2 * 4, abs=1
    )
    assert events_for_hazard_ratio(1 / 1.3) == events_for_hazard_ratio(1.3)
    assert events_for_delta_c(0.01, pilot_se=0.01, pilot_events=100) == 785
    with pytest.raises(InputError, match="other than 1"):
        events_for_hazard_ratio(1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        events_for_hazard_ratio(1.3, power=1.0)
