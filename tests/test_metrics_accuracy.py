"""AUC(t), Brier, net benefit and the table of metrics: definitions, identities, other packages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import brier_score, cumulative_dynamic_auc, integrated_brier_score
from sksurv.util import Surv

from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics import accuracy as _accuracy
from stylegan_surv.survival.metrics import table as metrics
from stylegan_surv.survival.metrics.censoring import censoring_survival
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.kaplan_meier import kaplan_meier
from stylegan_surv.survival.metrics.resamples import Resamples, multiplicities
from stylegan_surv.survival.metrics.table import default_horizons, default_tau, metric_samples, oof_metrics
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import scores_of

N = 400
TIMES = np.array([0.1, 0.2, 0.35, 0.5, 0.8])


@pytest.fixture(scope="module")
def data() -> tuple[Outcome, pd.DataFrame]:
    """One exponential model in one fold, with its true survival curves, and a useless one."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=N)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(1.0, N)
    outcome = Outcome(np.array([f"p{i}" for i in range(N)]), np.minimum(death, censoring), death <= censoring)
    rows = []
    for model, risk in (("true", x), ("noise", rng.permutation(x))):
        frame = pd.DataFrame(
            {"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "model": model, "risk": risk}
        )
        for t in TIMES:
            frame[f"S({t:g})"] = np.exp(-t * np.exp(risk))
        rows.append(frame)
    return outcome, pd.concat(rows)


def resamples_of(outcome: Outcome, m: np.ndarray | None = None) -> Resamples:
    m = np.ones((len(outcome), 1)) if m is None else m
    return Resamples(replace(outcome, weight=m))


def test_equal_to_scikit_survival(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, frame = data
    scores, r = scores_of(frame[frame["model"] == "true"], outcome), resamples_of(outcome)
    y = Surv.from_arrays(outcome.event, outcome.time)
    curves = scores.survival[0]
    briers = np.array([_accuracy.brier(scores.at(t), r, t, r.status_weights(t)) for t in TIMES])
    np.testing.assert_allclose(briers[:, 0], brier_score(y, y, curves, TIMES)[1], atol=1e-10)
    expected = integrated_brier_score(y, y, curves, TIMES)
    assert _accuracy.integrated(briers, TIMES)[0] == pytest.approx(expected, abs=1e-10)
    auc = [_accuracy.auc(scores, r, t, r.status_weights(t))[0] for t in TIMES]
    np.testing.assert_allclose(auc, cumulative_dynamic_auc(y, y, scores.risk[0], TIMES)[0], atol=1e-10)


def test_status_weights_add_to_the_number_of_patients(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, _ = data
    m = multiplicities(N, 5, seed=0)
    np.testing.assert_allclose(resamples_of(outcome, m).status_weights(0.4).sum(axis=0), N, rtol=1e-6)
    rng = np.random.default_rng(1)
    late = Outcome(
        outcome.patient_id, outcome.time, outcome.event, entry=outcome.time * rng.uniform(0, 0.3, N)
    )
    np.testing.assert_allclose(resamples_of(late).status_weights(0.4).sum(axis=0), N, rtol=1e-6)


def test_product_of_the_two_curves_is_the_share_still_followed(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, _ = data
    t = np.quantile(outcome.time, [0.2, 0.5, 0.7])
    s = kaplan_meier(outcome.time, outcome.event).at(t)[:, 0]
    g = censoring_survival(outcome.time, outcome.event).at(t)[:, 0]
    np.testing.assert_allclose(s * g, [(outcome.time > u).mean() for u in t])
    # ... and G is the Kaplan–Meier curve of the censoring times
    np.testing.assert_allclose(g, kaplan_meier(outcome.time, ~outcome.event).at(t)[:, 0])


def test_left_truncation_is_weighed_out() -> None:
    """Brier score of true predictions: a truncated sample estimates what the whole one would give."""
    rng = np.random.default_rng(4)
    n, t = 60_000, 0.7
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(2.0, n)
    entry = rng.uniform(-0.5, 0.6, n).clip(0)
    time, event, s = np.minimum(death, censoring), death <= censoring, np.exp(-t * np.exp(x))
    truth = np.mean(s * (1 - s))
    seen = entry < time

    def score(use_entry: bool) -> float:
        outcome = Outcome(
            np.arange(seen.sum()), time[seen], event[seen], entry=entry[seen] if use_entry else None
        )
        r = resamples_of(outcome)
        return float(_accuracy.brier(s[seen][None], r, t, r.status_weights(t))[0])

    assert score(True) == pytest.approx(truth, abs=0.0015)
    assert abs(score(False) - truth) > 0.004  # what ignoring the entry would have given


def test_net_benefit_without_censoring_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(2)
    time, risk = rng.exponential(size=200), rng.uniform(size=200)
    outcome = Outcome(np.arange(200), time, np.ones(200))
    treated, dead = risk > 0.3, time <= 0.6
    textbook = (treated & dead).mean() - (treated & ~dead).mean() * 0.3 / 0.7
    value = _accuracy.net_benefit(1 - risk[None], resamples_of(outcome), 0.6, 0.3)[0]
    assert value == pytest.approx(textbook)
    assert _accuracy.net_benefit(np.ones((1, 200)), resamples_of(outcome), 0.6, 0.3)[0] == 0  # treat nobody


def test_table_of_metrics(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, frame = data
    result = oof_metrics(frame, outcome, horizons=[0.2, 0.35, 0.5], tau=0.8, n_boot=200)
    true, noise = result.models["true"], result.models["noise"]
    assert true["harrell_c"].low > 0.65
    assert noise["harrell_c"].low < 0.5 < noise["harrell_c"].high
    assert true["ibs_skill"].low > 0
    assert noise["ibs_skill"].high < 0
    for name, ideal in (("oe", 1.0), ("slope", 1.0)):
        assert true[name].low < ideal < true[name].high
    assert noise["slope"].high < 0.5
    assert true["ici"].estimate < 0.05 < noise["ici"].estimate
    assert noise["ici"].low is None  # its truth, 0 or more, is beyond no percentile
    assert noise["ici"].estimate > noise["ici_if_perfect"].high
    assert true["a_calibration"].estimate > 0.01 > noise["a_calibration"].estimate
    assert true["net_benefit_0.3"].estimate > noise["net_benefit_0.3"].estimate
    assert (result.settings.tau, result.settings.horizons) == (0.8, (0.2, 0.35, 0.5))
    assert 0 < result.settings.g_tau <= 1
    for metric in true.values():
        if metric.low is not None:
            assert metric.low <= metric.estimate <= metric.high


def test_chunks_change_nothing(data: tuple[Outcome, pd.DataFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, frame = data
    options = {"horizons": [0.35], "tau": 0.8, "n_boot": 30}
    whole = metric_samples(frame, outcome, **options)
    monkeypatch.setattr(metrics, "CELLS", 7 * N)
    parts = metric_samples(frame, outcome, **options)
    for name, value in whole.values["true"].items():
        np.testing.assert_allclose(value, parts.values["true"][name], rtol=1e-5, err_msg=name)


def test_resamples_equal_repeating_the_rows(data: tuple[Outcome, pd.DataFrame]) -> None:
    """A column of multiplicities gives what the sample with rows repeated gives (exactly, but for the ICI)."""
    outcome, frame = data
    frame = frame[frame["model"] == "true"].reset_index(drop=True)
    samples = metric_samples(frame, outcome, horizons=[0.35], tau=0.8, n_boot=1, seed=3)
    again = np.repeat(np.arange(N), multiplicities(N, 1, 3)[:, 1].astype(int))
    repeated = frame.iloc[again].assign(patient_id=np.arange(N))
    drawn = Outcome(np.arange(N), outcome.time[again], outcome.event[again])
    expected = metric_samples(repeated, drawn, horizons=[0.35], tau=0.8, n_boot=0)
    for name in ("harrell_c", "uno_c", "auc_0.35", "brier_0.35", "ibs", "oe", "net_benefit_0.3"):
        assert samples.values["true"][name][1] == pytest.approx(expected.values["true"][name][0], rel=1e-5), (
            name
        )
    for name in ("slope", "ici"):  # one Newton step instead of a refit
        assert samples.values["true"][name][1] == pytest.approx(
            expected.values["true"][name][0], rel=0.1, abs=0.005
        ), name


def test_differences_are_paired(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, frame = data
    samples = metric_samples(frame, outcome, horizons=[0.35], tau=0.8, n_boot=200)
    delta = samples.difference("true", "noise", "uno_c")
    assert delta.low is not None
    assert delta.low > 0
    assert samples.difference("true", "true", "uno_c") == Interval(0, 0, 0)


def test_a_model_without_survival_curves_has_the_rank_metrics_only(
    data: tuple[Outcome, pd.DataFrame],
) -> None:
    outcome, frame = data
    ranks = frame[["patient_id", "repeat", "fold", "model", "risk"]]
    values = metric_samples(ranks, outcome, horizons=[0.35], n_boot=5).values["true"]
    assert set(values) == {"harrell_c", "uno_c", "auc_0.35"}


def test_horizons_have_enough_patients_at_risk(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, _ = data
    tau = default_tau(outcome)
    assert (outcome.time >= tau).mean() >= 0.10
    assert all(0 < t <= tau for t in default_horizons(outcome))
    with pytest.raises(InputError, match="none of the 3 patients has an event"):
        default_tau(Outcome(np.arange(3), np.ones(3), np.zeros(3)))
