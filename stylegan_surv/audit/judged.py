"""The patients whose evaluation counts, with what the cross-validation found for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from stylegan_surv._types import Array, Floats, Ints
from stylegan_surv.audit.circumstances import Circumstances
from stylegan_surv.faces.chips import Chips
from stylegan_surv.survival.metrics.names import PHOTO
from stylegan_surv.survival.outcome import Outcome


@dataclass(frozen=True, eq=False)
class Judged:
    """What an audit looks at; all arrays and rows are in the order of `outcome`.

    Attributes
    ----------
    x : array of float32, shape (n, num_ws * w_dim)
        Latents, one row per patient.
    shape : (int, int)
        num_ws and w_dim.
    outcome : Outcome
    table : DataFrame
        One row per patient, with the covariates.
    oof : DataFrame
        Out-of-fold results of these patients.
    fold : array of int, shape (n,)
        Folds of the first repeat; −1 for patients who are never held out.
    chosen : DataFrame
        Hyperparameters chosen inside the folds, ``OutOfFold.chosen``.
    clinical : tuple of str
        Columns that the clinic knows.
    strata : array of str, shape (n,), or None
        Era, site: permutations stay within, the censoring model may use it.
    quality : array of float, shape (n,), or None
        Inversion error of the patient's photographs (LPIPS).
    photos : DataFrame
        ``photo_id, patient_id`` of the index photographs that were embedded.
    chips : Chips or None
        The aligned photographs.
    recognition : array of float, shape (photos, 128), or None
        Face-recognition embeddings, rows as in `photos`.
    circumstances : Circumstances
        Columns of the table that tell where, by what and when the photographs were taken.
    linear : bool
        Whether the numbers among the clinical variables act along lines.
    skin_tone : array of float, shape (n,), or None
        Typology angle of the patient's skin, degrees; NaN where not measurable.
    """

    x: Floats
    shape: tuple[int, int]
    outcome: Outcome
    table: pd.DataFrame
    oof: pd.DataFrame
    fold: Ints
    chosen: pd.DataFrame
    clinical: tuple[str, ...]
    strata: Array | None
    quality: Floats | None
    photos: pd.DataFrame
    chips: Chips | None
    recognition: Floats | None
    circumstances: Circumstances = field(default_factory=Circumstances)
    linear: bool = False
    skin_tone: Floats | None = None

    @property
    def photo(self) -> pd.DataFrame:
        """Out-of-fold results of the photograph alone, first engine."""
        return self.oof[self.oof["model"] == PHOTO]
