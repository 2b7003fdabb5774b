"""CoxRidge where doubles and single precision end: light penalties, columns far from zero, separation."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from stylegan_surv._types import Array
from stylegan_surv.survival import CoxRidge
from stylegan_surv.survival.cox import primal
from stylegan_surv.survival.cox.newton import Stop, solve_path
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.cox.path import PrimalDesign
from stylegan_surv.survival.cox.primal import Products


def low_rank(n: int = 200, p: int = 300, factors: int = 12) -> tuple[Array, Array]:
    """Latents of a few factors with noise, and the outcome that the factors make."""
    rng = np.random.default_rng(0)
    F = rng.standard_normal((n, factors))
    X = F @ rng.standard_normal((factors, p)) / factors**0.5 + 0.3 * rng.standard_normal((n, p))
    death = rng.exponential(size=n) * np.exp(-F[:, 0])
    end = rng.exponential(np.median(death) * 1.3, size=n)
    y = np.array(list(zip(death <= end, np.minimum(death, end))), dtype=[("event", "?"), ("time", "f8")])
    return X, y


def test_single_precision_stops_at_its_own_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from zero the float32 products lose four digits: the decrement has a floor above the tolerance."""
    monkeypatch.setattr(primal, "SMALL", 0)
    X, y = low_rank()
    X32 = (X + 200.0).astype(np.float32)
    none = np.zeros((len(X), 0))
    design = PrimalDesign(Products(X32), X32.mean(axis=0, dtype=float), [np.arange(X.shape[1])], none)
    (solution,) = solve_path(design.problem((1.0,)), PartialLikelihood(y["time"], y["event"]), [3.0])
    assert solution.stop is Stop.PRECISION
    assert solution.newton < 25
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        single = CoxRidge(alphas=[30.0, 3.0], solver="primal").fit(X32, y)
    exact = CoxRidge(alphas=[30.0, 3.0], solver="gram").fit(X32.astype(float), y)
    assert single.converged_
    np.testing.assert_allclose(single.predict(X32), exact.predict(X32), atol=2e-2)


@pytest.mark.parametrize("solver", ["gram", "primal"])
def test_a_first_step_beyond_double_precision_is_halved(solver: str) -> None:
    """From b = 0 a light penalty's Newton step spreads eta over more than exp can hold; then halving helps."""
    X, y = low_rank()
    light = CoxRidge(alphas=[1e-3], solver=solver).fit(X, y)
    along = CoxRidge(alphas=[10.0, 1.0, 0.1, 1e-2, 1e-3], solver=solver).fit(X, y)
    assert light.converged_
    assert along.converged_
    assert np.ptp(light.predict(X)) > 100
    assert abs(light.log_likelihood_ - along.log_likelihood_) < 1e-3


def test_the_last_penalty_does_not_fail_the_path_and_the_reason_is_true() -> None:
    X, y = low_rank(p=260)
    with pytest.warns(ConvergenceWarning) as told:
        path = CoxRidge(alphas=[100.0, 1e-30], alpha=100.0, solver="primal").fit(X, y)
    alone = CoxRidge(alphas=[100.0], solver="primal").fit(X, y)
    np.testing.assert_array_equal(path.coef_, alone.coef_)
    assert np.isfinite(path.coef_path_).all()
    message = str(told[0].message)
    assert "1 of 2 penalties (alpha 1e-30: " in message
    assert "unpenalised" not in message
    assert "heavier penalties" in message
