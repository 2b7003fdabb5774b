"""Matching: nobody twice, within the calipers, the cheapest assignment; and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from stylegan_surv.classify.balance import standardised_difference
from stylegan_surv.classify.match import MatchSettings, match, open_match
from stylegan_surv.classify.people import read_people
from stylegan_surv.errors import InputError


def people(ages: dict[str, list[float]], sex: str = "F") -> pd.DataFrame:
    """One sex, ages by group."""
    rows = [(group, age) for group, some in ages.items() for age in some]
    return pd.DataFrame(
        {
            "patient_id": [f"p{k}" for k in range(len(rows))],
            "photo": [f"p{k}.jpg" for k in range(len(rows))],
            "group": [group for group, _ in rows],
            "age": [age for _, age in rows],
            "sex": sex,
        }
    )


def pool(seed: int, cases: int = 40, controls: int = 400) -> pd.DataFrame:
    """Cases older and more often men than the pool."""
    rng = np.random.default_rng(seed)
    ages = {
        "case": list(rng.normal(62, 8, cases)),
        "control": list(rng.normal(52, 14, controls).clip(20, 95)),
    }
    table = people(ages)
    table["sex"] = np.where(rng.random(len(table)) < np.where(table["group"] == "case", 0.7, 0.4), "M", "F")
    return table


@pytest.mark.parametrize("method", ["caliper", "frequency"])
def test_controls_are_used_once_and_lie_within_reach(method):
    settings = MatchSettings(method=method, ratio=2, seed=3)
    found = match(read_people(pool(1)), settings)
    table = found.people.table
    assert table["patient_id"].is_unique
    for _, one in table.groupby("set"):
        assert list(one["group"]) == ["case", "control", "control"]
        assert one["sex"].nunique() == 1
        if method == "caliper":
            assert (one["age"] - one["age"].iloc[0]).abs().max() <= 3
        else:
            assert (one["age"] // 5).nunique() == 1
    age = next(row for row in found.balance if row.name == "age")
    assert abs(age.before) > 0.5
    assert abs(age.after) < 0.1


def test_the_assignment_is_the_cheapest_of_all():
    cases, controls = [50.0, 52.0, 53.0], [51.9, 50.4, 54.0, 53.1]
    found = match(
        read_people(people({"case": cases, "control": controls})), MatchSettings(calipers={"age": 3.0})
    )
    ages = found.people.table.groupby("set")["age"]
    cost = float(ages.agg(lambda a: abs(a.iloc[0] - a.iloc[1])).sum())
    every = [sum(abs(a - b) for a, b in zip(cases, some)) for some in itertools.permutations(controls, 3)]
    assert cost == pytest.approx(min(every))


def test_a_match_that_exists_is_found_where_the_nearest_control_would_spoil_it():
    table = people({"case": [50.0, 52.0], "control": [49.0, 51.0]})  # 51 is nearest to both; 52 has no other
    found = match(read_people(table), MatchSettings(calipers={"age": 1.0}))
    assert len(found.people) == 4


def test_the_seed_decides_and_nothing_else():
    rows = pool(2)
    a, b, c = (match(read_people(rows), MatchSettings("frequency", seed=s)).people.table for s in (0, 0, 1))
    pd.testing.assert_frame_equal(a, b)
    assert set(a["patient_id"]) != set(c["patient_id"])


def test_the_cell_that_is_short_is_named():
    table = people({"case": [71.0, 72.0, 73.0], "control": [70.0, 20.0, 21.0, 22.0]})
    with pytest.raises(InputError, match=r"F, 70–75 years"):
        match(read_people(table))
    kept = match(read_people(table), MatchSettings(drop_unmatched=True))
    assert len(kept.people) == 2
    assert len(kept.unmatched) == 2


def test_a_pool_smaller_than_the_cases_is_refused():
    with pytest.raises(InputError, match="2 controls for 3 cases"):
        match(read_people(people({"case": [50, 51, 52], "control": [50, 51]})))


def test_age_limits_are_applied_before_the_match():
    found = match(read_people(people({"case": [50, 90], "control": [50, 91]})), MatchSettings(ages=(40, 80)))
    assert found.outside == 2
    assert len(found.people) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(group="case"), "no 'control'"),
        (lambda t: t.assign(patient_id=["a", "a", "b", "c"], group=["case", "control", "case", "control"]),
         "each person in one group, not in both"),
        (lambda t: t.assign(photo=["a", "a", "b", "c"], group=["case", "control", "case", "control"]),
         "each photograph in one group, not in both"),
        (lambda t: t.assign(age=[50, None, 50, 51]), "years, a number"),
        (lambda t: t.drop(columns="sex"), "no column sex"),
        (lambda t: t.assign(group="patient"), "'case' or 'control'"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused_in_words(change, message):
    table = people({"case": [50, 51], "control": [50, 51]})
    with pytest.raises(InputError, match=message):
        read_people(change(table))


def test_a_saved_match_reads_back(tmp_path):
    table = pool(4).assign(bmi=np.linspace(18, 35, 440), camera="A")
    found = match(read_people(table))
    found.save(tmp_path)
    again = open_match(tmp_path)
    assert list(again.people.table["patient_id"]) == list(found.people.table["patient_id"])
    assert list(again.sets) == list(found.sets)
    assert {row.name for row in again.balance} == {row.name for row in found.balance}
    assert again.settings == found.settings


def test_the_standardised_difference_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    x, case = rng.normal(size=50), rng.random(50) < 0.4
    by_hand = (x[case].mean() - x[~case].mean()) / np.sqrt((x[case].var(ddof=1) + x[~case].var(ddof=1)) / 2)
    assert standardised_difference(x, case) == pytest.approx(by_hand)
