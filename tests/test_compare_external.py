"""External validation: a frozen model on new patients, and its recalibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.external import validate_external
from stylegan_surv.survival.metrics.table import concordance
from stylegan_surv.survival.outcome import Outcome


def new_cohort(n: int = 900) -> tuple[pd.DataFrame, Outcome]:
    """The model's log hazards are twice too wide and its baseline half too low."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-0.7 * x)), rng.exponential(1.5, n)
    outcome = Outcome([f"p{i}" for i in range(n)], np.minimum(death, censoring), death <= censoring)
    predictions = pd.DataFrame({"patient_id": outcome.patient_id, "risk": 1.4 * x})
    for t in (0.3, 0.6, 0.9):
        predictions[f"S({t:g})"] = np.exp(-0.5 * t * np.exp(1.4 * x))
    return predictions.sample(frac=1, random_state=0), outcome


def test_recalibration_mends_what_ranking_does_not_see() -> None:
    predictions, outcome = new_cohort()
    found = validate_external(predictions, outcome, recalibrate=True, n_boot=100)
    frozen, mended = (found.metrics.models[k] for k in ("frozen", "frozen recalibrated"))
    order = predictions.set_index("patient_id").loc[outcome.patient_id, "risk"]
    c = concordance(outcome.time, outcome.event, order).estimate
    assert frozen["harrell_c"].estimate == pytest.approx(c, abs=1e-6)
    assert mended["harrell_c"] == frozen["harrell_c"]
    assert frozen["slope"].estimate == pytest.approx(0.5, abs=0.08)
    assert frozen["oe"].low > 1.2
    assert found.recalibrations["frozen"].slope == pytest.approx(0.5, abs=0.08)
    assert mended["slope"].estimate == pytest.approx(1.0, abs=0.01)
    assert mended["oe"].estimate == pytest.approx(1.0, abs=0.05)
    assert mended["ibs"].estimate < frozen["ibs"].estimate


def test_patients_without_a_prediction_are_named() -> None:
    predictions, outcome = new_cohort(60)
    with pytest.raises(InputError, match=r"2 of 60 patients have no prediction"):
        validate_external(predictions[~predictions["patient_id"].isin(["p3", "p7"])], outcome)
    without = validate_external(predictions[["patient_id", "risk"]], outcome, n_boot=10)
    assert "brier_0.3" not in without.metrics.models["frozen"]
