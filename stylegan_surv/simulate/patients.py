"""Patients behind the faces: what makes their hazard, what the clinic knows of them, and when they die."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.simulate.population import Plan

AGE_MEAN, AGE_SD = 62.0, 11.0  # years; a typical radiotherapy cohort
AGE_IN_FACE = 0.6  # correlation of age with the face's age direction
AGE_SLOPE = 0.35  # log-hazard per SD of age
STAGES, STAGE_SHARE = ("I", "II", "III", "IV"), (0.3, 0.3, 0.25, 0.15)
STAGE_LOG_HAZARD = (0.0, 0.2, 0.45, 0.8)
WEIBULL_SHAPE, MEDIAN_YEARS = 1.2, 4.0


@dataclass(frozen=True)
class Patients:
    """What makes the hazard of the patients.

    Attributes
    ----------
    photo_part, log_hazard : array of float, shape (n,)
        What the photograph tells of the log-hazard, with SD 1 in the population; and all of it, centred.
    direction : array of float, shape (w_dim,), optional
        Of `photo_part` in w; None if it is painted.
    age : array of float, shape (n,)
        In SD.
    stage : array of int, shape (n,)
        Index into `STAGES`.
    male : array of bool, shape (n,)
        Apparent sex of the face.
    """

    photo_part: Floats
    log_hazard: Floats
    direction: Floats | None
    age: Floats
    stage: Ints
    male: Bools


def draw_doses(weights: Mapping[str, float], n: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Doses of each sign [n], standard normal, independent of each other and of everything else."""
    return {name: rng.standard_normal(n) for name in sorted(weights)}


def unit_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights whose sum of squares is 1, so that their score has SD 1; all 0 stay 0."""
    length = float(np.sqrt(sum(weight**2 for weight in weights.values())))
    return {name: weight / length if length else 0.0 for name, weight in weights.items()}


def weighted(doses: Mapping[str, Floats], weights: Mapping[str, float], n: int) -> Floats:
    """Weighted sum of the doses [n]."""
    return sum((weights[name] * dose for name, dose in doses.items()), np.zeros(n))


def draw_patients(
    w: Floats,
    planted: Plan,
    rng: np.random.Generator,
    *,
    male: Bools,
    signs: Floats | None = None,
    sex_effect: float = 0.0,
) -> Patients:
    """Age, stage and hazard of patients.

    Parameters
    ----------
    w : array of float, shape (n, w_dim)
        Latents of their faces.
    planted : Plan
    rng : numpy Generator
    male : array of bool, shape (n,)
        Apparent sex of the faces.
    signs : array of float, shape (n,), optional
        Score of the painted signs, SD 1; without it the planted direction of w takes its place.
    sex_effect : float
        Log-hazard of male over female.

    Returns
    -------
    Patients
    """
    n = len(w)
    face_age = (w - planted.mean) @ planted.age
    # the photo part is s·hazard + slope·ρ·age with unit variance in all
    told_by_age = AGE_SLOPE * AGE_IN_FACE
    own = np.sqrt(1 - told_by_age**2)
    direction = None
    if signs is None:
        direction = own * planted.hazard + told_by_age * planted.age
        photo_part = (w - planted.mean) @ direction
    else:
        photo_part = own * signs + told_by_age * face_age
    photo_part = photo_part + sex_effect * (male - 0.5)
    age = AGE_IN_FACE * face_age + np.sqrt(1 - AGE_IN_FACE**2) * rng.standard_normal(n)
    stage = rng.choice(len(STAGES), size=n, p=STAGE_SHARE)
    log_hazard = photo_part + AGE_SLOPE * (age - AGE_IN_FACE * face_age) + np.array(STAGE_LOG_HAZARD)[stage]
    return Patients(photo_part, log_hazard - log_hazard.mean(), direction, age, stage, male)


def clinical_table(drawn: Patients, time: Floats, event: Bools, rng: np.random.Generator) -> pd.DataFrame:
    """The patients as a clinic would list them; every photograph is dated at the origin."""
    n = len(time)
    origin = pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 3650, n), unit="D")
    return pd.DataFrame(
        {
            "patient_id": [f"S{i:05d}" for i in range(n)],
            "photo": [f"S{i:05d}.png" for i in range(n)],
            "origin_date": origin.strftime("%Y-%m-%d"),
            "photo_date": origin.strftime("%Y-%m-%d"),
            "time": np.round(time, 4),
            "event": event.astype(int),
            "age": np.round(AGE_MEAN + AGE_SD * drawn.age, 1),
            "sex": np.where(drawn.male, "M", "F"),
            "stage": np.array(STAGES)[drawn.stage],
        }
    )


def outcomes(log_hazard: Floats, events: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Weibull times (years) and uniform censoring whose range gives the wanted share of events."""
    scale = MEDIAN_YEARS / np.log(2) ** (1 / WEIBULL_SHAPE)
    time = scale * (rng.exponential(size=len(log_hazard)) * np.exp(-log_hazard)) ** (1 / WEIBULL_SHAPE)
    u = rng.uniform(size=len(time))
    low, high = 1e-3, 1e4
    for _ in range(60):  # bisection on the end of the censoring interval
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.mean(time <= u * middle) < events else (low, middle)
    censored = u * high
    return np.maximum(np.minimum(time, censored), 1e-3), time <= censored
