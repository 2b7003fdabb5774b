"""The page: what is on it, what is not, and what the first screen says."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stylegan_surv.report import render
from stylegan_surv.report.figures import kaplan_meier_figure
from stylegan_surv.report.page import thirds_within_fold
from stylegan_surv.report.verdict import findings
from stylegan_surv.survival.metrics import oof_metrics
from stylegan_surv.survival.outcome import Outcome

PNG = b"\x89PNG\r\n\x1a\n0000"


def study_of(signal: float = 1.0, n: int = 240, seed: int = 0, **replaced: Any) -> Any:
    """A study whose photo score carries `signal` standard deviations of the log hazard."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-signal * x)), rng.exponential(1.5, n)
    outcome = Outcome(np.array([f"p{i}" for i in range(n)]), np.minimum(death, censoring), death <= censoring)
    rows = []
    for repeat in range(2):
        fold = rng.permutation(n) % 4
        for model, risk in (("clinical", rng.normal(size=n)), ("photo", x + 0.5 * rng.normal(size=n))):
            rows.append(
                {
                    "patient_id": outcome.patient_id,
                    "repeat": repeat,
                    "fold": fold,
                    "model": model,
                    "risk": risk,
                }
            )
    oof = pd.concat([pd.DataFrame(r) for r in rows])
    fields = {
        "metrics": oof_metrics(oof, outcome, n_boot=50),
        "oof": oof,
        "outcome": outcome,
        "cohort": SimpleNamespace(flags=("The photographs are undated.",), time_unit="years"),
        "latents_info": {},
        "config": {},
        "flow": {"patients": n, "events": int(outcome.event.sum()), "photos": n},
        "provenance": {},
        "strip": PNG,
    }
    return SimpleNamespace(**{**fields, **replaced})


def text_of(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(), flags=re.S))


def test_page_is_self_contained_and_says_what_it_is(tmp_path: Path) -> None:
    page = render(study_of(), tmp_path / "deep" / "report.html")
    html, text = page.read_text(), text_of(page)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert "not a diagnosis" in text
    assert "The photographs are undated." in text
    assert "At risk" in text
    assert html.count("<svg") >= 2
    assert "data:image/png;base64" in html
    assert "data:image/png;base64" not in render(study_of(strip=None), tmp_path / "b.html").read_text()


def test_text_from_the_user_cannot_become_markup(tmp_path: Path) -> None:
    study = study_of(config={"title": "<script>alert(1)</script>"})
    assert "<script>" not in render(study, tmp_path / "r.html").read_text()


def test_first_finding_follows_the_interval() -> None:
    strong = findings(study_of(1.0).metrics, {"patients": 240, "events": 100}, [])[0]
    none = findings(study_of(0.0).metrics, {"patients": 240, "events": 100}, [])[0]
    assert "better than chance" in strong.title
    assert "No prognostic information" in none.title


def test_strata_that_explain_the_signal_are_an_alarm() -> None:
    value = lambda c: {"estimate": c, "low": c - 0.02, "high": c + 0.02}  # noqa: E731
    flow = {"patients": 1600, "events": 1000}
    era = {"models": {"photo": {"harrell_c": value(0.67), "stratified_c": value(0.568)}}}
    sound = {"models": {"photo": {"harrell_c": value(0.67), "stratified_c": value(0.66)}}}
    assert [f.level for f in findings(era, flow, [])] == ["plain", "alarm"]
    assert "60%" in findings(era, flow, [])[1].text
    assert [f.level for f in findings(sound, flow, [])] == ["plain", "good"]


def test_numbers_at_risk_by_hand() -> None:
    time, event = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1, 0, 1, 1, 0, 1], bool)
    group = np.zeros(6, int)
    _, counts = kaplan_meier_figure(time, event, group, ["all"])
    assert counts.loc["all"].to_dict() == {0: 6, 1: 6, 2: 5, 3: 4, 4: 3, 5: 2}
    _, counts = kaplan_meier_figure(time, event, group, ["all"], entry=np.array([0, 0, 2.5, 0, 0, 0]))
    assert counts.loc["all", 2] == 4


def test_thirds_are_formed_within_folds() -> None:
    outcome = Outcome(np.array(list("abcdef")), np.arange(1, 7), np.ones(6))
    frame = pd.DataFrame({"patient_id": list("abcdef"), "repeat": 0, "fold": [0, 0, 0, 1, 1, 1]})
    frame["risk"] = [1, 2, 3, 101, 102, 103]
    assert thirds_within_fold(frame, outcome).tolist() == [0, 1, 2, 0, 1, 2]
    assert thirds_within_fold(frame[frame["patient_id"] != "b"], outcome)[1] == -1


@pytest.mark.parametrize("missing", ["photo", "clinical"])
def test_a_study_without_one_of_the_models(tmp_path: Path, missing: str) -> None:
    study = study_of()
    study.oof = study.oof[study.oof["model"] != missing]
    study.metrics = oof_metrics(study.oof, study.outcome, n_boot=20)
    render(study, tmp_path / "r.html")
