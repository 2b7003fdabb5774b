"""The saved models of a study on new patients, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.study.prediction import folder_of, models_in, predict
from stylegan_surv.survival.design import strata_from
from stylegan_surv.survival.engines.persist import ModelCard, read_model_card
from stylegan_surv.survival.metrics.external import External, validate_external
from stylegan_surv.survival.metrics.interval import RESAMPLES
from stylegan_surv.survival.outcome import Outcome

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.inversion import Latents


@dataclass(frozen=True)
class ExternalStudy:
    """What a study's models are worth on new patients.

    Attributes
    ----------
    found : External
        Metrics of the models "clinical", "photo" and "both", as far as the study has them.
    outcome : Outcome
        Of the patients validated on, in the model's time unit.
    time_unit : str
    without_latents : int
        Patients of the table without an embedded photograph.
    trained_on : tuple of str
        Patients of the table whom the model was fitted on; they are left out.
    """

    found: External
    outcome: Outcome
    time_unit: str
    without_latents: int
    trained_on: tuple[str, ...]


def validate(
    model_dir: str | Path,
    latents: Latents,
    cohort: Cohort,
    *,
    strata: str | None = None,
    recalibrate: bool = False,
    other_networks: bool = False,
    n_boot: int = RESAMPLES,
    seed: int = 0,
) -> ExternalStudy:
    """Validate every model of a study on the same new patients.

    Parameters
    ----------
    model_dir : str or Path
        The folder ``model`` of a study.
    latents : Latents
        Of the new patients' photographs.
    cohort : Cohort
        In any time unit; it is converted into the model's.
    strata : str, optional
        Also report C within strata: a column, or ``column:width``.
    recalibrate : bool
        Also fit slope and baseline of every model on the new patients; that is no validation any more.
    other_networks : bool
        Score latents of another generator or encoder than the model's all the same.
    n_boot, seed : int

    Raises
    ------
    InputError
        The folder holds no model, nobody is left to validate on, or the model tells causes of death apart and the table
        does not.
    Refused
        The latents are of other networks, or every patient took part in the model's fit.
    """
    have = models_in(model_dir)
    card = read_model_card(folder_of(model_dir, have[0] if have else "photo"))
    if (card.causes > 1) != ("event_cause" in cohort.patients):
        raise InputError(
            f"the model tells {card.causes} causes of death apart" if card.causes > 1 else
            "the model takes every death as the event, and the table tells causes of death apart",
            python="Read the table accordingly (cause=…).",
            command="Give --cause if the model was fitted with it, and leave it out otherwise.",
        )  # fmt: skip
    cohort = cohort.in_unit(card.time_unit)
    known = trained_on(cohort, card)
    if len(known) == len(cohort.patients):
        raise Refused(
            f"all {len(known)} patients of the table took part in the model's fit; expected patients whom it has not "
            "seen. Give another cohort; for these patients the study's own cross-validation is the answer."
        )
    predictions = pd.concat(
        predict(model_dir, latents, which, cohort, other_networks=other_networks).assign(model=which)
        for which in have
    )
    scored = cohort.patients["patient_id"].isin(predictions["patient_id"])
    table = cohort.patients[scored & ~cohort.patients["patient_id"].isin(known)].reset_index(drop=True)
    outcome = Outcome.from_frame(table)
    found = validate_external(
        predictions[is_in(predictions, outcome)], outcome, recalibrate=recalibrate, n_boot=n_boot, seed=seed,
        strata=strata_from(strata, table) if strata else None,
    )  # fmt: skip
    return ExternalStudy(found, outcome, card.time_unit, int((~scored).sum()), known)


def trained_on(cohort: Cohort, card: ModelCard) -> tuple[str, ...]:
    """Patients of a cohort whom a model was fitted on, by the keyed hashes of its card."""
    from stylegan_surv.gan.formats.provenance import patient_key

    keys = set(card.training.patients)
    return tuple(p for p in cohort.patients["patient_id"] if patient_key(p, card.training.salt) in keys)


def is_in(predictions: pd.DataFrame, outcome: Outcome) -> pd.Series:
    """Which rows of the predictions are of the outcome's patients."""
    return predictions["patient_id"].isin(set(outcome.patient_id))
