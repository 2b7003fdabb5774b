"""Simulated patients with a known truth: what can be recovered from photographs, and how much of it is.

Faces are drawn from a generator. What raises the hazard is *painted* on them: clinical signs with known doses,
which the generator has never drawn (or, for comparison, it is a planted direction of its latent space w). Age goes
with the face, stage does not, and each face is then *photographed* (background, clothing, light, JPEG, crop
jitter), so that only what survives the camera and the inversion can be found again.
"""

from __future__ import annotations

from stylegan_surv.simulate.cohort import simulate_cohort
from stylegan_surv.simulate.patients import AGE_IN_FACE, outcomes
from stylegan_surv.simulate.population import draw, plan, sample_w
from stylegan_surv.simulate.settings import DEFAULT_SIGNS, Simulation
from stylegan_surv.simulate.truth import Truth

__all__ = [
    "AGE_IN_FACE",
    "DEFAULT_SIGNS",
    "Simulation",
    "Truth",
    "draw",
    "outcomes",
    "plan",
    "sample_w",
    "simulate_cohort",
]
