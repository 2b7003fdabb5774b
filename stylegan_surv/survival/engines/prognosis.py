"""A model as it travels: latents and clinical table in, risk and probabilities out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.base import RiskModel
from stylegan_surv.survival.engines.competing import LEAST_DEATHS, cumulative_incidence_from_hazards
from stylegan_surv.survival.engines.curved import CLINICAL_ALPHA, CurvedDesign
from stylegan_surv.survival.engines.fusion import beside_clinical, columns_of
from stylegan_surv.survival.outcome import Outcome

Which = Literal["clinical", "photo", "both"]
WHICH: tuple[Which, ...] = ("clinical", "photo", "both")


class Prognosis(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted model with its clinical columns' coding and, where deaths compete, the models of the other causes.

    Parameters
    ----------
    which : {"clinical", "photo", "both"}
        What it is told of a patient.
    model : estimator, optional
        Of the latents, unfitted; cloned for every cause. None for "clinical".
    linear : bool
        Let every number act along a line.

    Attributes
    ----------
    design_ : CurvedDesign or None
    models_ : list of estimator
        One for each cause of death, that of the event first.
    n_features_in_ : int
        Latent columns; 0 for "clinical".
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry

    def __init__(self, which: Which = "both", model: Any = None, linear: bool = False) -> None:
        self.which = which
        self.model = model
        self.linear = linear

    def fit(
        self,
        latents: Array,
        outcome: Outcome,
        clinical: pd.DataFrame | None = None,
        fitted: Any = None,
    ) -> Prognosis:
        """Fit a model for every cause of death.

        Parameters
        ----------
        latents : array of float32, shape (n, p)
        outcome : Outcome
        clinical : DataFrame, shape (n, columns), optional
            Covariates; not needed for "photo".
        fitted : estimator, optional
            The model of the event, where it has been fitted before.
        """
        self.n_features_in_ = 0 if self.which == "clinical" else latents.shape[1]
        self.design_ = None
        if self.which != "photo":
            self.design_ = CurvedDesign(linear=self.linear).fit(self._told(clinical), outcome)
        self.blind_ = [
            cause > 1 and int(outcome.of_cause(cause).event.sum()) < LEAST_DEATHS for cause in outcome.causes
        ]  # causes too rare for a model
        self.models_ = [] if fitted is None else [fitted]
        for cause in outcome.causes[len(self.models_) :]:
            died = outcome.of_cause(cause)
            if died.event.any():
                model = self._unfitted(cause, latents.shape[1])
                columns = self._columns(cause, model, latents, clinical)
                self.models_.append(model.fit(columns, died.y, **died.fit_params))
        return self

    def _unfitted(self, cause: int, p: int) -> Any:
        if self.blind_[cause - 1] or self.which == "clinical":
            return CoxRidge(alphas=(CLINICAL_ALPHA,))
        if self.design_ is None:
            return clone(self.model)
        return beside_clinical(clone(self.model), p, len(self.design_.feature_names_out_))

    def _columns(self, cause: int, model: Any, latents: Array, clinical: pd.DataFrame | None) -> Any:
        n = len(latents)
        if self.blind_[cause - 1]:
            return np.zeros((n, 0))
        if self.design_ is None:
            return latents
        covariates = self.design_.transform(self._told(clinical))
        return covariates if self.which == "clinical" else columns_of(model, latents, covariates)

    def _told(self, clinical: pd.DataFrame | None) -> pd.DataFrame:
        if clinical is None:
            raise InputError(f"the model '{self.which}' needs clinical columns; got none.")
        return clinical

    def _all_columns(self, latents: Array, clinical: pd.DataFrame | None) -> list[Any]:
        check_is_fitted(self, "models_")
        return [self._columns(k + 1, model, latents, clinical) for k, model in enumerate(self.models_)]

    def predict(self, latents: Array, clinical: pd.DataFrame | None = None) -> Array:
        """Log hazard ratio of the event, shape (n,); where deaths compete, of the event's own hazard."""
        check_is_fitted(self, "models_")
        return np.asarray(
            self.models_[0].predict(self._columns(1, self.models_[0], latents, clinical)), float
        )

    def predict_survival_function(
        self, latents: Array, times: Any, clinical: pd.DataFrame | None = None
    ) -> Array:
        """P(no event by t), shape (n, len(times)): S(t), or 1 − F₁(t) where deaths compete."""
        columns = self._all_columns(latents, clinical)
        if len(self.models_) == 1:
            return np.asarray(self.models_[0].predict_survival_function(columns[0], times))
        if not all(isinstance(model, RiskModel) for model in self.models_):
            raise InputError(f"{type(self.models_[0]).__name__} cannot tell causes of death apart.")
        grid = np.unique(np.concatenate([model.baseline_time_ for model in self.models_]))
        hazards = [model.cumulative_hazard(model.predict(X), grid) for model, X in zip(self.models_, columns)]
        at = np.searchsorted(grid, np.asarray(times, float), side="right") - 1
        return 1.0 - cumulative_incidence_from_hazards(hazards, at)
