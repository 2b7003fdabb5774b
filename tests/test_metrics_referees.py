"""dcurves and SurvivalEVAL as referees. They are installed apart, since SurvivalEVAL is GPL and pins many packages.

python -m venv referees; referees/bin/pip install numpy pandas dcurves==1.1.7 SurvivalEVAL==0.9.0
STYLEGAN_SURV_REFEREES=referees/bin/python pytest -m slow tests/test_metrics_referees.py
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import numpy as np
import pytest

from stylegan_surv.survival.metrics import accuracy as _accuracy
from stylegan_surv.survival.metrics.calibration import calibration, d_calibration
from stylegan_surv.survival.metrics.resamples import Resamples
from stylegan_surv.survival.outcome import Outcome

REFEREES = os.environ.get("STYLEGAN_SURV_REFEREES")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REFEREES is None, reason="STYLEGAN_SURV_REFEREES names no python with the referees"),
]
THRESHOLDS, HORIZON = [0.1, 0.2, 0.3, 0.5], 0.5

SCRIPT = """
import json, sys
import numpy as np, pandas as pd
from dcurves import dca
from SurvivalEVAL.evaluations.calibration.distributional.distribution_calibration import d_calibration
from SurvivalEVAL import SingleTimeEvaluator
d = json.load(sys.stdin)
t, e, s, own = (np.array(d[k]) for k in ("time", "event", "survival", "own"))
table = pd.DataFrame({"t": t, "e": e.astype(int), "risk": 1 - s})
curve = dca(data=table, outcome="e", modelnames=["risk"], thresholds=d["thresholds"], time=d["horizon"],
            time_to_outcome_col="t")
statistic, p, _ = d_calibration(own, e.astype(bool), 10)
evaluator = SingleTimeEvaluator(s, t, e, d["horizon"], train_event_times=t, train_event_indicators=e)
ici = evaluator.integrated_calibration_index(draw_figure=False)
found = {"benefit": curve[curve.model == "risk"].net_benefit.tolist(), "p": float(p), "statistic": float(statistic)}
found |= {k: float(np.asarray(ici[k])) for k in ("ICI", "E50", "E90")}
print(json.dumps(found | {"brier": float(evaluator.brier_score())}))
"""


@pytest.fixture(scope="module")
def case() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(1.0, 400)
    time, event = np.minimum(death, censoring), death <= censoring
    data = {
        "time": time,
        "event": event,
        "survival": np.exp(-HORIZON * np.exp(1.2 * x)),
        "own": np.exp(-time * np.exp(1.2 * x)),
    }
    sent = {k: v.tolist() for k, v in data.items()} | {"thresholds": THRESHOLDS, "horizon": HORIZON}
    assert REFEREES is not None
    done = subprocess.run([REFEREES, "-c", SCRIPT], input=json.dumps(sent), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return data, json.loads(done.stdout.splitlines()[-1])


def resamples(data: dict[str, np.ndarray]) -> Resamples:
    n = len(data["time"])
    return Resamples(Outcome(np.arange(n), data["time"], data["event"], weight=np.ones((n, 1))))


def test_net_benefit_is_that_of_dcurves(case) -> None:  # type: ignore[no-untyped-def]
    data, referee = case
    ours = [_accuracy.net_benefit(data["survival"][None], resamples(data), HORIZON, p)[0] for p in THRESHOLDS]
    np.testing.assert_allclose(ours, referee["benefit"], atol=1e-10)


def test_d_calibration_is_that_of_survivaleval(case) -> None:  # type: ignore[no-untyped-def]
    data, referee = case
    found = d_calibration(data["own"], data["event"])
    assert found.statistic == pytest.approx(referee["statistic"], abs=1e-6)
    assert found.p == pytest.approx(referee["p"], abs=1e-6)


def test_brier_is_that_of_survivaleval(case) -> None:  # type: ignore[no-untyped-def]
    data, referee = case
    r = resamples(data)
    ours = _accuracy.brier(data["survival"][None], r, HORIZON, r.status_weights(HORIZON))[0]
    assert ours == pytest.approx(referee["brier"], abs=1e-6)


def test_ici_is_close_to_that_of_survivaleval(case) -> None:  # type: ignore[no-untyped-def]
    """Other knots, the same method: close, not equal."""
    data, referee = case
    c = calibration(data["survival"], data["time"], data["event"], HORIZON)
    assert c.ici == pytest.approx(referee["ICI"], abs=0.01)
    assert c.e50 == pytest.approx(referee["E50"], abs=0.01)
    assert c.e90 == pytest.approx(referee["E90"], abs=0.02)
