"""Calibration errors under simulated perfect calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stylegan_surv.survival.metrics.perfect import death_times, errors_if_perfect
from stylegan_surv.survival.metrics.table import oof_metrics
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import scores_of

TIMES = (0.25, 0.5, 0.75, 1.0)


def predictions(
    too_wide: float = 1.0, n: int = 300, seed: int = 0, late: bool = False
) -> tuple[pd.DataFrame, Outcome]:
    """Exponential deaths, and predictions whose log hazard ratios are `too_wide`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    entry = rng.uniform(0, 0.3, n) if late else np.zeros(n)
    death, end = entry + rng.exponential(np.exp(-x)), entry + rng.uniform(0.3, 2.5, n)
    outcome = Outcome(
        [f"p{i}" for i in range(n)], np.minimum(death, end), death <= end, entry if late else None
    )
    frame = pd.DataFrame(
        {"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "model": "photo", "risk": x}
    )
    for t in TIMES:
        frame[f"S({t:g})"] = np.exp(-t * np.exp(too_wide * x))
    return frame, outcome


def test_death_times_follow_the_predicted_curves() -> None:
    rng = np.random.default_rng(1)
    knots = np.array([0.0, *TIMES])
    hazard = np.tile(knots * 0.8, (20_000, 1))
    death = death_times(hazard, knots, rng.exponential(size=20_000))
    assert np.mean(death <= 0.5) == pytest.approx(1 - np.exp(-0.4), abs=0.01)
    assert np.mean(np.isinf(death)) == pytest.approx(np.exp(-0.8), abs=0.01)
    later = death_times(hazard, knots, rng.exponential(size=20_000), np.full(20_000, 0.5))
    assert later.min() > 0.5
    assert np.mean(later <= 1.0) == pytest.approx(1 - np.exp(-0.4), abs=0.01)


@pytest.mark.parametrize("late", [False, True])
def test_right_predictions_lie_within_and_wrong_ones_beyond(late: bool) -> None:
    def found(too_wide: float) -> tuple[float, np.ndarray]:
        frame, outcome = predictions(too_wide, late=late)
        table = oof_metrics(frame, outcome, horizons=[0.5], n_boot=2).models["photo"]
        simulated = errors_if_perfect(scores_of(frame, outcome), outcome, 0.5)["ici_if_perfect"][1:]
        assert table["ici"].low is None
        assert table["ici_if_perfect"].estimate == pytest.approx(np.median(simulated))
        return float(table["ici"].estimate or 0), simulated

    ici, simulated = found(1.0)
    assert simulated.min() > 0
    assert ici < np.quantile(simulated, 0.99)
    ici, simulated = found(2.5)
    assert ici > simulated.max()


def test_differences_leave_simulated_cohorts_out() -> None:
    frame, outcome = predictions()
    both = pd.concat([frame, frame.assign(model="clinical")])
    table = oof_metrics(both, outcome, horizons=[0.5], n_boot=5)
    assert "ici" in table.comparisons["photo - clinical"]
    assert "ici_if_perfect" not in table.comparisons["photo - clinical"]
