"""Late fusion: a Cox model of two scores, the photograph's and the clinic's."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.base import SurvivalModel, check_survival
from stylegan_surv.survival.validation.folds import as_folds

FOLDS = 5  # of the inner cross-validation: as many fits of the photograph's model beside the final one


class LateFusion(SurvivalModel):
    """Cox model of a photograph's risk and the clinical columns.

    The photograph's risks on the training rows come from an inner cross-validation (stacking; Wolpert 1992,
    Neural Networks 5:241): its own risks on rows it was fitted on would look far too good and get all the
    weight.

    Parameters
    ----------
    photo : estimator
        Any survival estimator; cloned.
    clinical_alpha : float
        Light ridge on the coefficients of the fusion.
    cv : int
        Inner folds.
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry
    refuses = ("entry", "strata", "sample_weight")

    def __init__(self, photo: Any, clinical_alpha: float = 0.1, cv: int = FOLDS) -> None:
        self.photo = photo
        self.clinical_alpha = clinical_alpha
        self.cv = cv

    def fit(self, X: tuple[Array, Array], y: Array, *, groups: Array | None = None) -> LateFusion:
        """Fit on the pair (latents (n, p), clinical columns (n, q)) and scikit-survival's y (n,)."""
        latents, clinical = X
        outcome = check_survival(y, len(latents))
        scores = np.zeros(len(latents))
        for train, test in as_folds(self.cv, outcome.event, groups=groups):
            inner = clone(self.photo).fit(latents[train], y[train])
            own = inner.predict(latents[train])  # two fits' risks compare in units of their spread only
            scores[test] = (inner.predict(latents[test]) - own.mean()) / (own.std() or 1.0)
        self.photo_ = clone(self.photo).fit(latents, y)
        own = self.photo_.predict(latents)
        self.location_, self.scale_ = float(own.mean()), float(own.std() or 1.0)
        self.cox_ = CoxRidge(alphas=(self.clinical_alpha,)).fit(np.column_stack([scores, clinical]), y)
        return self

    def _scores(self, X: tuple[Array, Array]) -> Array:
        check_is_fitted(self, "cox_")
        latents, clinical = X
        return np.column_stack([(self.photo_.predict(latents) - self.location_) / self.scale_, clinical])

    def predict(self, X: tuple[Array, Array]) -> Array:
        """Log hazard ratio, shape (n,)."""
        return self.cox_.predict(self._scores(X))

    def predict_survival_function(self, X: tuple[Array, Array], times: Any) -> Array:
        """S(t | x), shape (n, len(times))."""
        return self.cox_.predict_survival_function(self._scores(X), times)


def frees_columns(model: Any) -> bool:
    """Whether covariates can stand beside the latents without a penalty; they are fused late otherwise."""
    return "unpenalized" in model.get_params()


def beside_clinical(model: Any, p: int, q: int) -> Any:
    """An estimator of p latents, ready for q clinical columns beside them: unpenalised, or fused late."""
    if not frees_columns(model):
        return LateFusion(model)
    return model.set_params(unpenalized=np.arange(p, p + q))


def columns_of(model: Any, latents: Array, clinical: Array) -> Any:
    """Latents (n, p) and clinical columns (n, q) as a model made by `beside_clinical` takes them."""
    if isinstance(model, LateFusion):
        return latents, clinical
    return np.hstack([latents, clinical.astype(latents.dtype)])
