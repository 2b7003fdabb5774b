"""Risk of one cause of death where others compete: cumulative incidence from cause-specific hazards of every cause."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stylegan_surv._types import Array

LEAST_DEATHS = 10  # of a competing cause for a model of it; the hazard of a rarer one is the same for all


def cumulative_incidence_from_hazards(hazards: Sequence[Array], at: Array) -> Array:
    """F₁ at the columns `at`, from cumulative cause-specific hazards on one grid of times.

    Between two times of the grid the hazards of all causes are taken to stand in one ratio, so that
    ``S(s) = S(s−) exp(−dA)`` and ``dF₁ = (S(s−) − S(s)) dΛ₁ / dA`` with ``A = Σ Λ_k``: the incidences of all causes
    and the survival sum to 1, and without competing causes F₁ is ``1 − exp(−Λ₁)`` (Benichou & Gail 1990,
    Biometrics 46:813; Andersen, Geskus, de Witte & Putter 2012, Int. J. Epidemiol. 41:861).

    Parameters
    ----------
    hazards : sequence of array of float, shape (n, T)
        Λ_k(t | x) of every cause at increasing times that hold every jump; the first is the cause of interest.
    at : array of int, shape (H,)
        Columns at which F₁ is wanted; −1 is before the first time.

    Returns
    -------
    array of float, shape (n, H)
    """
    steps = [np.diff(hazard, axis=1, prepend=0.0) for hazard in hazards]
    total = np.sum(steps, axis=0)
    before = np.exp(-np.hstack([np.zeros((len(total), 1)), np.cumsum(total, axis=1)[:, :-1]]))
    share = np.divide(steps[0], total, out=np.zeros_like(total), where=total > 0)
    incidence = np.cumsum(before * -np.expm1(-total) * share, axis=1)
    incidence = np.hstack([np.zeros((len(total), 1)), incidence])
    found: Array = np.clip(incidence[:, np.asarray(at) + 1], 0.0, 1.0)
    return found
