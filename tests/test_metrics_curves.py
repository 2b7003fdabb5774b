"""The curves that are kept beside the metrics: by hand, against lifelines, and against the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_rossi

from stylegan_surv._records import Section, to_json
from stylegan_surv.survival.metrics import names
from stylegan_surv.survival.metrics.curves import (
    BINS,
    THRESHOLDS,
    curves_of,
    survival_by_third,
    survival_curve,
)
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.names import THRESHOLDS as SET_BEFOREHAND
from stylegan_surv.survival.metrics.table import oof_metrics
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import scores_of

N = 240


def frame_of(outcome: Outcome, risk: np.ndarray) -> pd.DataFrame:
    """One repeat in one fold, with exponential survival curves."""
    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "model": names.PHOTO})
    frame["risk"] = risk
    for t in (0.2, 0.4, 0.8):
        frame[f"S({t:g})"] = np.exp(-t * np.exp(risk))
    return frame


@pytest.fixture(scope="module")
def data() -> tuple[Outcome, pd.DataFrame]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    death, end = rng.exponential(np.exp(-x)), rng.exponential(1.5, N)
    outcome = Outcome([f"p{i}" for i in range(N)], np.minimum(death, end), death <= end)
    return outcome, frame_of(outcome, x)


def test_band_is_that_of_lifelines() -> None:
    rossi = load_rossi()
    time, event = rossi["week"].to_numpy(float), rossi["arrest"].to_numpy(bool)
    found = survival_curve(time, event)
    fit = KaplanMeierFitter().fit(time, event)
    at = found.time[1:]
    np.testing.assert_allclose(found.survival[1:], fit.survival_function_at_times(at), rtol=1e-12)
    band = fit.confidence_interval_.loc[at].to_numpy()
    # theirs has 1.95996… where ours has 1.96
    np.testing.assert_allclose(np.column_stack([found.low, found.high])[1:], band, rtol=1e-5)
    assert (found.time[0], found.survival[0], found.low[0], found.high[0]) == (0, 1, 1, 1)


def test_numbers_at_risk_by_hand() -> None:
    """Eighteen patients, six of each third: within each, times 1 … 6."""
    time = np.tile(np.arange(1.0, 7), 3)
    event = np.tile(np.array([1, 0, 1, 1, 0, 1], bool), 3)
    who = [f"p{i}" for i in range(18)]
    frame = pd.DataFrame({"patient_id": who, "repeat": 0, "fold": 0, "risk": np.repeat([1.0, 2, 3], 6)})
    found = survival_by_third(scores_of(frame, Outcome(who, time, event)), Outcome(who, time, event))
    for counts in found.at_risk.values():
        assert dict(zip(found.ticks, counts)) == {0: 6, 1: 6, 2: 5, 3: 4, 4: 3, 5: 2, 6: 1}
    late = Outcome(who, time, event, np.tile([0, 0, 2.5, 0, 0, 0], 3))
    found = survival_by_third(scores_of(frame, late), late)
    assert [counts[2] for counts in found.at_risk.values()] == [4, 4, 4]


def test_curves_pass_through_the_numbers_of_the_table(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, frame = data
    table = oof_metrics(frame, outcome, horizons=[0.2, 0.4, 0.8], n_boot=20)
    curves, photo = curves_of(frame, outcome, table), table.models[names.PHOTO]
    auc = curves.auc[names.PHOTO]
    assert auc.estimate.tolist() == [photo[names.at(names.AUC, t)].estimate for t in (0.2, 0.4, 0.8)]
    assert curves.benefit is not None
    assert curves.benefit.horizon == table.settings.main_horizon == 0.4
    for p in SET_BEFOREHAND:
        at = int(np.argmin(np.abs(THRESHOLDS - p)))
        if abs(THRESHOLDS[at] - p) < 1e-9:
            value = photo[names.at(names.NET_BENEFIT, p)].estimate
            assert curves.benefit.models[names.PHOTO][at] == pytest.approx(value)
    calibration = curves.calibration
    assert calibration is not None
    curve = calibration.models[names.PHOTO]
    assert (np.diff(curve.predicted) >= 0).all()
    assert len(curve.histogram) == BINS
    # the curve leaves out a patient in a hundred at either end, the index does not
    ici = np.abs(curve.observed - curve.predicted).mean()
    assert ici == pytest.approx(photo[names.ICI].estimate, abs=0.005)


def test_models_without_probabilities_have_no_curves_of_them(data: tuple[Outcome, pd.DataFrame]) -> None:
    outcome, frame = data
    ranks = frame[["patient_id", "repeat", "fold", "model", "risk"]]
    curves = curves_of(ranks, outcome, oof_metrics(ranks, outcome, n_boot=5))
    assert curves.calibration is None
    assert curves.benefit is None
    assert set(curves.survival) == {names.PHOTO}


def test_an_interval_of_samples_leaves_out_what_cannot_be_computed() -> None:
    values = np.array([0.6, np.nan, *np.linspace(0, 1, 101)])
    assert Interval.of_samples(values) == Interval(0.6, pytest.approx(0.025), pytest.approx(0.975))
    assert Interval.of_samples(np.array([np.nan, 0.5])) == Interval()


def test_results_become_json_in_one_way() -> None:
    class Found(Section):
        pass

    record = {"c": Interval(np.float64(0.5), None, float("inf")), "n": (np.int64(3), np.arange(2))}
    assert to_json(record) == {"c": {"estimate": 0.5, "low": None, "high": None}, "n": [3, [0, 1]]}
