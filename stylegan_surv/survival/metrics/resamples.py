"""Bootstrap samples of patients with their own censoring weights: what every interval is computed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stylegan_surv._types import Bools, Floats
from stylegan_surv.survival.metrics.censoring import Censoring, Observation, observation
from stylegan_surv.survival.metrics.kaplan_meier import StepCurves, event_free
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
            d.observed,
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
        """Who is known to have had the event by t, and who is known not to have had it.

        Without competing deaths the latter are alive just after t; with them, they may have died of another
        cause (Blanche, Dartigues & Jacqmin-Gadda 2013, Stat. Med. 32:5381, definition 2).
        """
        d = self.data
        alive = self._alive(t)
        dead = d.event & (d.time <= t)
        return dead, alive if d.competing is None else alive | (d.competing & (d.time <= t))

    def _alive(self, t: float) -> Bools:
        d = self.data
        alive: Bools = d.time > t
        return alive if d.entry is None else alive & (d.entry <= t)

    def status_weights(self, t: float) -> Floats:
        """Inverse-probability weights of the known statuses at t, [n, B] (Graf et al. 1999).

        Deaths of any cause by t: 1/G(T−); alive at t: 1/G(t); censored before: 0. They sum to n, per resample.
        """
        dead, free = self.status(t)
        known = np.where(self._alive(t)[:, None], self.observed.own(np.nextafter(t, np.inf)), self.g_own)
        use = (dead | free)[:, None] & (known > 0)
        return np.divide(self.m, known, out=np.zeros(known.shape), where=use)

    def survival(self, rows: Bools | None = None) -> StepCurves:
        """P(no event by t) of the patients `rows`, one curve per resample."""
        return event_free(self.data, rows, self.data.case_weight)
