"""What goes to lifelines and scikit-survival, and what is taken from lifelines."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored

from stylegan_surv.errors import InputError
from stylegan_surv.survival import compare_groups, concordance, nested_cv, to_lifelines, to_scikit_survival
from stylegan_surv.survival.bridge import restricted_mean_error, scores_by_patient
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.kaplan_meier import kaplan_meier
from stylegan_surv.survival.metrics.resamples import multiplicities
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.nested import Validation


@cache
def study(late: bool = False) -> tuple[pd.DataFrame, Outcome, pd.DataFrame]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 5))
    death, end = rng.exponential(np.exp(-X[:, 0])), rng.exponential(2.0, 90)
    time = np.minimum(death, end)
    entry = 0.5 * time * rng.random(90) if late else None
    outcome = Outcome([f"P{i}" for i in range(90)], time, death <= end, entry)
    age = pd.DataFrame({"age": rng.normal(60, 10, 90)})
    oof = nested_cv("cox-ridge", X, outcome, Validation(folds=3, repeats=2, horizons=[0.5]), clinical=age)
    return oof.frame, outcome, age


def test_scores_have_one_zero_and_one_unit_in_every_fold() -> None:
    oof, outcome, _ = study()
    scores = scores_by_patient(oof, outcome)
    assert list(scores) == ["score_clinical", "score_photo", "score_both"]
    once = scores_by_patient(oof[oof["repeat"] == 0], outcome)["score_photo"]
    fold = oof[(oof["repeat"] == 0) & (oof["model"] == "photo")].set_index("patient_id")["fold"]
    groups = once.groupby(fold.loc[outcome.patient_id].to_numpy())
    np.testing.assert_allclose(groups.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(groups.std(), 1, atol=1e-12)
    shuffled = scores_by_patient(oof.sample(frac=1, random_state=0), outcome)
    pd.testing.assert_frame_equal(shuffled[list(scores)], scores)


@pytest.mark.parametrize("late", [False, True])
def test_a_cox_model_of_lifelines_goes_on_from_the_table(late: bool) -> None:
    oof, outcome, age = study(late)
    frame = to_lifelines(oof, outcome, age)
    assert frame.index.tolist() == list(outcome.patient_id)
    assert ("entry" in frame) == late
    columns = ["time", "event", "age", "score_photo", *(["entry"] if late else [])]
    theirs = CoxPHFitter().fit(frame[columns], "time", "event", entry_col="entry" if late else None)
    x = frame[["age", "score_photo"]].to_numpy()
    ours = fit_cox(x, outcome.time, outcome.event, entry=outcome.entry)
    np.testing.assert_allclose(theirs.params_.to_numpy(), ours.coef, atol=1e-4)
    with pytest.raises(InputError, match="'time' is a name of the outcome"):
        to_lifelines(oof, outcome, age.rename(columns={"age": "time"}))


def test_scikit_survival_takes_the_arrays_and_what_they_cannot_say_is_refused() -> None:
    oof, outcome, age = study()
    X, y = to_scikit_survival(oof, outcome, age)
    assert list(X) == ["age", "score_clinical", "score_photo", "score_both"]
    CoxPHSurvivalAnalysis().fit(X[["age", "score_photo"]], y)
    theirs = concordance_index_censored(y["event"], y["time"], X["score_photo"])[0]
    assert theirs == pytest.approx(
        concordance(outcome.time, outcome.event, X["score_photo"]).estimate, abs=1e-9
    )
    oof, outcome, age = study(late=True)
    with pytest.raises(InputError, match="late entry"):
        to_scikit_survival(oof, outcome, age)


def test_the_log_rank_test_of_the_leukaemia_trial() -> None:
    """Freireich et al. 1963, remissions in weeks; χ² = 16.79 (Kleinbaum & Klein, Survival Analysis, chapter 2)."""
    died = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    time = np.array([*died, *censored, *placebo], float)
    event = np.array([1] * 9 + [0] * 12 + [1] * 21)
    group = np.array(["6-MP"] * 21 + ["placebo"] * 21)
    outcome = Outcome(np.arange(42), time, event)
    found = compare_groups(outcome, group, tau=23)
    assert found.chi_square == pytest.approx(16.79, abs=0.005)
    assert found.p == pytest.approx(4.17e-5, abs=1e-7)
    mean = found.restricted_mean["placebo"]
    assert mean.estimate == pytest.approx(np.mean(placebo), abs=1e-9)  # nobody is censored
    assert mean.low is not None
    half = 1.959964 * np.std(placebo) / 21**0.5  # and the standard error is that of a mean
    assert mean.estimate - mean.low == pytest.approx(half, rel=1e-6)
    assert found.restricted_mean["6-MP"].estimate > mean.estimate + 5
    with pytest.raises(InputError, match="late entry"):
        compare_groups(Outcome(np.arange(42), time, event, time / 2), group)
    with pytest.raises(InputError, match="one group"):
        compare_groups(outcome, np.zeros(42))


def test_a_restricted_mean_is_the_area_and_its_error_that_of_resamples() -> None:
    rng = np.random.default_rng(1)
    death, end, tau = rng.exponential(1.0, 300), rng.exponential(1.5, 300), 1.5
    time, event = np.minimum(death, end), death <= end
    curves = kaplan_meier(time, event, weight=multiplicities(300, 1000, 0))
    inside = curves.times < tau
    steps = np.diff(np.r_[0.0, curves.times[inside], tau])
    areas = steps @ curves.values[: len(steps)]
    assert restricted_mean_error(time, event, tau) == pytest.approx(np.std(areas[1:]), rel=0.08)
    twice = Outcome(np.arange(600), np.tile(time, 2), np.tile(event, 2))
    found = compare_groups(twice, np.repeat(["a", "b"], 300), tau=tau)
    assert found.restricted_mean["a"].estimate == pytest.approx(areas[0], abs=1e-9)
    assert found.p == pytest.approx(1.0)
