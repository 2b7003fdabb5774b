"""What was planted in simulated patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from stylegan_surv._types import Bools, Floats
from stylegan_surv.errors import InputError
from stylegan_surv.simulate.patients import weighted


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes
    ----------
    log_hazard : array of float, shape (n,)
        Each patient's log-hazard, centred.
    photo_log_hazard : array of float, shape (n,)
        E[log-hazard | face and signs], SD 1 without a planted effect of sex: all that a photograph could tell.
    w : array of float, shape (n, w_dim)
        The true latents of the faces, before any sign was painted.
    w_mean : array of float, shape (w_dim,)
        Mean of w in the population.
    w_cov : array of float, shape (w_dim, w_dim)
        Covariance of w in the population.
    oracle_c : float
        Harrell's C of ``photo_log_hazard`` on these patients with this censoring.
    male : array of bool, shape (n,)
        Apparent sex of the drawn faces.
    direction : array of float, shape (w_dim,), optional
        β* with ``photo_log_hazard = (w − w_mean)·β*``; None where signs were painted.
    doses : mapping of str to array of float, shape (n,)
        Of each sign, SD 1; empty where a direction was planted.
    weights : mapping of str to float
        Of each sign in the hazard; the root of their sum of squares is 1.
    """

    log_hazard: Floats
    photo_log_hazard: Floats
    w: Floats
    w_mean: Floats
    w_cov: Floats
    oracle_c: float
    male: Bools
    direction: Floats | None = None
    doses: Mapping[str, Floats] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def sign_score(self) -> Floats:
        """Weighted doses [n], SD 1: the part of the hazard that is painted."""
        return weighted(self.doses, self.weights, len(self.log_hazard))

    def score_cosine(self, beta: Floats) -> float:
        """Correlation of the estimated and the true photo score over fresh samples of w.

        Parameters
        ----------
        beta : array of float, shape (num_ws, w_dim)
            Coefficients on W+; on a sample of the generator all layers share one w, so they add up.

        Raises
        ------
        InputError
            If signs were painted: no latent knows them.

        Notes
        -----
        Taken in closed form: β̂ᵀΣβ* / √(β̂ᵀΣβ̂ · β*ᵀΣβ*).
        """
        from stylegan_surv.attribute import cosine

        root = np.linalg.cholesky(self.w_cov + 1e-9 * np.trace(self.w_cov) * np.eye(len(self.w_cov)))
        return cosine(root.T @ beta.sum(axis=0), root.T @ self._planted())

    def pattern_cosine(self, beta: Floats) -> float:
        """cos(Σβ̂, Σβ*): do the estimated and the true attribute point the same way?"""
        from stylegan_surv.attribute import cosine

        return cosine(self.w_cov @ beta.sum(axis=0), self.w_cov @ self._planted())

    def _planted(self) -> Floats:
        if self.direction is None:
            raise InputError(
                "the truth of these patients is painted signs, got a question about a direction of w; "
                "compare scores with photo_log_hazard, or simulate with truth='latent'"
            )
        return self.direction
