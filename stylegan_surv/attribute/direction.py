"""The health attribute: a direction in W+ along which a face goes with a lower or a higher risk.

The pattern is the default, the coefficient and the *adjusted* pattern (the part that given covariates do not explain)
are kept beside it; see `attribute.pattern`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import clone
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.attribute.edit import STEPS, edit
from stylegan_surv.attribute.pattern import (
    NOTE,
    Kind,
    adjusted_pattern,
    coefficient_step,
    cosine,
    linear_coefficients,
    pattern,
)
from stylegan_surv.attribute.slider import FRAMES, Slider, slider
from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion import Latents, Origin
from stylegan_surv.survival.design import layer_groups, patient_matrix
from stylegan_surv.survival.outcome import Outcome

SHOWN_GIVEN = ("age", "sex", "site", "era", "year", "entry_year")
LEAST_PER_LEVEL = 10  # patients


@dataclass(frozen=True)
class HealthAttribute:
    """Directions in W+ towards higher risk, each scaled so that one step is +1 SD of the cohort's risk score.

    Attributes
    ----------
    pattern : array of float, shape (num_ws, w_dim)
        Cov(X, risk) / SD(risk): the expected change of the latent when the risk score rises by one SD.
    coefficient : array of float, shape (num_ws, w_dim), optional
        β·SD(risk) / ‖β‖²: the shortest change of the latent that raises the score by one SD; linear models only.
    adjusted : array of float, shape (num_ws, w_dim), optional
        The pattern given the covariates named in ``adjusted_for``.
    mean : array of float, shape (num_ws, w_dim)
        The cohort's mean latent.
    risk_sd : float
        SD of the risk score in the cohort (log-hazard units for Cox models).
    adjusted_for : tuple of str
    split_half : dict of str to float
        Cosine between the directions learnt on two random halves of the patients, by kind.
    note : str
        What the attribute is not; shown wherever it is drawn.
    origin : Origin, optional
        Where the latents come from that the model was fitted to.
    latents : Path, optional
        Their dataset.
    """

    pattern: Floats
    coefficient: Floats | None
    adjusted: Floats | None
    mean: Floats
    risk_sd: float
    adjusted_for: tuple[str, ...] = ()
    split_half: dict[str, float] = field(default_factory=dict)
    note: str = NOTE
    origin: Origin | None = None
    latents: Path | None = None

    @property
    def shown(self) -> Kind:
        """The kind that is drawn unless another is asked for: ``adjusted`` where it is known, else ``pattern``."""
        return "pattern" if self.adjusted is None else "adjusted"

    def direction(self, kind: Kind = "pattern") -> Floats:
        """The direction of that kind, [num_ws, w_dim].

        Raises
        ------
        InputError
            If the model has no such direction.
        """
        found: Floats | None = getattr(self, kind)
        if found is None:
            hint = (
                "name covariates in adjust_for"
                if kind == "adjusted"
                else "the model is not linear; use 'pattern'"
            )
            raise InputError(f"this attribute has no {kind!r} direction: {hint}")
        return found

    def within(self, layers: str) -> HealthAttribute:
        """The same attribute in one group of layers of W+, zero in the others; a step is then no longer one SD of risk.

        Parameters
        ----------
        layers : {"coarse", "middle", "fine"}
            As :func:`stylegan_surv.survival.design.layer_groups` divides them.

        Raises
        ------
        InputError
            If the generator has no such group.
        """
        groups = layer_groups(*self.pattern.shape)
        if layers not in groups:
            raise InputError(f"layers is {layers!r}; this generator has {', '.join(groups)}")
        flat = np.zeros(self.pattern.size)
        flat[groups[layers]] = 1.0
        kept = flat.reshape(self.pattern.shape)
        return replace(
            self,
            pattern=self.pattern * kept,
            coefficient=None if self.coefficient is None else self.coefficient * kept,
            adjusted=None if self.adjusted is None else self.adjusted * kept,
        )

    def edit(
        self,
        photo: str | Path | Image.Image | Tensor,
        steps: Sequence[float] = STEPS,
        *,
        kind: Kind = "pattern",
        aligned: bool = False,
        latents: str | Path | None = None,
        generator: Generator | str | Path | None = None,
        encoder: Encoder | str | Path | None = None,
    ) -> list[Image.Image]:
        """Images of a photograph moved along the attribute; see :func:`stylegan_surv.attribute.edit.edit`."""
        return edit(
            self,
            photo,
            steps,
            kind=kind,
            aligned=aligned,
            latents=latents,
            generator=generator,
            encoder=encoder,
        )

    def show(
        self,
        photo: str | Path | Image.Image | Tensor,
        *,
        kind: Kind | None = None,
        aligned: bool = False,
        latents: str | Path | None = None,
        generator: Generator | str | Path | None = None,
        encoder: Encoder | str | Path | None = None,
    ) -> Slider:
        """A photograph along the attribute behind a slider, for Jupyter; as :meth:`edit`, by default as it is shown."""
        pictures = self.edit(
            photo,
            FRAMES,
            kind=kind or self.shown,
            aligned=aligned,
            latents=latents,
            generator=generator,
            encoder=encoder,
        )
        return slider(pictures, note=self.note)


def design(frame: pd.DataFrame) -> Floats:
    """Covariates as columns of numbers: levels become indicators, missing values the column's mean."""
    numbers = pd.get_dummies(frame, drop_first=True, dtype=float).astype(float)
    return np.asarray(numbers.fillna(numbers.mean()))


def shown_given(table: pd.DataFrame) -> pd.DataFrame | None:
    """The columns of a table that a drawn attribute is adjusted for; None without any.

    A picture of risk should not show a change of sex, age, place or time. Stage, entity and skin tone are left in:
    stage is illness. A column with fewer than ten patients a level is an identifier and would explain everything.

    Parameters
    ----------
    table : DataFrame, shape (n, columns)

    Returns
    -------
    DataFrame or None
    """
    names = []
    for name in SHOWN_GIVEN:
        if name in table and table[name].nunique() > 1:
            number = pd.api.types.is_numeric_dtype(table[name])
            if number or table[name].nunique() * LEAST_PER_LEVEL <= len(table):
                names.append(name)
    return table[names] if names else None


def health_attribute(
    model: Any, latents: Latents, cohort: Cohort, adjust_for: Sequence[str] = (), *, seed: int = 0
) -> HealthAttribute:
    """Derive the health attribute from a fitted survival model.

    Parameters
    ----------
    model : estimator
        With ``predict(X)``, X of shape (n, num_ws·w_dim); a linear one also has ``coef_``.
    latents : Latents
    cohort : Cohort
        What the model was fitted on.
    adjust_for : sequence of str
        Covariates of the cohort whose linear part is taken out of the ``adjusted`` pattern.
    seed : int
        Chooses the halves of the stability figure.

    Returns
    -------
    HealthAttribute

    Raises
    ------
    InputError
        If a covariate is unknown or no patient has a latent.
    """
    ids, x = patient_matrix(latents, cohort)
    if unknown := [name for name in adjust_for if name not in cohort.covariates]:
        raise InputError(
            f"adjust_for names {unknown[0]!r}; the cohort has {', '.join(cohort.covariates) or 'no covariates'}"
        )
    table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
    covariates = table[list(adjust_for)] if adjust_for else None
    num_ws, w_dim = latents.codes.shape[1:]
    return attribute_of(model, x, Outcome.from_frame(table), (num_ws, w_dim), covariates, latents, seed=seed)


def attribute_of(
    model: Any,
    x: Floats,
    outcome: Outcome,
    shape: tuple[int, int],
    covariates: pd.DataFrame | None = None,
    latents: Latents | None = None,
    *,
    seed: int = 0,
) -> HealthAttribute:
    """The health attribute of a model of these patients.

    Parameters
    ----------
    model : estimator
        As in :func:`health_attribute`.
    x : array of float, shape (n, num_ws·w_dim)
        Latents of the patients.
    outcome : Outcome
        Their follow-up, in the same order.
    shape : (int, int)
        num_ws and w_dim.
    covariates : DataFrame, optional
        Columns, in the same order, whose linear part is taken out of the ``adjusted`` pattern.
    latents : Latents, optional
        What `x` was made of: the attribute then knows where an edit has to begin.
    seed : int
        Chooses the halves of the stability figure.
    """
    x = np.asarray(x, dtype=np.float64)
    risk = np.asarray(model.predict(x), dtype=np.float64)
    beta = linear_coefficients(model, x.shape[1])
    halves = np.array_split(np.random.default_rng(seed).permutation(len(x)), 2)
    fits = [clone(model).fit(x[half], outcome.subset(half).y) for half in halves]
    split = {"pattern": cosine(*(pattern(x[h], np.asarray(f.predict(x[h]))) for h, f in zip(halves, fits)))}
    if beta is not None:
        split["coefficient"] = cosine(*(np.asarray(linear_coefficients(f, x.shape[1])) for f in fits))
    adjusted = None if covariates is None else adjusted_pattern(x, risk, design(covariates)).reshape(shape)
    folder = None if latents is None else latents.folder
    return HealthAttribute(
        pattern=pattern(x, risk).reshape(shape),
        coefficient=None if beta is None else coefficient_step(beta, float(risk.std())).reshape(shape),
        adjusted=adjusted,
        mean=x.mean(axis=0).reshape(shape),
        risk_sd=float(risk.std()),
        adjusted_for=() if covariates is None else tuple(map(str, covariates.columns)),
        split_half=split,
        origin=None if latents is None else latents.origin,
        latents=None if folder is None else folder.resolve(),
    )
