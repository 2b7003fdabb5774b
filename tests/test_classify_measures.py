"""Figures of a classification against scikit-learn, and intervals and alarms against what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from stylegan_surv.classify import measures
from stylegan_surv.classify.folds import by_level, holdout, inner_split, set_folds
from stylegan_surv.classify.logistic import fit_ridge, newton
from stylegan_surv.classify.ridge import cross_validated
from stylegan_surv.classify.sources import judge, source_tables
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.interval import Interval

RNG = np.random.default_rng(5)
CASE = np.arange(80) % 2 == 0
SCORE = np.round(RNG.normal(size=80) + 0.8 * CASE, 1)  # with ties
SETS, ONE = np.arange(80) // 2, np.ones((80, 1))


def test_auc_is_scikit_learns():
    assert measures.auc(CASE, SCORE, np.zeros(80, int), ONE)[0] == pytest.approx(roc_auc_score(CASE, SCORE))


def test_auc_counts_pairs_within_folds_and_resamples_as_repeated_rows():
    fold, m = set_folds(SETS, 4, 0), measures.multiplicities(SETS, 3, 1)
    for b in range(4):
        rows = np.repeat(np.arange(80), m[:, b].astype(int))
        won = total = 0.0
        for k in range(4):
            some = rows[fold[rows] == k]
            pairs = CASE[some].sum() * (~CASE[some]).sum()
            won += roc_auc_score(CASE[some], SCORE[some]) * pairs
            total += pairs
        assert measures.auc(CASE, SCORE, fold, m)[b] == pytest.approx(won / total)


def test_the_curve_is_scikit_learns():
    curve = measures.roc(CASE, SCORE, np.zeros(80, int), ONE.repeat(3, axis=1))
    false, true, _ = roc_curve(CASE, SCORE, drop_intermediate=False)
    steps = [true[false <= x + 1e-9].max() for x in curve.false_positive]
    np.testing.assert_allclose(curve.sensitivity, steps)


def test_logistic_regression_is_scikit_learns():
    x = RNG.normal(size=(80, 3))
    b = newton(np.column_stack([x, np.ones(80)]), CASE.astype(float), np.array([2.0, 2.0, 2.0, 0.0]))
    theirs = LogisticRegression(C=0.5, tol=1e-10).fit(x, CASE)
    np.testing.assert_allclose(b, [*theirs.coef_[0], theirs.intercept_[0]], atol=1e-5)


def test_wide_and_narrow_inputs_give_the_same_model():
    """Columns that repeat others only rescale the penalty."""
    x = RNG.normal(size=(80, 30))
    wide = np.concatenate([x] * 4, axis=1) / 2
    a, b = (fit_ridge(z, CASE, scale=False, penalty=1.0).logit(z) for z in (x, wide))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_scores_of_the_training_rows_are_balanced_whatever_is_cut_off():
    """At the maximum the weighted residuals sum to 0, with far-off values too."""
    x = np.concatenate([RNG.normal(size=(80, 3)), RNG.standard_cauchy((80, 2)) * 50], axis=1)
    p = 1 / (1 + np.exp(-fit_ridge(x, CASE, scale=True, penalty=1.0).logit(x)))
    assert (p - CASE).sum() == pytest.approx(0, abs=1e-5)


def test_calibration_slope_of_true_log_odds_is_one():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 20_000)
    case, fold = rng.random(20_000) < 1 / (1 + np.exp(-logit)), np.arange(20_000) % 5
    assert measures.calibration_slope(case, logit, fold) == pytest.approx(1, abs=0.05)
    assert measures.calibration_slope(case, 2 * logit, fold) == pytest.approx(0.5, abs=0.03)


def test_the_threshold_maximises_youdens_index():
    false, true, cut = roc_curve(CASE, SCORE)
    found = measures.best_threshold(CASE, SCORE)
    positive = found < SCORE
    index = positive[CASE].mean() - positive[~CASE].mean()
    assert index == pytest.approx((true - false).max())
    assert np.isfinite(cut[1:]).all()


def test_intervals_cover_half_where_there_is_no_signal():
    """Without the correction about 81 % do: each pair is judged twice in cross-validation."""
    covered, plain, n = 0, 0, 80
    for seed in range(n):
        rng = np.random.default_rng([seed, 9])
        x, sets, case = rng.normal(size=(80, 60)), np.arange(80) // 2, np.arange(80) % 2 == 0
        fold = set_folds(sets, 5, seed)
        logit = cross_validated(x, case, sets, fold, scale=False, seed=seed).logit
        samples = measures.auc(case, logit, fold, measures.multiplicities(sets, 200, seed))
        for crossed in (True, False):
            found = measures.auc_interval(samples, crossed)
            hit = found.low <= 0.5 <= found.high
            covered, plain = covered + (hit and crossed), plain + (hit and not crossed)
    low, high = binom.interval(0.999, n, 0.95)
    assert low <= covered <= high
    assert plain < covered


def test_a_signal_is_found_with_the_power_that_is_stated():
    limit = measures.detectable(100, 100, crossed=False)
    found = 0
    for seed in range(300):
        rng = np.random.default_rng([seed, 10])
        case = np.arange(200) < 100
        shift = np.sqrt(2) * 0.2924  # of normal scores whose AUC is `limit`, checked below
        score = rng.normal(size=200) + shift * case
        wins = roc_auc_score(case, score)
        found += abs(wins - 0.5) > 1.96 * np.sqrt(201 / (12 * 100 * 100))
    assert norm.cdf(0.2924) == pytest.approx(limit, abs=0.002)
    assert 0.72 < found / 300 < 0.88


def test_sets_never_stand_on_two_sides():
    sets = np.repeat(np.arange(30), 3)
    fold = set_folds(sets, 5, 1)
    kept = holdout(sets, 0.3, 1)
    inner = inner_split(sets, fold != 0, 1, 7)
    for mark in (fold, kept, inner):
        assert pd.Series(mark).groupby(sets).nunique().max() == 1
    assert not inner[fold == 0].any()
    assert (kept == 0).sum() == 27
    with pytest.raises(InputError, match="31 folds"):
        set_folds(sets, 31, 0)


def samples(estimate: float, se: float = 0.02) -> np.ndarray:
    return np.concatenate([[estimate], np.random.default_rng(3).normal(estimate, se, 500)])


@pytest.mark.parametrize(
    ("face", "wall", "believable", "said"),
    [
        (0.85, 0.52, True, "The face separates"),
        (0.85, 0.70, False, "Not believable.*background, AUC 0.70"),
        (0.95, 0.60, True, "The face separates"),  # beyond chance, but not a third of what the face reaches
        (0.51, 0.50, True, "smallest AUC"),
        (0.51, 0.80, False, "Not believable"),
    ],
)
def test_only_inputs_without_a_face_decide(face, wall, believable, said):
    table = pd.DataFrame({"camera": ["A", "B"] * 40})
    tables = source_tables(table, np.arange(80) < 40)
    interval = Interval(face, face - 0.04, face + 0.04)
    found = judge(interval, {"background": samples(wall)}, tables, crossed=False, least=0.6)
    assert found.believable is believable
    assert pd.Series([found.sentence]).str.contains(said).all()


def test_where_class_and_source_coincide_no_auc_helps():
    table = pd.DataFrame({"site": ["clinic"] * 40 + ["web"] * 40})
    tables = source_tables(table, np.arange(80) < 40)
    found = judge(Interval(0.9, 0.85, 0.95), {"file": samples(0.5)}, tables, crossed=True, least=0.6)
    assert not found.believable
    assert "no analysis of these data can separate them" in found.sentence


def test_predictive_values_follow_bayes():
    positive, negative = measures.predictive_values(0.9, 0.8, 0.1)
    assert positive == pytest.approx(0.09 / (0.09 + 0.18))
    assert negative == pytest.approx(0.72 / (0.72 + 0.01))


def test_a_camera_that_tells_the_class_tells_nothing_within_a_camera_left_out():
    """A fifth of either class crosses over; nothing but the camera is in the numbers."""
    within, pooled = [], []
    for seed in range(20):
        rng = np.random.default_rng([seed, 11])
        case, sets = np.arange(400) % 2 == 0, np.arange(400) // 2
        camera = case ^ (rng.random(400) < 0.2)
        x = rng.normal(size=(400, 10)) + 2 * camera[:, None]
        inner = set_folds(sets, 5, seed)
        score = cross_validated(x, case, sets, inner, scale=False, seed=seed).logit
        pooled.append(measures.auc(case, score, inner, np.ones((400, 1)))[0])
        fold = by_level(pd.Series(np.where(camera, "A", "B")))
        out = cross_validated(x, case, sets, fold, scale=False, seed=seed).logit
        levels = [measures.auc(case, out, np.where(fold == k, 0, -1), np.ones((400, 1)))[0] for k in (0, 1)]
        within.append(np.mean(levels))
    assert np.mean(pooled) > 0.75
    assert np.mean(within) == pytest.approx(0.5, abs=0.02)
