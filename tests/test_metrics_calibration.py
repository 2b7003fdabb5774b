"""Calibration: ideal predictions, wrong ones, and the tests over all times."""

from __future__ import annotations

import numpy as np
import pytest

from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.calibration import (
    a_calibration,
    calibration,
    d_calibration,
    restricted_cubic,
    score_residuals,
    weighted_quantile,
)


def exponential(n: int, seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = 0.8 * rng.normal(size=n)
    death, censoring = rng.exponential(np.exp(-x)), rng.exponential(scale, n)
    return x, np.minimum(death, censoring), death <= censoring


def test_true_predictions_are_calibrated() -> None:
    x, time, event = exponential(6000, 0)
    c = calibration(np.exp(-0.5 * np.exp(x)), time, event, 0.5)
    assert c.oe == pytest.approx(1, abs=0.05)
    assert c.slope == pytest.approx(1, abs=0.06)
    assert c.ici < 0.015
    assert c.e50 <= c.e90


def test_extreme_and_shifted_predictions_are_seen() -> None:
    x, time, event = exponential(6000, 1)
    extreme = calibration(np.exp(-0.5 * np.exp(2 * x)), time, event, 0.5)
    assert extreme.slope == pytest.approx(0.5, abs=0.04)
    low = calibration(np.exp(-0.25 * np.exp(x)), time, event, 0.5)  # half the true hazard
    true_risk, said = 1 - np.exp(-0.5 * np.exp(x)), 1 - np.exp(-0.25 * np.exp(x))
    assert low.oe == pytest.approx(true_risk.mean() / said.mean(), rel=0.05)
    assert low.ici == pytest.approx(np.mean(np.abs(true_risk - said)), abs=0.02)


def test_rossi_is_close_to_lifelines() -> None:
    """lifelines gives ICI .033 for its Cox model of the Rossi data at 36 weeks (with other knots)."""
    from lifelines import CoxPHFitter
    from lifelines.calibration import survival_probability_calibration
    from lifelines.datasets import load_rossi

    rossi = load_rossi()
    model = CoxPHFitter().fit(rossi, "week", "arrest")
    survival = model.predict_survival_function(rossi, times=[36]).to_numpy()[0]
    c = calibration(survival, rossi["week"], rossi["arrest"], 36)
    import contextlib
    import io

    import matplotlib

    matplotlib.use("Agg")
    with contextlib.redirect_stdout(io.StringIO()):
        _, ici, e50 = survival_probability_calibration(model, rossi, 36)
    assert c.ici == pytest.approx(ici, abs=0.012)
    assert c.e50 == pytest.approx(e50, abs=0.015)
    assert c.oe == pytest.approx(1, abs=0.05)


def test_score_residuals_are_the_derivative_by_the_weights() -> None:
    x, time, event = exponential(300, 2)
    matrix = np.column_stack([x, x**2])
    entry = time * np.random.default_rng(0).uniform(-0.5, 0.8, 300)
    fit = fit_cox(matrix, time, event, entry=entry)
    residuals = score_residuals(matrix, fit.coef, time, event, entry)
    np.testing.assert_allclose(residuals.sum(axis=0), 0, atol=1e-6)
    m = np.ones(300)
    m[::3] = 1.02
    moved = fit_cox(matrix, time, event, entry=entry, weight=m).coef - fit.coef
    np.testing.assert_allclose(fit.covariance @ (residuals.T @ (m - 1)), moved, rtol=0.05, atol=1e-5)


def test_gradient_of_the_small_cox_is_zero_at_its_fit() -> None:
    x, time, event = exponential(200, 3)
    fit = fit_cox(x[:, None], time, event)
    _, gradient, _, _ = PartialLikelihood(time, event).local(x * fit.coef[0])
    assert abs(gradient @ x) < 1e-6
    with pytest.raises(InputError, match="collinear or constant"):
        fit_cox(np.ones((200, 1)), time, event)


def test_spline_is_linear_outside_the_outer_knots() -> None:
    basis = restricted_cubic(np.linspace(-3, 3, 601), np.array([-1.0, 0.0, 1.0]))
    second = np.diff(basis, 2, axis=0)
    x = np.linspace(-3, 3, 601)[1:-1]
    np.testing.assert_allclose(second[np.abs(x) > 1.02], 0, atol=1e-10)
    assert np.abs(second[np.abs(x) < 0.9, 1]).max() > 1e-6


def test_weighted_quantile_counts_repeats() -> None:
    values, weight = np.array([[3.0], [1.0], [2.0]]), np.array([[0.0], [3.0], [1.0]])
    median, top = weighted_quantile(values, weight, (0.5, 0.9))
    assert median[0] == 1
    assert top[0] == 2


def p_values(scale: float, repeats: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    d, a = [], []
    for seed in range(repeats):
        x, time, event = exponential(n, seed, scale)
        hazard = time * np.exp(x)
        d.append(d_calibration(np.exp(-hazard), event).p)
        a.append(a_calibration(hazard, event).p)
    return np.array(d), np.array(a)


@pytest.mark.parametrize(("scale", "name"), [(1e9, "no censoring"), (0.7, "60 % censored")])
def test_level_with_the_true_curves(scale: float, name: str) -> None:
    """1,000 repeats are in benchmarks/results; 300 here bound the level to about ± 2.5 %."""
    d, a = p_values(scale, 300)
    assert 0.02 <= (a < 0.05).mean() <= 0.085, name
    assert 0.43 <= a.mean() <= 0.57
    if scale > 1e6:
        assert 0.02 <= (d < 0.05).mean() <= 0.085
    else:
        assert d.mean() > 0.75  # spreading the censored evenly makes the test conservative


def test_wrong_curves_are_rejected_also_under_censoring() -> None:
    x, time, event = exponential(600, 9, 0.7)
    assert a_calibration(1.6 * time * np.exp(x), event).p < 0.001
    assert a_calibration(time, event).p > a_calibration(2 * time, event).p


def test_delayed_entry_leaves_the_residuals_exponential() -> None:
    p = []
    for seed in range(60):
        x, time, event = exponential(500, seed)
        entry = np.random.default_rng(seed).uniform(0, 0.4, 500)
        seen = entry < time
        hazard, start = (t[seen] * np.exp(x[seen]) for t in (time, entry))
        p.append(a_calibration(hazard, event[seen], entry=start).p)
    assert 0.35 < np.mean(p) < 0.65
