"""Concordance: hand counts, published values, and other packages as referees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.util import Surv

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.pairs import Pairs
from stylegan_surv.survival.metrics.resamples import multiplicities
from stylegan_surv.survival.metrics.table import concordance, pooled_concordance
from stylegan_surv.survival.outcome import Outcome


def simulated(n: int, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(1.0, n)
    time, event = np.minimum(death, censoring), death <= censoring
    return (np.ceil(time * 8), event, x.round(1)) if ties else (time, event, x)


def naive(time, event, risk, entry=None, strata=None, weight=None):  # type: ignore[no-untyped-def]
    """The definition, pair by pair."""
    n = len(time)
    entry = np.full(n, -np.inf) if entry is None else entry
    strata = np.zeros(n) if strata is None else strata
    weight = np.ones(n) if weight is None else weight
    concordant = comparable = 0.0
    for i in range(n):
        for j in range(n):
            later = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if i != j and event[i] and later and entry[j] < time[i] and strata[i] == strata[j]:
                pair = weight[i] * weight[j]
                comparable += pair
                concordant += pair * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    return concordant / comparable


def test_counted_by_hand() -> None:
    # deaths at 1 and 3; censored at 2 and 3. Pairs: (1 before 2, 3, 3): 3; (death at 3 before censoring at 3): 1
    time, event = [1, 2, 3, 3], [1, 0, 1, 0]
    c = concordance(time, event, [9, 1, 5, 5])
    assert c.pairs == 4
    assert c.estimate == (3 + 0.5) / 4  # the last pair ties in risk
    # the last patient enters at 2: no longer comparable with the death at 1
    assert concordance(time, event, [9, 1, 5, 5], entry=[0, 0, 0, 2]).estimate == 2.5 / 3
    # ... and one who enters exactly at an event time was not at risk at it
    assert concordance(time, event, [9, 1, 5, 5], entry=[0, 1, 0, 0]).pairs == 3


DATA = {  # C and jackknife standard error as R's survival::concordance gives them for the fitted Cox model
    "rossi": (0.6403, 0.0267),
    "lung": (0.6371, 0.0251),
    "veteran": (0.7360, 0.0212),
    "gbsg2": (0.6919, 0.0150),
}


def public(name: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Covariates, time and event of a public data set, coded as in the published analyses."""
    from lifelines.datasets import load_lung, load_rossi
    from sksurv.datasets import load_gbsg2, load_veterans_lung_cancer

    if name == "rossi":
        d = load_rossi()
        return d.drop(columns=["week", "arrest"]), d["week"].to_numpy(float), d["arrest"].to_numpy(bool)
    if name == "lung":
        d = load_lung().dropna(subset=["age", "sex", "ph.ecog"])
        return d[["age", "sex", "ph.ecog"]], d["time"].to_numpy(float), d["status"].to_numpy(bool)
    if name == "veteran":
        x, y = load_veterans_lung_cancer()
        return pd.get_dummies(x, drop_first=True), y["Survival_in_days"], y["Status"]
    x, y = load_gbsg2()
    return pd.get_dummies(x, drop_first=True), y["time"], y["cens"]


@pytest.mark.parametrize("name", DATA)
def test_public_data_sets(name: str) -> None:
    x, time, event = public(name)
    matrix = x.to_numpy(float)
    c = concordance(time, event, matrix @ fit_cox(matrix, time, event).coef)
    expected, se = DATA[name]
    assert c.estimate == pytest.approx(expected, abs=6e-5)
    assert c.se == pytest.approx(se, abs=6e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_survival(ties: bool) -> None:
    time, event, x = simulated(700, ties=ties)
    assert concordance(time, event, x).estimate == pytest.approx(
        concordance_index_censored(event, time, x)[0], abs=1e-10
    )


@pytest.mark.parametrize("tau", [None, 0.9])
def test_uno_equals_scikit_survival(tau: float | None) -> None:
    time, event, x = simulated(700)
    x = x.round(1)
    y = Surv.from_arrays(event, time)
    expected = concordance_index_ipcw(y, y, x, tau=tau)[0]
    assert concordance(time, event, x, weights="uno", tau=tau).estimate == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_definition_with_entry_strata_and_weights(ties: bool) -> None:
    rng = np.random.default_rng(3)
    time, event, x = simulated(90, ties=ties)
    entry = np.floor(time * rng.uniform(0, 0.9, 90)) if ties else time * rng.uniform(0, 0.9, 90)
    strata, weight = rng.integers(3, size=90), rng.integers(0, 3, size=90).astype(float)
    options = {"entry": entry, "strata": strata}
    c = concordance(time, event, x, sample_weight=weight, **options)
    assert c.estimate == pytest.approx(naive(time, event, x, weight=weight, **options), abs=1e-12)
    # an integer weight is a repeated row, in the resampling path too
    again = np.repeat(np.arange(90), weight.astype(int))
    repeated = concordance(time[again], event[again], x[again], **{k: v[again] for k, v in options.items()})
    assert c.estimate == pytest.approx(repeated.estimate, abs=1e-12)
    concordant, comparable = Pairs(time, event, x, entry, strata, np.ones(90)).counts(weight[:, None])
    assert concordant[0] / comparable[0] == pytest.approx(c.estimate, abs=1e-6)


def test_jackknife_is_close_to_leaving_patients_out() -> None:
    time, event, x = simulated(120)
    everyone = np.arange(120)
    left_out = [concordance(*(a[everyone != i] for a in (time, event, x))).estimate for i in everyone]
    jackknife = np.sqrt(119 / 120 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert concordance(time, event, x).se == pytest.approx(jackknife, rel=0.03)


def test_many_blocks_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    time, event, x = simulated(300, ties=True)
    m = multiplicities(300, 20, seed=1)
    whole = Pairs(time, event, x, None, None, np.ones(300)).counts(m)
    monkeypatch.setattr("stylegan_surv.survival.metrics.pairs._BLOCK", 7)
    parts = Pairs(time, event, x, None, None, np.ones(300)).counts(m)
    np.testing.assert_allclose(whole, parts, rtol=1e-6)


def test_opposite_scores_add_to_one_and_the_scale_does_not_matter() -> None:
    time, event, x = simulated(200)
    c = concordance(time, event, x)
    assert concordance(time, event, -x).estimate == pytest.approx(1 - c.estimate)
    assert concordance(time, event, np.exp(3 * x)).estimate == pytest.approx(c.estimate)
    assert concordance(time * 365.25, event, x).se == pytest.approx(c.se)


def test_paired_difference_of_equal_scores_is_zero() -> None:
    time, event, x = simulated(200)
    c = concordance(time, event, x)
    same = c.minus(concordance(time, event, 2 * x))
    assert same.estimate == 0
    assert same.se == 0
    noisy = concordance(time, event, x + np.random.default_rng(0).normal(size=200))
    assert c.minus(noisy).se < np.hypot(c.se, noisy.se)  # the two share their patients


def outcome_of(time: np.ndarray, event: np.ndarray) -> Outcome:
    return Outcome(np.array([f"p{i}" for i in range(len(time))]), time, event)


def test_pooled_counts_within_folds_and_averages_repeats() -> None:
    time, event, x = simulated(150)
    outcome, rng = outcome_of(time, event), np.random.default_rng(5)
    frames, expected = [], []
    for repeat in range(3):
        fold = rng.integers(4, size=150)
        risk = x + rng.normal(size=150) + 10 * fold  # scores of different folds are not comparable
        frames.append(
            pd.DataFrame({"patient_id": outcome.patient_id, "repeat": repeat, "fold": fold, "risk": risk})
        )
        expected.append(naive(time, event, risk, strata=fold))
    frame = pd.concat(frames).sample(frac=1, random_state=0)
    pooled = pooled_concordance(frame, outcome)
    assert pooled.estimate == pytest.approx(np.mean(expected), abs=1e-12)
    assert abs(pooled.influence.sum()) < 1e-12


def test_strata_without_events_count_for_nothing() -> None:
    time, event, x = simulated(60)
    strata = np.arange(60) % 7
    event[strata == 3] = False
    strata[0] = 99  # alone in its stratum
    expected = naive(time, event, x, strata=strata)
    assert concordance(time, event, x, strata=strata).estimate == pytest.approx(expected)
    a, b = Pairs(time, event, x, None, strata, np.ones(60)).counts(np.ones((60, 2)))
    np.testing.assert_allclose(a / b, expected)


def test_user_mistakes_are_named() -> None:
    time, event, x = simulated(20)
    with pytest.raises(InputError, match="1 of 20 values are not finite"):
        concordance(time, event, np.where(np.arange(20) == 3, np.nan, x))
    with pytest.raises(InputError, match="no pair of patients can be compared"):
        concordance(time, np.zeros(20), x)
    with pytest.raises(InputError, match="'harrell' or 'uno'"):
        concordance(time, event, x, weights="gini")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs strata"):
        concordance(time, event, x, weights="uno", censoring="stratified")
    frame = pd.DataFrame({"patient_id": ["p0", "p0"], "repeat": 0, "fold": 0, "risk": [1.0, 2.0]})
    with pytest.raises(InputError, match="two rows in one repeat"):
        pooled_concordance(frame, outcome_of(time, event))


def test_intervals_cover_the_population_value() -> None:
    """95 % intervals of C, Uno's C and ΔC on 200 data sets of 150 patients; 1,000 of 250 are in benchmarks/results."""
    rng, tau = np.random.default_rng(11), 1.0

    def found(n: int) -> dict[str, Any]:
        x = rng.normal(size=n)
        death, end = rng.exponential(np.exp(-0.9 * x)), rng.exponential(1.2, n)
        time, event = np.minimum(death, end), death <= end
        a, b = (concordance(time, event, x + s * rng.normal(size=n)) for s in (0.7, 1.2))
        uno = concordance(time, event, x + 0.7 * rng.normal(size=n), weights="uno", tau=tau)
        return {"c": a, "uno": uno, "delta": a.minus(b)}

    truth = pd.DataFrame([{k: v.estimate for k, v in found(2000).items()} for _ in range(25)]).mean()
    hits = pd.DataFrame(
        [{k: c.ci()[0] <= truth[k] <= c.ci()[1] for k, c in found(150).items()} for _ in range(200)]
    )
    assert hits.mean().between(0.89, 0.99).all()  # ± 4 standard errors of 200
