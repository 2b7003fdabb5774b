"""A frozen model on a new cohort: what it is worth there, and how to recalibrate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics import names
from stylegan_surv.survival.metrics.interval import RESAMPLES
from stylegan_surv.survival.metrics.kaplan_meier import breslow
from stylegan_surv.survival.metrics.table import Metrics, oof_metrics
from stylegan_surv.survival.validation.out_of_fold import scores_of, survival_columns

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome


@dataclass(frozen=True)
class Recalibration:
    """The model's risk score with a slope and a baseline of the new cohort.

    Attributes
    ----------
    slope : float
        Coefficient of the frozen score in a Cox model of the new cohort; below 1, the score was too extreme.
    times, baseline : array of float, shape (T,)
        Horizons and the new cumulative baseline hazard there.
    centre : float
        Mean of the score in the new cohort, at which the baseline is given.
    """

    slope: float
    times: Floats
    baseline: Floats
    centre: float

    def survival(self, risk: ArrayLike) -> Floats:
        """Recalibrated S(t) at the horizons, shape (n, T), of frozen risks, shape (n,)."""
        ratio = np.exp(self.slope * (np.asarray(risk, float) - self.centre))
        return np.asarray(np.exp(-ratio[:, None] * self.baseline))


@dataclass(frozen=True)
class External:
    """External validation of a frozen model.

    Attributes
    ----------
    metrics : Metrics
        Of the models of the predictions ("frozen" where they name none), and where it was asked for of
        "frozen recalibrated" and so on.
    recalibrations : dict of Recalibration
        By model; empty where it was not asked for.
    """

    metrics: Metrics
    recalibrations: Mapping[str, Recalibration]


def validate_external(
    predictions: pd.DataFrame,
    outcome: Outcome,
    *,
    recalibrate: bool = False,
    strata: ArrayLike | None = None,
    horizons: Sequence[float] | None = None,
    n_boot: int = RESAMPLES,
    seed: int = 0,
) -> External:
    """Evaluate the predictions of a frozen model on patients whom it has never seen.

    Parameters
    ----------
    predictions : DataFrame
        As ``stylegan-surv predict`` writes it: patient_id, risk, and columns S(t); with a column ``model`` where
        several models stand side by side.
    outcome : Outcome
        The new cohort; every patient needs a prediction.
    recalibrate : bool
        Also fit slope and baseline on the new cohort (van Houwelingen 2000). These are then no longer a
        validation: the ranking is unchanged, calibration is as fitted.
    strata : array-like, shape (n,), optional
    horizons : sequence of float, optional
    n_boot, seed : int
        As in `oof_metrics`; the horizons are by default all S(t) columns.

    Returns
    -------
    External

    Raises
    ------
    InputError
        Patients without prediction, a patient twice, or a recalibration where deaths compete.
    """
    if recalibrate and outcome.competing is not None:
        raise InputError(
            "external validation: slope and baseline of one hazard do not recalibrate a cumulative incidence, "
            "and other deaths compete here. Leave the recalibration out."
        )
    if "model" not in predictions:
        predictions = predictions.assign(model=names.FROZEN)
    frame = predictions.assign(repeat=0, fold=0)
    frame = frame[frame["patient_id"].astype(str).isin(set(outcome.patient_id))]
    times = np.array(list(survival_columns(frame).values()))
    fitted: dict[str, Recalibration] = {}
    frames = []
    for model in dict.fromkeys(frame["model"]):
        own = frame[frame["model"] == model]
        _check_complete(own, outcome)
        frames.append(own)
        if recalibrate:
            fitted[model] = _recalibrate(scores_of(own, outcome).risk[0], outcome, times)
            again = own.assign(model=names.recalibrated(model))
            again[list(survival_columns(own))] = fitted[model].survival(own["risk"])
            frames.append(again)
    horizons = list(times) if horizons is None and len(times) else horizons
    metrics = oof_metrics(
        pd.concat(frames), outcome, strata=strata, horizons=horizons, n_boot=n_boot, seed=seed
    )
    about = replace(
        metrics.settings, intervals="95 % percentile intervals over the patients of the new cohort"
    )
    return External(replace(metrics, settings=about), fitted)


def _check_complete(predictions: pd.DataFrame, outcome: Outcome) -> None:
    missing = set(outcome.patient_id) - set(predictions["patient_id"].astype(str))
    if missing:
        raise InputError(
            f"external validation: {len(missing)} of {len(outcome)} patients have no prediction (for example "
            f"{min(missing)!r}). Embed and predict them first, or leave them out of the outcome."
        )


def _recalibrate(risk: Floats, outcome: Outcome, times: Floats) -> Recalibration:
    fit = fit_cox(risk[:, None], outcome.time, outcome.event, entry=outcome.entry, strata=outcome.strata)
    slope = float(fit.coef[0])
    centre = float(risk.mean())
    baseline = breslow(slope * (risk - centre), outcome.time, outcome.event, times, outcome.entry)
    return Recalibration(slope, times, baseline, centre)
