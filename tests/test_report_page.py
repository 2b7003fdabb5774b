"""The page: what is on it, what is not, and what the first screen says."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stylegan_surv.report
from stylegan_surv._records import to_json
from stylegan_surv.report import render
from stylegan_surv.report.figures import forest_figure
from stylegan_surv.report.tables import benefit_table, difference_table, interval_text, p_text
from stylegan_surv.report.verdict import findings
from stylegan_surv.study import Study
from stylegan_surv.study.data import Exposure, Flow
from stylegan_surv.study.result import CohortFacts
from stylegan_surv.survival.metrics.curves import curves_of
from stylegan_surv.survival.metrics.summary import describe, thirds_within_fold
from stylegan_surv.survival.metrics.table import oof_metrics
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import scores_of

PNG = b"\x89PNG\r\n\x1a\n0000"


def study_of(
    signal: float = 1.0, n: int = 240, models: Sequence[str] = ("clinical", "photo"), **given: Any
) -> Study:
    """A study whose photo score carries `signal` standard deviations of the log hazard."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-signal * x)), rng.exponential(1.5, n)
    outcome = Outcome(np.array([f"p{i}" for i in range(n)]), np.minimum(death, censoring), death <= censoring)
    rows = []
    for repeat in range(2):
        fold = rng.permutation(n) % 4
        for model, risk in (("clinical", rng.normal(size=n)), ("photo", x + 0.5 * rng.normal(size=n))):
            rows.append(
                pd.DataFrame(
                    {
                        "patient_id": outcome.patient_id,
                        "repeat": repeat,
                        "fold": fold,
                        "model": model,
                        "risk": risk,
                    }
                )
            )
    oof = pd.concat(rows)
    oof = oof[oof["model"].isin(models)]
    table = oof_metrics(oof, outcome, n_boot=50)
    flow = Flow(n, n, n, n, int(outcome.event.sum()), {})
    cohort = to_json(describe(pd.DataFrame(), outcome, ())) | {"flow": to_json(flow)}
    metrics = {**to_json(table), "cohort": cohort, "curves": to_json(curves_of(oof, outcome, table))}
    fields = {"facts": CohortFacts(flags=("The photographs are undated.",)), "strip_png": PNG, "config": {}}
    return Study(metrics=metrics, oof=oof, flow=flow, **{**fields, **given})


def text_of(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(), flags=re.S))


def test_page_is_self_contained_and_says_what_it_is(tmp_path: Path) -> None:
    page = render(study_of(), tmp_path / "deep" / "report.html")
    source, text = page.read_text(), text_of(page)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", source)
    assert "not a diagnosis" in text
    assert "The photographs are undated." in text
    assert "At risk" in text
    assert source.count("<svg") >= 2
    assert "data:image/png;base64" in source
    assert "data:image/png;base64" not in render(study_of(strip_png=None), tmp_path / "b.html").read_text()


def test_a_strip_that_is_not_drawn_is_accounted_for(tmp_path: Path) -> None:
    study = study_of(strip_png=None)
    attribute = {"split_half": {"pattern": 0.1}, "risk_sd": 0.2, "nuisance": {}}
    study = replace(study, metrics={**study.metrics, "attribute": attribute})
    assert "No face is drawn along the attribute" in text_of(render(study, tmp_path / "r.html"))
    drawn = replace(study, strip_png=PNG)
    assert "No face is drawn" not in text_of(render(drawn, tmp_path / "s.html"))


def test_text_from_the_user_cannot_become_markup(tmp_path: Path) -> None:
    study = study_of(config={"title": "<script>alert(1)</script>"})
    assert "<script>" not in render(study, tmp_path / "r.html").read_text()


def test_a_dollar_sign_is_no_formula(tmp_path: Path) -> None:
    """Categories are drawn as they stand in the table, and are text on the page."""
    names = ["$x^{$", r"5 \$ or $\frac$", "<b>&$</b>", "$$", "a_b"]
    rows = [(name, "10 / 5", {"estimate": 0.6, "low": 0.5, "high": 0.7}) for name in names]
    drawn = forest_figure(rows, line=0.5)
    shown = [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", drawn)]
    assert [text for text in shown if text in names] == names
    assert "<b>" not in drawn


def value(estimate: float, half: float = 0.02) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


FLOW = {"patients": 1600, "events": 1000}


def titles(metrics: dict[str, Any], **given: Any) -> dict[str, str]:
    """Level of every finding by its title."""
    return {f.title: f.level for f in findings(metrics, FLOW, **given)}


def photo(c: float = 0.67, **others: Any) -> dict[str, Any]:
    return {"models": {"photo": {"harrell_c": value(c)}, **others}}


def test_first_finding_follows_the_interval() -> None:
    assert "The photograph ranks patients by risk better than chance" in titles(photo())
    assert "No prognostic information was shown in the photograph" in titles(photo(0.51))


def test_trap_era() -> None:
    """C .67 that is .568 within five-year strata, as on the legislators' portraits."""
    within = {"models": {"photo": {"harrell_c": value(0.67), "stratified_c": value(0.568)}}}
    title = "60% of what it gains over chance comes from telling the strata apart"
    assert titles(within)[title] == "alarm"
    sound = {"models": {"photo": {"harrell_c": value(0.67), "stratified_c": value(0.66)}}}
    assert titles(sound)["It holds within the strata"] == "good"
    unasked = {**photo(), "c_within": {"entry_year": value(0.49)}}  # nobody asked for strata
    assert (
        titles(unasked)["All of what it gains over chance comes from telling the year of entry apart"]
        == "alarm"
    )


def test_trap_site() -> None:
    latents = {"site": {"measure": "auc", **value(0.92)}, "camera": {"measure": "auc", **value(0.52)}}
    found = titles({**photo(), "controls": {"from_latents": latents}, "c_within": {"site": value(0.55)}})
    assert found["The latents betray the site"] == "caution"
    assert "The latents betray the camera" not in found
    assert any("telling the site apart" in t and level == "alarm" for t, level in found.items())


def test_trap_background() -> None:
    assert (
        titles(photo(background={"harrell_c": value(0.64)}))["The outcome can be told without the face"]
        == "alarm"
    )
    assert (
        titles(photo(background={"harrell_c": value(0.55)}))["Some of it can be told without the face"]
        == "caution"
    )
    assert (
        titles(photo(background={"harrell_c": value(0.50)}))["Nothing but the face tells the outcome"]
        == "good"
    )


def test_trap_duplicated_patient() -> None:
    pair = {"photo_a": "f1", "patient_a": "p1", "photo_b": "f2", "patient_b": "p2", "bits": 3}
    metrics = {**photo(), "controls": {"duplicates": [pair]}}
    (found,) = [f for f in findings(metrics, FLOW) if "Duplicated" in f.title]
    assert found.level == "alarm"
    assert "p1 and p2" in found.text


def test_trap_networks_that_saw_the_patients() -> None:
    leak = Exposure(seen=("p1", "p2"), text="2 patients were trained on.")
    both = {**photo(), "c_provenance": {"inside": value(0.9), "outside": value(0.6)}}
    (found,) = [f for f in findings(both, FLOW, provenance=leak) if "had seen" in f.title]
    assert (found.level, found.title) == ("alarm", "The networks had seen patients of this study")
    assert "inside 0.900" in found.text
    unknown = Exposure(unknown=("encoder",), text="Not known.")
    assert titles(photo(), provenance=unknown)["It is not known whom the networks had seen"] == "caution"
    clean = Exposure(text="None.")
    assert titles(photo(), provenance=clean)["The networks had not seen these patients"] == "good"


def test_trap_photographs_after_the_origin() -> None:
    found = findings(photo(), {**FLOW, "late_photos": 37})
    assert any(f.title == "Photographs dated after the origin" and "37" in f.text for f in found)


def test_permuted_outcomes_that_are_not_chance_are_an_alarm() -> None:
    controls = {"permuted_outcome": {"mean": 0.56, "sd": 0.02, "n": 100}}
    assert (
        titles({**photo(), "controls": controls})["The analysis finds signal where there is none"] == "alarm"
    )
    controls["permuted_outcome"]["mean"] = 0.505
    assert titles({**photo(), "controls": controls})["Permuted outcomes give chance"] == "good"


def test_trap_censoring_by_the_calendar() -> None:
    title = "The length of follow-up depends on what the photograph shows"
    apart = {"km": value(0.67), "cox": value(0.61)}
    assert titles({**photo(), "c_by_censoring": apart})[title] == "caution"
    assert title not in titles({**photo(), "c_by_censoring": {**apart, "cox": value(0.66)}})


def test_face_recognition_that_does_as_well_is_said() -> None:
    def found(difference: float) -> dict[str, str]:
        pair = {"uno_c": value(0.05), "stratified_c": value(difference)}
        return titles({**photo(), "comparisons": {"photo - face_recognition": pair}})

    assert "It was not shown to tell more than a face-recognition embedding" in found(-0.005)
    assert "It tells more than a face-recognition embedding" in found(0.05)
    assert "It tells less than a face-recognition embedding" in found(-0.05)


def test_several_analyses_and_an_unstable_risk_are_said() -> None:
    assert titles(photo(), tried=6)["One of several analyses"] == "caution"
    assert "One of several analyses" not in titles(photo(), tried=1)
    edits = {"rotated": {"moved": 0.9}, "jpeg": {"moved": 0.1}}
    moved = titles({**photo(), "controls": {"edits": edits}})
    assert moved["The risk moves when only the picture changes, not the face"] == "caution"
    assert len(titles({**photo(), "controls": {"edits": {"jpeg": {"moved": 0.1}}}})) == len(titles(photo()))


def test_thirds_are_formed_within_folds() -> None:
    outcome = Outcome(np.array(list("abcdef")), np.arange(1, 7), np.ones(6))
    frame = pd.DataFrame({"patient_id": list("abcdef"), "repeat": 0, "fold": [0, 0, 0, 1, 1, 1]})
    frame["risk"] = [1, 2, 3, 101, 102, 103]
    assert thirds_within_fold(scores_of(frame, outcome)).tolist() == [0, 1, 2, 0, 1, 2]
    assert thirds_within_fold(scores_of(frame[frame["patient_id"] != "b"], outcome))[1] == -1


@pytest.mark.parametrize("missing", ["photo", "clinical"])
def test_a_study_without_one_of_the_models(tmp_path: Path, missing: str) -> None:
    study = study_of(models=[m for m in ("photo", "clinical") if m != missing])
    assert render(study, tmp_path / "r.html").read_text().count("At risk") == 1


def test_cells() -> None:
    assert interval_text(value(0.677)) == "0.677 (0.657\u00a0to\u00a00.697)"
    assert interval_text({"estimate": -0.02, "low": None, "high": None}, 2) == "\u22120.02"
    assert interval_text(None) == "–"
    assert p_text(1e-9) == "< 0.001"
    difference = {"both - clinical": {"uno_c": value(0.03), "net_benefit_0.2": value(0.01)}}
    added = "Photograph + clinical \u2212 Clinical variables"
    table = difference_table(difference)
    assert list(table.index) == [added]
    assert list(table.columns) == ["Uno C"]
    models = {m: {"net_benefit_0.2": value(0.1)} for m in ("clinical", "both")}
    assert benefit_table(models, difference).loc[added, "0.2"] == interval_text(value(0.01))


def test_the_report_computes_nothing() -> None:
    """It imports names and formatting alone: nothing of the package that estimates, fits or embeds."""
    allowed = {"stylegan_surv._files", "stylegan_surv._types", "stylegan_surv.survival.metrics"}
    allowed |= {"stylegan_surv.survival.metrics.names"}
    for path in Path(stylegan_surv.report.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
                module = str(node.module)
                ours = module.startswith("stylegan_surv") and not module.startswith("stylegan_surv.report")
                assert not ours or module in allowed, (path.name, module)
                if module == "stylegan_surv.survival.metrics":
                    assert [alias.name for alias in node.names] == ["names"], path.name


def test_calibration_needs_both_intervals_within_the_bounds() -> None:
    """A slope from −2.36 to 1.20 is not green because it includes 1."""

    def title(oe: tuple[float, float], slope: tuple[float, float]) -> str:
        ends = {"oe": oe, "slope": slope}
        given = {k: {"estimate": sum(v) / 2, "low": v[0], "high": v[1]} for k, v in ends.items()}
        said = titles({"models": {"photo": {"harrell_c": value(0.67), **given}}})
        (found,) = [t for t in said if "probabilities" in t]
        return found

    assert title((0.9, 1.1), (0.8, 1.2)) == "Predicted probabilities fit on average"
    assert title((0.9, 1.1), (-2.36, 1.2)) == "It is not known whether predicted probabilities fit"
    assert title((0.7, 1.1), (0.8, 1.2)) == "It is not known whether predicted probabilities fit"
    assert title((0.9, 1.1), (0.2, 0.6)) == "Predicted probabilities are off"
    assert title((1.1, 1.2), (0.8, 1.2)) == "Predicted probabilities are off"


def test_too_few_permutations_are_said_to_be_so() -> None:
    def said(n: int, p: float) -> list[str]:
        test = {"p": p, "n_permutations": n, "hazard_ratio_per_sd": value(1.5)}
        return [t for t in titles({**photo(), "added_value": test}) if "information" in t]

    assert said(9, 0.1) == ["Too few permutations to test whether it carries information alone"]
    assert said(19, 0.05) == ["It carries information alone"]
    assert said(19, 0.10) == ["It was not shown to carry information alone"]
