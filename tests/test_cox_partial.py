"""The partial likelihood against coxdev (an independent C++ implementation) and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from coxdev import CoxDeviance

from stylegan_surv.survival.cox.partial import PartialLikelihood


def _patients(n: int = 120, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    time = np.ceil(rng.exponential(15, n))  # many ties
    entry = np.floor(rng.uniform(0, 1, n) * time) - 0.5
    return {
        "time": time,
        "event": rng.random(n) < 0.6,
        "entry": np.where(rng.random(n) < 0.3, -np.inf, entry),
        "strata": rng.integers(0, 4, n),
        "weight": rng.choice([0.0, 0.5, 1.0, 2.0], n, p=[0.1, 0.3, 0.3, 0.3]),
        "eta": rng.normal(size=n),
        "v": rng.normal(size=n),
    }


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("use", [(), ("entry",), ("strata",), ("weight",), ("entry", "strata", "weight")])
def test_equals_coxdev(ties: str, use: tuple[str, ...]) -> None:
    d = _patients()
    given = {name: d[name] for name in use}
    weight = d["weight"] if "weight" in use else np.ones(len(d["time"]))
    theirs = CoxDeviance(
        d["time"],
        d["event"].astype(int),
        strata=given.get("strata"),
        start=given.get("entry"),
        sample_weight=weight,
        tie_breaking=ties,
    )
    result = theirs(d["eta"], weight)
    ours = PartialLikelihood(d["time"], d["event"], ties=ties, **given)
    value, gradient, diagonal, information = ours.local(d["eta"])
    np.testing.assert_allclose(value, result.loglik_sat - result.deviance / 2, rtol=1e-12)
    np.testing.assert_allclose(gradient, -result.gradient / 2, atol=1e-11)
    np.testing.assert_allclose(diagonal, result.diag_hessian / 2, atol=1e-11)
    np.testing.assert_allclose(information(d["v"]), theirs.information(d["eta"], weight) @ d["v"], atol=1e-11)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_derivatives_are_those_of_the_value(ties: str) -> None:
    d = _patients(40)
    pl = PartialLikelihood(d["time"], d["event"], d["entry"], d["strata"], d["weight"], ties)
    step = 1e-5 * np.eye(40)
    eta = d["eta"]
    slope = np.array([(pl.value(eta + s) - pl.value(eta - s)) / 2e-5 for s in step])
    np.testing.assert_allclose(pl.local(eta)[1], slope, atol=1e-8)
    hessian = np.array([(pl.local(eta + s)[1] - pl.local(eta - s)[1]) / 2e-5 for s in step])
    _, _, diagonal, information = pl.local(eta)
    np.testing.assert_allclose(np.array([information(e) for e in np.eye(40)]), -hessian, atol=1e-7)
    np.testing.assert_allclose(diagonal, -np.diag(hessian), atol=1e-7)


def test_large_linear_predictors_do_not_overflow() -> None:
    d = _patients()
    pl = PartialLikelihood(d["time"], d["event"])
    value, gradient, _, _ = pl.local(100 * d["eta"])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert pl.value(1e5 * d["eta"]) == -np.inf  # what the line search then steps back from
