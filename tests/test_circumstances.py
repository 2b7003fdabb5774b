"""Confounders are found by what they are: the same data under other names raise the same alarms."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_study_inputs import make, no_change, run

import stylegan_surv as ss
from stylegan_surv.audit.circumstances import circumstances, with_years
from stylegan_surv.errors import InputError

N, LAYERS, WIDTH = 140, 3, 8
ERA = {
    "The latents betray": "caution",
    "apart": "alarm",  # "All of what it gains over chance comes from telling the … apart"
    "The outcome can be told without the face": "alarm",
}


def first_screen(root: Path) -> dict[str, str]:
    html = (root / "out/report.html").read_text()
    return {title: level for level, title in re.findall(r'<div class="finding (\w+)"><h3>(.*?)</h3>', html)}


def study(table: pd.DataFrame, w: np.ndarray, root: Path, *more: str) -> dict[str, str]:
    """The first screen of a study from the command line."""
    names = list(table["patient_id"])
    table.to_csv(root / "clinical.csv", index=False)
    synthetic = {"kind": "synthetic"}
    about = {"generator": "none", "provenance": {"generator": synthetic, "encoder": synthetic}}
    ss.Latents.from_arrays(w.astype(np.float32), names, names, about).save(root / "latents")
    places = [
        "--latents",
        str(root / "latents"),
        "--cohort",
        str(root / "clinical.csv"),
        "-o",
        str(root / "out"),
    ]
    code, text = run(["fit", *places, "--boot", "40", *more])
    assert code == 0, text
    return first_screen(root)


def era() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Old pictures look old, and those of long ago have died."""
    rng = np.random.default_rng(2)
    year = rng.integers(1950, 2010, N)
    w = rng.normal(size=(N, LAYERS, WIDTH))
    w[:, :, 0] += (year[:, None] - 1980) / 10
    death = rng.exponential(10 * np.exp((year - 1980) / 12)) + 1e-3
    end = 2025.0 - year
    names = [f"P{i:03d}" for i in range(N)]
    table = pd.DataFrame({"patient_id": names, "photo": [f"{n}.png" for n in names]})
    return table.assign(time=np.minimum(death, end), event=(death <= end).astype(int)), w, year


def dates_of(year: np.ndarray) -> list[str]:
    return [f"{y}-{1 + k % 12:02d}-{1 + k % 28:02d}" for k, y in enumerate(year)]


def years_as(kind: str, table: pd.DataFrame, year: np.ndarray) -> pd.DataFrame:
    if kind == "dates":
        dates = dates_of(year)
        return table.assign(photo_date=dates, origin_date=dates)
    if kind == "a date of diagnosis":
        return table.assign(diagnosis_date=dates_of(year))
    return table.assign(**{kind: year})


@pytest.mark.parametrize("kind", ["entry_year", "diagnosis_year", "dates", "a date of diagnosis"])
def test_an_era_is_found_under_any_name(kind: str, tmp_path: Path) -> None:
    table, w, year = era()
    found = study(years_as(kind, table, year), w, tmp_path)
    for title, level in ERA.items():
        assert any(title in t and level == lv for t, lv in found.items()), (title, found)


def by_site(effect: float, seed: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    """Two hospitals, whose photographs and whose patients differ by `effect`."""
    rng = np.random.default_rng(seed)
    south, hazard = rng.random(N) < 0.5, rng.normal(size=N)
    w = rng.normal(size=(N, LAYERS, WIDTH))
    w[:, :, 0] = hazard[:, None] + 0.2 * rng.normal(size=(N, LAYERS))
    w[:, :, 1] += 1.5 * effect * south[:, None]
    log_hazard = effect * south + (0.2 if effect else 1.3) * hazard
    death, end = rng.exponential(np.exp(-log_hazard)) + 1e-3, rng.exponential(2.0, N) + 1e-3
    names = [f"P{i:03d}" for i in range(N)]
    table = pd.DataFrame({"patient_id": names, "photo": [f"{n}.png" for n in names]})
    table = table.assign(time=np.minimum(death, end), event=(death <= end).astype(int))
    return table.assign(hospital=np.where(south, "South", "North"), smoker=rng.choice(["yes", "no"], N)), w


def test_a_site_that_nobody_has_named_is_found(tmp_path: Path) -> None:
    table, w = by_site(2.2)
    found = study(table, w, tmp_path)
    assert any("telling the hospital apart" in title and level == "alarm" for title, level in found.items())
    assert found["The latents betray the hospital"] == "caution"
    assert not any("smoker" in title for title in found)
    assert found["No site, camera or year column was given: these were not checked"] == "caution"


def test_columns_are_named_on_the_command_line(tmp_path: Path) -> None:
    table, w = by_site(2.2)
    found = study(
        table.assign(when=2000 + np.arange(N) % 20), w, tmp_path, "--nuisance", "site=hospital,year=when"
    )
    assert any("telling the hospital apart" in title and level == "alarm" for title, level in found.items())
    assert found["The outcome can be told without the face"] == "alarm"  # from the hospital alone
    assert found["No camera column was given: this was not checked"] == "plain"
    page = (tmp_path / "out/report.html").read_text()
    assert "trained on other hospitals, tested on the rest" in page


def test_a_clean_study_raises_no_alarm_and_says_what_was_not_looked_for(tmp_path: Path) -> None:
    table, w = by_site(0.0)
    found = study(table, w, tmp_path)
    assert "alarm" not in found.values()
    assert "No site, camera or year column was given: these were not checked" in found


def test_a_plan_may_name_them(tmp_path: Path) -> None:
    table, w = by_site(0.0)
    plan = tmp_path / "plan.yaml"
    plan.write_text("nuisance: {site: hospital}\n")
    found = study(table, w, tmp_path, "--config", str(plan))
    assert "No camera or year column was given: these were not checked" in found


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("site=ward", "no column 'ward' for the site"),
        ("weather=site", "expected site, camera, year"),
        ("year=entity", "expected calendar years or dates"),
        ("site", "expected NAME=COLUMN, such as site=hospital"),
    ],
)
def test_wrong_names_are_one_message(named: str, said: str, tmp_path: Path) -> None:
    code, text = run([*make(no_change, tmp_path), "--nuisance", named])
    assert code == 2, text
    assert said in text
    assert "Traceback" not in text


def test_what_is_a_circumstance_and_what_is_none() -> None:
    rng = np.random.default_rng(0)
    texts = {name: rng.choice(["a", "b"], 100) for name in ("hospital", "sex", "stage", "arm", "relapse")}
    table = pd.DataFrame(texts).assign(
        birth_year=rng.integers(1930, 1990, 100), diagnosis_year=rng.integers(1990, 2020, 100),
        platelets=rng.normal(250, 60, 100), weight=rng.integers(50, 100, 100), many=[f"x{k}" for k in range(100)],
    )  # fmt: skip
    found = circumstances(table, list(table), clinical=["arm"])
    assert found.year == ("diagnosis_year",)
    assert found.tried == ("hospital",)
    assert found.unchecked == ("site", "camera")


def test_years_of_dates_that_say_the_same_are_one() -> None:
    year = np.arange(1990, 2020)
    table = with_years(
        pd.DataFrame({"entry_year": year}),
        {"photo_date": pd.Series(dates_of(year)), "origin_date": pd.Series(dates_of(year - 1)),
         "birth_date": pd.Series(dates_of(year - 50)), "last_contact": pd.Series(dates_of(year))},
    )  # fmt: skip
    assert list(table) == ["entry_year", "photo_year", "origin_year"]
    assert circumstances(table, ["entry_year"]).year == ("photo_year",)


def test_roles_in_python() -> None:
    table = pd.DataFrame({"hospital": ["a", "b"] * 20})
    assert circumstances(table, ["hospital"], named={"site": "hospital"}).site == ("hospital",)
    with pytest.raises(InputError, match="nuisance: got 'place'"):
        circumstances(table, ["hospital"], named={"place": "hospital"})
