"""Does the score tell the same late as early: hazard ratios by period and the difference in life time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stylegan_surv._records import to_json
from stylegan_surv.audit.hazards import hazards_over_time, lost_time, restricted_mean
from stylegan_surv.report.verdict import findings
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.outcome import Outcome

FLOW = {"patients": 800, "events": 500}
PHOTO = {"models": {"photo": {"harrell_c": {"estimate": 0.6, "low": 0.56, "high": 0.64}}}}

CHANGE = 0.5  # time at which the effect changes


def two_periods(early: float, late: float, n: int = 800, seed: int = 0) -> tuple[np.ndarray, Outcome]:
    """Piecewise exponential deaths: log hazard ratio `early` up to about the median event time, `late` after it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    budget = rng.exponential(size=n)
    first = np.exp(early * x)
    spent = CHANGE * first
    death = np.where(budget < spent, budget / first, CHANGE + (budget - spent) / np.exp(late * x))
    end = rng.uniform(0.5, 5, n)
    return x, Outcome([f"p{i}" for i in range(n)], np.minimum(death, end), death <= end)


def said(x: np.ndarray, outcome: Outcome) -> dict[str, str]:
    metrics: dict[str, Any] = {**PHOTO, "hazards": to_json(hazards_over_time(x, outcome))}
    return {f.title: f.level for f in findings(metrics, FLOW)}


def test_crossing_hazards_are_an_alarm() -> None:
    x, outcome = two_periods(0.8, -0.8)
    found = hazards_over_time(x, outcome)
    assert found is not None
    assert found.crosses
    assert found.p < 1e-6
    assert said(x, outcome)["High scores die sooner at first and later in the end, or the reverse"] == "alarm"


def test_an_effect_that_ends_is_a_caution_and_crosses_nothing() -> None:
    x, outcome = two_periods(0.8, 0.0)
    found = hazards_over_time(x, outcome)
    assert found is not None
    assert not found.crosses
    assert said(x, outcome)["The photograph's hazard ratio changes over time"] == "caution"


def test_proportional_hazards_say_nothing() -> None:
    quiet = [
        len(said(*two_periods(0.5, 0.5, seed=k))) == len(said(*two_periods(0.5, 0.5, seed=0)))
        for k in range(20)
    ]
    crossed = [hazards_over_time(*two_periods(0.5, 0.5, seed=k)).crosses for k in range(20)]  # type: ignore[union-attr]
    assert sum(quiet) >= 17  # 5 % of the tests reject
    assert not any(crossed)


def test_hazard_ratios_by_period_are_those_of_split_follow_up() -> None:
    """As R's survSplit: up to the cut, and from the cut on with delayed entry."""
    x, outcome = two_periods(0.7, 0.2)
    found = hazards_over_time(x, outcome)
    assert found is not None
    cut = float(np.median(outcome.time[outcome.event]))
    z = (x - x.mean()) / x.std(ddof=1)
    k = outcome.time > cut
    late = fit_cox(z[k, None], outcome.time[k], outcome.event[k], entry=np.full(k.sum(), cut))
    early = fit_cox(z[:, None], np.minimum(outcome.time, cut), outcome.event & ~k)
    assert found.periods[0].hazard_ratio.estimate == pytest.approx(np.exp(early.coef[0]))
    assert found.periods[1].hazard_ratio.estimate == pytest.approx(np.exp(late.coef[0]))
    assert found.periods[0].events + found.periods[1].events == outcome.event.sum()


def test_restricted_mean_by_hand() -> None:
    """S is 1 to time 1, 3/4 to 2, 3/8 after it: the area up to 4 is 1 + 3/4 + 2 * 3/8."""
    outcome = Outcome(list("abcd"), [1.0, 1.5, 2.0, 5.0], [True, False, True, False])
    mean, variance = restricted_mean(outcome, np.full(4, True), 4.0)
    assert mean == pytest.approx(2.5)
    assert variance == pytest.approx(1.5**2 / (4 * 3) + 0.75**2 / (2 * 1))


def test_lost_time_covers_the_truth() -> None:
    """Exponential thirds: the difference of the areas is known."""
    covered, until = 0, 1.5
    z = np.repeat([0.0, 1.0, 2.0], 100)
    rate = np.array([0.5, 1.0, 1.5])[z.astype(int)]
    truth = (1 - np.exp(-0.5 * until)) / 0.5 - (1 - np.exp(-1.5 * until)) / 1.5
    for seed in range(200):
        rng = np.random.default_rng(seed)
        death, end = rng.exponential(1 / rate), rng.uniform(0.5, 4, 300)
        outcome = Outcome(np.arange(300), np.minimum(death, end), death <= end)
        found = lost_time(z, outcome, until)
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert 180 <= covered <= 198


def test_too_few_events_give_nothing() -> None:
    x, outcome = two_periods(0.5, 0.5, n=20)
    assert hazards_over_time(x, outcome) is None
