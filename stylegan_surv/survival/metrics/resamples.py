"""Bootstrap samples of patients with their own censoring weights: what every interval is computed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stylegan_surv._types import Bools, Floats
from stylegan_surv.survival.metrics.censoring import Censoring, Observation, observation
from stylegan_surv.survival.metrics.kaplan_meier import StepCurves, kaplan_meier
from stylegan_surv.survival.outcome import Outcome


def multiplicities(n: int, n_boot: int, seed: int) -> NDArray[np.float32]:
    """How often each of n patients is drawn, [n, 1 + n_boot]; the first column is the sample itself."""
    rng = np.random.default_rng(seed)
    m = np.ones((n, 1 + n_boot), np.float32)
    for b in range(n_boot):
        m[:, b + 1] = np.bincount(rng.integers(n, size=n), minlength=n)
    return m


@dataclass(frozen=True)
class Resamples:
    """Patients' follow-up with B columns of multiplicities.

    Parameters
    ----------
    data : Outcome
        Its weights are the multiplicities, shape (n, B); its strata serve ``censoring="stratified"``.
    censoring : str
        Model of G, as in `concordance`.
    covariates : array-like, shape (n, k), optional
        Of that model.
    """

    data: Outcome
    censoring: Censoring = "km"
    covariates: ArrayLike | None = None

    @property
    def m(self) -> Floats:
        return self.data.case_weight

    @cached_property
    def observed(self) -> Observation:
        """G of every patient, one estimate per resample."""
        d = self.data
        return observation(
            d.time,
            d.event,
            entry=d.entry,
            strata=d.strata,
            weight=d.weight,
            censoring=self.censoring,
            covariates=self.covariates,
        )

    @cached_property
    def g_own(self) -> Floats:
        """G(T−) at each patient's own time, [n, B]."""
        return self.observed.own(self.data.time)

    def status(self, t: float) -> tuple[Bools, Bools]:
        """Who is known to have died by t, and who is known to be alive just after it."""
        d = self.data
        alive = d.time > t
        if d.entry is not None:
            alive = alive & (d.entry <= t)
        return d.event & (d.time <= t), alive

    def status_weights(self, t: float) -> Floats:
        """Inverse-probability weights of the known statuses at t, [n, B] (Graf et al. 1999).

        Deaths by t: 1/G(T−); alive at t: 1/G(t); censored before: 0. They sum to n, per resample.
        """
        dead, alive = self.status(t)
        known = np.where(dead[:, None], self.g_own, self.observed.own(np.nextafter(t, np.inf)))
        use = (dead | alive)[:, None] & (known > 0)
        return np.divide(self.m, known, out=np.zeros(known.shape), where=use)

    def survival(self, rows: Bools | None = None) -> StepCurves:
        """Kaplan–Meier curve of the patients `rows`, one per resample."""
        d = self.data
        k = np.ones(len(d.time), bool) if rows is None else rows
        entry = None if d.entry is None else d.entry[k]
        return kaplan_meier(d.time[k], d.event[k], entry=entry, weight=d.case_weight[k])
