"""What stands in a clinical column is read or refused before anything is fitted, and never dropped in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_study_inputs import N, make, run

from stylegan_surv.audit.covariates import (
    audit_covariates,
    c_alone,
    log_rank,
    missingness,
    sentinel,
    usable_columns,
)
from stylegan_surv.cohort import read_cohort
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.concordance import concordance
from stylegan_surv.survival.outcome import Outcome

Change = Callable[[pd.DataFrame, np.ndarray], None]
RNG = np.random.default_rng(11)
LAB = np.round(RNG.uniform(0.5, 9.5, N), 2)


def fitted(change: Change, root: Path, *more: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``metrics.json`` holds of the clinical columns, and the first screen."""
    code, text = run([*make(change, root), *more, "--boot", "20"])
    assert code == 0, text
    html = (root / "out/report.html").read_text()
    screen = re.findall(r'<div class="finding (\w+)"><h3>(.*?)</h3>', html)
    found = json.loads((root / "out/metrics.json").read_text())["covariates"]
    return found, {title: level for level, title in screen}


def refused(change: Change, root: Path, *more: str) -> str:
    code, text = run([*make(change, root), *more])
    assert code == 2, text
    assert "Traceback" not in text
    assert not (root / "out/report.html").exists()
    return text


def decimal_commas(table: pd.DataFrame, w: np.ndarray) -> None:
    table["time"] = np.ceil(table["time"] * 365).astype(int)
    table["age"] = table["age"].round().astype(int)
    table["crp"] = [f"{x:.2f}".replace(".", ",") for x in LAB]


def commas_where_most_are_missing(table: pd.DataFrame, w: np.ndarray) -> None:
    decimal_commas(table, w)
    table.loc[table.index % 5 != 0, "crp"] = "NA"


def detection_limits(table: pd.DataFrame, w: np.ndarray) -> None:
    table["crp"] = ["<0.3" if x < 2 else ">9" if x > 9 else f"{x:.2f}" for x in LAB]


def dates(table: pd.DataFrame, w: np.ndarray) -> None:
    table["biopsy"] = [f"2015-{1 + k % 12:02d}-{1 + k % 28:02d}" for k in range(N)]


def dates_with_origin(table: pd.DataFrame, w: np.ndarray) -> None:
    dates(table, w)
    table["origin_date"], table["photo_date"] = "2016-01-01", "2015-12-01"


def german_dates(table: pd.DataFrame, w: np.ndarray) -> None:
    table["biopsy"] = [f"{1 + k % 28}.{1 + k % 12}.2015" for k in range(N)]


def free_text(table: pd.DataFrame, w: np.ndarray) -> None:
    table["note"] = [f"seen by the ward physician, no. {k}" for k in range(N)]


def slip_of_the_pen(table: pd.DataFrame, w: np.ndarray) -> None:
    table["crp"] = [f"{x:.2f}" for x in LAB]
    table.loc[3, "crp"] = "5.4 mg"


def half_numbers(table: pd.DataFrame, w: np.ndarray) -> None:
    table["crp"] = [f"{x:.2f}" if k % 2 else "positive" for k, x in enumerate(LAB)]


def constant(table: pd.DataFrame, w: np.ndarray) -> None:
    table["age"] = 60.0


def empty(table: pd.DataFrame, w: np.ndarray) -> None:
    table["crp"] = None


def units_as_text(table: pd.DataFrame, w: np.ndarray) -> None:
    table["crp"] = [f"{x:.2f} mg/l" for x in LAB]


def age_twice(table: pd.DataFrame, w: np.ndarray) -> None:
    table["age_months"] = 12 * table["age"]


def sex_twice(table: pd.DataFrame, w: np.ndarray) -> None:
    table["gender"] = table["entity"].map({"lung": "M", "breast": "F"})


def age_999(table: pd.DataFrame, w: np.ndarray) -> None:
    table.loc[[2, 5], "age"] = 999


def age_in_days(table: pd.DataFrame, w: np.ndarray) -> None:
    table["age"] = table["age"] * 365.25


def days_as_years(table: pd.DataFrame, w: np.ndarray) -> None:
    table["time"] = np.ceil(table["time"] * 1825)


def months_as_years(table: pd.DataFrame, w: np.ndarray) -> None:
    table["time"] = table["time"] * 60 / table["time"].max() * 1.9


@pytest.mark.parametrize(
    ("change", "clinical", "said"),
    [
        (dates, "age,biopsy", "'biopsy': it holds dates, and the table has no origin_date"),
        (german_dates, "biopsy", "dates such as '1.1.2015'; expected YYYY-MM-DD"),
        (free_text, "age,note", "'note': it is read as text, and contributes nothing: 60 different ones"),
        (slip_of_the_pen, "crp", "59 of its 60 values are numbers and 1 are not, such as '5.4 mg'"),
        (half_numbers, "crp", "30 are not, such as 'positive'"),
        (units_as_text, "crp", "'crp': it is read as text, and contributes nothing"),
        (constant, "age,entity", "'age': all 60 patients with a value have 60"),
        (empty, "crp", "'crp': nobody has a value"),
        (age_twice, "age,age_months", "'age_months': it says the same as 'age'"),
        (sex_twice, "entity,gender", "'gender': it says the same as 'entity'"),
        (free_text, "age,age", "'age': it is named twice"),
        (age_999, "age", "row 4, age: '999.0'; expected an age in years, from 0 to 120"),
        (age_in_days, "age", "expected an age in years"),
        (days_as_years, "age", "The unit is probably"),
        (months_as_years, "age", "followed beyond any lifetime"),
    ],
)
def test_what_would_vanish_is_refused(change: Change, clinical: str, said: str, tmp_path: Path) -> None:
    assert said in refused(change, tmp_path, "--clinical", clinical)


def test_a_column_that_cannot_be_used_disturbs_nobody_who_does_not_name_it(tmp_path: Path) -> None:
    def all_of_them(table: pd.DataFrame, w: np.ndarray) -> None:
        for change in (dates, free_text, half_numbers):
            change(table, w)

    found, _ = fitted(all_of_them, tmp_path, "--clinical", "age")
    assert [row["name"] for row in found["table"]] == ["age"]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    def two(table: pd.DataFrame, w: np.ndarray) -> None:
        free_text(table, w)
        constant(table, w)

    text = refused(two, tmp_path, "--clinical", "age,note,entity")
    assert "2 of the clinical columns cannot be used" in text
    assert "'age'" in text
    assert "'note'" in text


def test_the_unit_that_fits_is_named(tmp_path: Path) -> None:
    text = refused(days_as_years, tmp_path)
    assert "--time-unit days" in text


@pytest.mark.parametrize("change", [decimal_commas, commas_where_most_are_missing])
def test_decimal_commas_in_quoted_cells_are_numbers(change: Change, tmp_path: Path) -> None:
    found, _ = fitted(change, tmp_path, "--clinical", "crp", "--time-unit", "days")
    (row,) = found["table"]
    assert row["kind"] == "number"
    assert row["columns"][0] == "crp"
    cohort = read_cohort(tmp_path / "clinical.csv", check_photos=False, time_unit="days")
    assert cohort.patients["crp"].dropna().isin(LAB).all()


def test_limits_of_detection_are_read_and_said(tmp_path: Path) -> None:
    found, screen = fitted(detection_limits, tmp_path, "--clinical", "crp")
    assert found["table"][0]["kind"] == "number"
    cohort = read_cohort(tmp_path / "clinical.csv", check_photos=False)
    expected = np.where(LAB < 2, 0.15, np.where(LAB > 9, 9.0, LAB))
    np.testing.assert_allclose(cohort.patients["crp"], expected)
    low, high = (LAB < 2).sum(), (LAB > 9).sum()
    said = (tmp_path / "out/report.html").read_text()
    assert f"{low} values below a limit, such as &#39;&lt;0.3&#39;, count as half the limit" in said
    assert f"{high} values above a limit" in said
    assert screen["Note on the data"] == "caution"


def test_a_limit_with_a_decimal_comma() -> None:
    table = pd.DataFrame(
        {"patient_id": list("abcd"), "photo": list("abcd"), "time": ["1,5", "2,5", "3,5", "4,5"]}
    )
    table = table.assign(event=1, crp=["<0,3", "1,25", "≤ 0,5", "7"])
    assert read_cohort(table).patients["crp"].tolist() == [0.15, 1.25, 0.25, 7.0]


def test_dates_become_years_since_time_zero(tmp_path: Path) -> None:
    found, _ = fitted(dates_with_origin, tmp_path, "--clinical", "biopsy")
    (row,) = found["table"]
    assert (row["kind"], row["columns"]) == ("date", ["biopsy"])
    assert "years since time zero" in row["coding"]


def test_objects_and_strings_in_python_are_what_they_are_in_a_file() -> None:
    values = [5.43, 6.1, None, 7.25]
    base = pd.DataFrame(
        {"patient_id": list("abcd"), "photo": list("abcd"), "time": [1.5, 2.0, 3.0, 4.0], "event": 1}
    )
    texts = [None if x is None else str(x) for x in values]
    decimals = [None if x is None else Decimal(str(x)) for x in values]
    for column in (
        pd.Series(values), pd.Series(values, dtype=object), pd.Series(texts, dtype=object),
        pd.Series(texts, dtype="string"), pd.Series(texts, dtype="category"), pd.Series(decimals, dtype=object),
        pd.Series(values, dtype="Float64"),
    ):  # fmt: skip
        read = read_cohort(base.assign(crp=column)).patients["crp"]
        np.testing.assert_allclose(read.to_numpy(float), [5.43, 6.1, np.nan, 7.25], err_msg=str(column.dtype))


def test_the_table_says_what_is_missing_and_what_is_pooled(tmp_path: Path) -> None:
    def rare_and_gaps(table: pd.DataFrame, w: np.ndarray) -> None:
        table.loc[:5, "entity"] = [f"rare {k}" for k in range(6)]
        table.loc[::4, "age"] = np.nan

    found, _ = fitted(rare_and_gaps, tmp_path, "--clinical", "age,entity")
    age, entity = found["table"]
    assert age["missing"] == pytest.approx(0.25)
    assert age["columns"] == ["age", "age=missing"]
    assert "with an indicator" in age["coding"]
    assert entity["missing"] == 0
    assert "other" in entity["levels"]
    assert "pooled: rare 0, rare 1" in entity["coding"]
    assert "entity=other" in entity["columns"]
    assert entity["reference"] in ("lung", "breast")
    page = (tmp_path / "out/report.html").read_text()
    assert "Clinical variables, as the models take them" in page
    assert "25.0%" in page


# ---- covariates that know the future ---------------------------------------------------------------------


def knows_time(table: pd.DataFrame, w: np.ndarray) -> None:
    table["visits"] = np.ceil(table["time"] * 50)


def knows_event(table: pd.DataFrame, w: np.ndarray) -> None:
    table["alive"] = np.where(table["event"] == 1, "no", "yes")


def knows_by_its_gaps(table: pd.DataFrame, w: np.ndarray) -> None:
    table["cause"] = np.where(table["event"] == 1, np.where(np.arange(N) % 2, "heart", "cancer"), None)


@pytest.mark.parametrize(
    ("change", "name"), [(knows_time, "visits"), (knows_event, "alive"), (knows_by_its_gaps, "cause")]
)
def test_what_knows_the_future_reaches_the_first_screen(change: Change, name: str, tmp_path: Path) -> None:
    _, screen = fitted(change, tmp_path, "--clinical", f"age,{name}")
    assert screen[f"{name} may know the future"] == "alarm"


def doubtful(table: pd.DataFrame, w: np.ndarray) -> None:
    dead_soon = (table["event"] == 1) & (table["time"] < table["time"].median())
    table.loc[dead_soon, "age"] = np.nan
    table["relapse"] = np.arange(N) % 3 == 0
    table["psa"] = LAB
    table.loc[:6, "psa"] = -9
    table["sex"] = ["male", "Male", "female"] * (N // 3)


def test_doubts_about_columns_reach_the_first_screen(tmp_path: Path) -> None:
    found, screen = fitted(doubtful, tmp_path, "--clinical", "age,relapse,psa,sex")
    assert screen["Is relapse known at time zero?"] == "caution"
    assert found["missing"][0]["p"] < 0.001
    assert screen["It goes with the outcome whether a value is missing"] == "caution"
    assert screen["psa holds a code for missing values"] == "alarm"
    assert screen["Levels of sex are spelt in several ways"] == "caution"


def outcome_of(n: int, rng: np.random.Generator, entry: bool = False) -> Outcome:
    death, end = rng.exponential(1.0, n), rng.exponential(1.5, n)
    time = np.minimum(death, end) + 0.01
    return Outcome(np.arange(n), time, death <= end, time * rng.random(n) * 0.9 if entry else None)


@pytest.mark.parametrize("entry", [False, True])
def test_the_log_rank_test_is_the_score_test_of_a_cox_model(entry: bool) -> None:
    """Without ties both are one number; its likelihood-ratio counterpart is close."""
    rng = np.random.default_rng(2)
    outcome, member = outcome_of(400, rng, entry), rng.random(400) < 0.4
    fit = fit_cox(member[:, None].astype(float), outcome.time, outcome.event, entry=outcome.entry)
    wald = float(fit.coef[0] / fit.se[0])
    from scipy.stats import norm

    assert log_rank(member, outcome) == pytest.approx(2 * norm.sf(abs(wald)), rel=0.05)


def test_holm_adjusts_over_the_columns() -> None:
    rng = np.random.default_rng(5)
    outcome = outcome_of(300, rng)
    columns = {f"x{k}": pd.Series(np.where(rng.random(300) < 0.2, np.nan, 1.0)) for k in range(4)}
    raw = sorted(log_rank(c.isna().to_numpy(), outcome) for c in columns.values())
    adjusted = [m.p for m in missingness(columns, outcome)]
    expected = np.maximum.accumulate([min(1.0, p * (4 - k)) for k, p in enumerate(raw)])
    np.testing.assert_allclose(adjusted, expected)


def test_c_of_a_number_alone_is_its_c() -> None:
    rng = np.random.default_rng(6)
    outcome = outcome_of(200, rng, entry=True)
    x = pd.Series(rng.normal(size=200))
    expected = concordance(outcome.time, outcome.event, x, entry=outcome.entry).estimate
    assert c_alone(x, outcome) == pytest.approx(expected)
    assert 0.5 <= c_alone(pd.Series(rng.choice(["a", "b"], 200)), outcome) < 0.6


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([61, 70, 55, 64, 99, 99, 99, 58, 67], 99.0),
        ([1, 2, 3, 4, 9, 9, 9, 2, 1, 3], 9.0),
        ([0.1, 0.4, -9, -9, -9, 0.8], -9.0),
        ([91, 94, 97, 98, 99, 99, 99], None),  # old patients
        ([0, 1, 2, 5, 7, 8, 9, 9, 9], None),  # a scale from 0 to 9
        ([61, 70, 55, 64, 999, 58], None),  # once is a slip, and no pile
    ],
)
def test_sentinels(values: list[float], code: float | None) -> None:
    found = sentinel(pd.Series(values, name="x", dtype=float))
    assert (None if found is None else found.value) == code


def test_clean_columns_raise_nothing() -> None:
    """Over 100 clean tables: any doubt about a column in at most one of twenty."""
    doubted = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        outcome = outcome_of(150, rng)
        table = pd.DataFrame({"age": rng.normal(60, 12, 150).round(), "sex": rng.choice(["f", "m"], 150)})
        table["stage"] = rng.integers(1, 5, 150).astype(float)
        for name in table:
            table[name] = table[name].where(rng.random(150) > 0.1)
        found = audit_covariates(table, list(table), {}, outcome)
        doubted += bool(
            found.sentinels or found.named_later or found.spelt_twice
            or any(abs(c - 0.5) > 0.4 for c in found.alone.values())
            or any(r >= 0.9 for r in found.knows_event.values())
            or any(m.p < 0.05 for m in found.missing)
        )  # fmt: skip
    assert doubted <= 9  # 5 are expected of the test of missingness; binomial, upper 5 %


def test_usable_columns_in_python() -> None:
    table = pd.DataFrame({"age": [60.0] * 20})
    with pytest.raises(InputError, match="all 20 patients with a value have 60"):
        usable_columns(table, ["age"], {})
