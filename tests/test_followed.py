"""Nothing is estimated beyond the follow-up: nulls with their reason, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_study_inputs import make, no_change, run

from stylegan_surv.errors import InputError
from stylegan_surv.study.settings import StudySettings
from stylegan_surv.survival.metrics.followed import is_followed, not_followed
from stylegan_surv.survival.metrics.kaplan_meier import kaplan_meier
from stylegan_surv.survival.metrics.summary import median_follow_up
from stylegan_surv.survival.metrics.table import default_horizons, oof_metrics
from stylegan_surv.survival.outcome import Outcome

N = 300


def followed_for(years: float, n: int = N, seed: int = 0) -> tuple[Outcome, pd.DataFrame]:
    """Patients who leave between 0 and `years`, and the true survival probabilities as out-of-fold results."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    death, end = 4 * rng.exponential(np.exp(-0.5 * x)), rng.uniform(0, years, n)
    outcome = Outcome([f"p{i}" for i in range(n)], np.minimum(death, end), death <= end)
    frame = pd.DataFrame(
        {"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "model": "photo", "risk": x}
    )
    for t in (0.5, 1.0, 3.44):
        frame[f"S({t:g})"] = np.exp(-t / 4 * np.exp(0.5 * x))
    return outcome, frame


def test_no_figure_beyond_the_last_patient() -> None:
    outcome, frame = followed_for(2.0)
    found = oof_metrics(frame, outcome, horizons=[0.5, 1.0, 3.44], n_boot=20)
    photo = found.models["photo"]
    for name in ("brier_3.44", "auc_3.44"):
        assert photo[name].estimate is None
        assert photo[name].low is None
    for name in ("brier_0.5", "brier_1", "auc_1", "ibs", "oe", "net_benefit_0.2"):
        assert photo[name].estimate is not None, name
    assert found.settings.not_followed == {
        "3.44": "0 patients are under observation then; an estimate needs 10"
    }


def test_calibration_and_net_benefit_stop_with_their_horizon() -> None:
    outcome, frame = followed_for(2.0)
    photo = oof_metrics(frame, outcome, horizons=[3.44], tau=3.44, n_boot=20).models["photo"]
    assert all(
        photo[name].estimate is None for name in ("oe", "slope", "ici", "e50", "e90", "net_benefit_0.1")
    )
    # the integrated score ends with the follow-up, not at the time that was asked for
    inner = oof_metrics(frame, outcome, horizons=[1.0], tau=1.0, n_boot=0).models["photo"]
    assert photo["ibs"].estimate == inner["ibs"].estimate


def test_nine_patients_are_not_enough_and_ten_are() -> None:
    outcome = Outcome([f"p{i}" for i in range(20)], np.arange(1, 21), np.tile([True, False], 10))
    assert is_followed(outcome, [11.0, 12.0]).tolist() == [True, False]
    assert list(not_followed(outcome, [11.0, 12.0])) == ["12"]


def test_a_day_on_which_all_are_censored_ends_the_follow_up() -> None:
    """200 patients are at risk at 2 years, and none of them a moment later: 1 / G is no number."""
    time = np.concatenate([np.linspace(0.1, 1.9, 50), np.full(200, 2.0)])
    outcome = Outcome(np.arange(250), time, time < 2)
    assert is_followed(outcome, [1.99, 2.0]).tolist() == [True, False]
    assert "G = 0.000" in not_followed(outcome, [2.0])["2"]


def test_default_horizons_are_followed() -> None:
    for seed in range(20):
        outcome, _ = followed_for(1.0 + seed, n=40, seed=seed)
        if outcome.event.sum() >= 2:
            assert is_followed(outcome, default_horizons(outcome)).all()


def test_reverse_kaplan_meier_respects_entry() -> None:
    """Patients who join late are not at risk of censoring before; by hand from the risk sets."""
    time, event = np.array([2.0, 3.0, 4.0, 6.0]), np.array([False, True, False, False])
    entry = np.array([0.0, 0.0, 2.5, 3.5])
    outcome = Outcome(list("abcd"), time, event, entry)
    # at risk of censoring: {a, b} at 2, {c, d} at 4, {d} at 6
    assert kaplan_meier(time, ~event, entry=entry).at(np.array([2.0, 4.0, 6.0]))[:, 0].tolist() == [
        0.5,
        0.25,
        0,
    ]
    assert median_follow_up(outcome) == 2.0
    assert median_follow_up(Outcome(list("abcd"), time, event)) == 4.0


def test_horizons_and_thresholds_on_the_command_line(tmp_path: Path) -> None:
    words = [
        *make(no_change, tmp_path),
        "--clinical",
        "age",
        "--horizons",
        "0.3,0.6,30",
        "--thresholds",
        "0.15,0.25",
    ]
    code, text = run(words)
    assert code == 0, text
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert found["settings"]["horizons"] == [0.3, 0.6, 30]
    assert found["settings"]["thresholds"] == [0.15, 0.25]
    assert found["models"]["photo"]["brier_30"]["estimate"] is None
    assert "net_benefit_0.15" in found["models"]["photo"]
    assert "net_benefit_0.1" not in found["models"]["photo"]
    page = (tmp_path / "out/report.html").read_text()
    assert "Nothing can be said at 30: follow-up ends before" in page
    card = json.loads((tmp_path / "out/model/card.json").read_text())
    assert card["horizons"] == [0.3, 0.6]  # no prediction for a time that nobody has lived to
    assert card["config"]["horizons"] == [0.3, 0.6, 30]
    assert card["config"]["thresholds"] == [0.15, 0.25]


def test_a_plan_holds_horizons_and_thresholds(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("horizons: [0.2, 0.5]\nthresholds: [0.3]\n")
    code, text = run([*make(no_change, tmp_path), "--config", str(plan)])
    assert code == 0, text
    settings = json.loads((tmp_path / "out/metrics.json").read_text())["settings"]
    assert (settings["horizons"], settings["thresholds"]) == ([0.2, 0.5], [0.3])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--horizons", "0,1"], "above 0"),
        (["--horizons", "soon"], "expected numbers"),
        (["--thresholds", "20"], "between 0 and 1"),
    ],
)
def test_impossible_horizons_and_thresholds_are_one_message(
    more: list[str], said: str, tmp_path: Path
) -> None:
    code, text = run([*make(no_change, tmp_path), *more])
    assert code == 2, text
    assert said in text
    assert "Traceback" not in text


def test_settings_are_checked_in_python() -> None:
    with pytest.raises(InputError, match="horizons: got -1"):
        StudySettings(horizons=[-1])
