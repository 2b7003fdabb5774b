"""Does the score tell more in one group than in another?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from stylegan_surv.audit.interactions import heterogeneity, interactions
from stylegan_surv.report.verdict import findings
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.concordance import concordance
from stylegan_surv.survival.outcome import Outcome

TITLE = "The photograph does not tell the same at all levels of sex"


def groups(
    women: float, men: float, seed: int = 0, n: int = 400
) -> tuple[pd.DataFrame, Outcome, pd.DataFrame]:
    """Log hazard ratio of the score in women and in men."""
    rng = np.random.default_rng(seed)
    x, man = rng.normal(size=n), rng.random(n) < 0.5
    death = rng.exponential(np.exp(-np.where(man, men, women) * x - 0.5 * man))
    end = rng.exponential(1.5, n)
    outcome = Outcome([f"p{i}" for i in range(n)], np.minimum(death, end), death <= end)
    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "risk": x})
    return frame, outcome, pd.DataFrame({"sex": np.where(man, "m", "f"), "site": rng.choice(["a", "b"], n)})


def test_a_planted_interaction_is_said_and_its_absence_is_not() -> None:
    found = interactions(*groups(1.2, 0.0), ["sex", "site"])
    assert found["sex"].p < 1e-6
    assert found["sex"].p_q < 1e-3
    assert found["site"].p > 0.05
    rejected = sum(interactions(*groups(0.6, 0.6, seed), ["sex"])["sex"].p < 0.05 for seed in range(60))
    assert rejected <= 7  # 3 are expected; binomial, upper 2 %


def test_the_test_is_the_likelihood_ratio_of_a_product_term() -> None:
    frame, outcome, table = groups(0.9, 0.4)
    z, man = frame["risk"].to_numpy(), (table["sex"] == "m").to_numpy()
    z = (z - z.mean()) / z.std()
    fits = [
        fit_cox(x, outcome.time, outcome.event, strata=man)
        for x in (np.column_stack([z, z * man]), z[:, None])
    ]
    expected = chi2.sf(2 * (fits[0].log_likelihood - fits[1].log_likelihood), 1)
    assert interactions(frame, outcome, table, ["sex"])["sex"].p == pytest.approx(expected, rel=1e-4)


def test_heterogeneity_of_c_by_hand() -> None:
    frame, outcome, table = groups(1.0, 0.3)
    level = table["sex"].to_numpy()
    c = [
        concordance(outcome.time[k], outcome.event[k], frame["risk"][k]) for k in (level == "f", level == "m")
    ]
    logit = np.array([np.log(a.estimate / (1 - a.estimate)) for a in c])
    variance = np.array([(a.se / (a.estimate * (1 - a.estimate))) ** 2 for a in c])
    q, p = heterogeneity(frame, outcome, level, ["f", "m"])
    assert q == pytest.approx((logit[0] - logit[1]) ** 2 / variance.sum(), rel=1e-6)
    assert p == pytest.approx(chi2.sf(q, 1))


def test_p_is_adjusted_over_the_columns() -> None:
    frame, outcome, table = groups(0.8, 0.5)
    alone = {name: interactions(frame, outcome, table, [name])[name].p for name in ("sex", "site")}
    both = interactions(frame, outcome, table, ["sex", "site"])
    small, large = sorted(alone, key=alone.__getitem__)
    assert both[small].p == pytest.approx(min(1.0, 2 * alone[small]))
    assert both[large].p == pytest.approx(max(both[small].p, alone[large]))


def test_levels_with_few_events_are_not_tested() -> None:
    frame, outcome, table = groups(1.0, 0.0, n=30)
    assert interactions(frame, outcome, table, ["sex"]) == {}


def test_it_reaches_the_first_screen() -> None:
    one = {"levels": 2, "p": 0.003, "q": 8.1, "p_q": 0.004, "sd": {"f": 1.1, "m": 0.9}}
    metrics = {"models": {}, "interactions": {"sex": one}}
    (found,) = [f for f in findings(metrics, {"patients": 900, "events": 500}) if "levels of sex" in f.title]
    assert (found.level, found.title) == ("caution", TITLE)
    assert not [
        f for f in findings({**metrics, "interactions": {"sex": one | {"p": 0.2}}}, {"patients": 9, "events": 500})
        if "levels" in f.title
    ]  # fmt: skip
