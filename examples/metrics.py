"""Metrics of a risk score with intervals, a paired comparison, calibration and sample size, on public data.

Run: ``python examples/metrics.py``
"""

from __future__ import annotations

import numpy as np
from lifelines.datasets import load_lung

from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.calibration import calibration
from stylegan_surv.survival.metrics.sample_size import events_for_hazard_ratio
from stylegan_surv.survival.metrics.table import concordance

lung = load_lung().dropna(subset=["age", "sex", "ph.ecog"])
time, event = lung["time"].to_numpy(float), lung["status"].to_numpy(bool)


def cox_score(*columns: str) -> np.ndarray:
    """Linear predictor of a Cox model, in sample."""
    x = lung[list(columns)].to_numpy(float)
    return (x - x.mean(axis=0)) @ fit_cox(x, time, event).coef


full, age_sex = cox_score("age", "sex", "ph.ecog"), cox_score("age", "sex")
c = concordance(time, event, full)
low, high = c.ci()
print(f"Harrell C    {c.estimate:.3f} ({low:.3f} to {high:.3f})")

uno = concordance(time, event, full, weights="uno", tau=700.0)
print(f"Uno C        {uno.estimate:.3f} before 700 days")

delta = c.minus(concordance(time, event, age_sex))
low, high = delta.ci()
print(f"gain by ECOG {delta.estimate:.3f} ({low:.3f} to {high:.3f}), paired")

survival = np.exp(-0.63 * np.exp(full))  # S(365) with the baseline hazard of this cohort
found = calibration(survival, time, event, 365)
print(f"calibration  O/E {found.oe:.2f}, slope {found.slope:.2f}, ICI {found.ici:.3f}")

print(f"events needed for a hazard ratio of 1.3 per SD: {events_for_hazard_ratio(1.3)}")
