"""Follow-up that ends on one calendar day: the year of entry tells every censoring time."""

from __future__ import annotations

import numpy as np
import pytest

from stylegan_surv.survival import concordance


def test_weights_by_a_cox_model_survive_deterministic_censoring() -> None:
    rng = np.random.default_rng(0)
    n, end, tau = 400, 2025, 40.0
    year = rng.integers(1960, 2020, n)
    risk = rng.normal(size=n)
    death = 30 * rng.exponential(size=n) * np.exp(-risk)
    time, event = np.minimum(death, end - year), death <= end - year
    weighted = concordance(
        time, event, risk, weights="uno", tau=tau, censoring="cox", censoring_covariates=year[:, None]
    ).estimate
    # nobody is lost before the calendar day: every weight is 1, and what is left is Harrell's C up to tau
    plain = concordance(np.minimum(time, tau), event & (time < tau), risk).estimate
    assert weighted == pytest.approx(plain, abs=0.01)
