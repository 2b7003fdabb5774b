"""Simulated patients with a known truth: what can be recovered from photographs, and how much of it is.

Faces are drawn from a generator. A planted direction of its latent space w raises the hazard, age goes with another
one, and each face is then *photographed* (background, clothing, light, JPEG, crop jitter), so that only what survives
the camera and the inversion can be found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from stylegan_surv._files import write_csv
from stylegan_surv._images import to_pixels
from stylegan_surv._types import Bools, Floats, Ints, Pixels, Progress
from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.gan import Generator

COMPONENTS = 20  # principal components of w that the planted directions live in
LEAST = 10  # patients of a cohort
POPULATION = 20_000  # latents from which the moments of w are taken
AGE_MEAN, AGE_SD = 62.0, 11.0  # years; a typical radiotherapy cohort
AGE_IN_FACE = 0.6  # correlation of age with the face's age direction
AGE_SLOPE = 0.35  # log-hazard per SD of age
STAGES, STAGE_SHARE = ("I", "II", "III", "IV"), (0.3, 0.3, 0.25, 0.15)
STAGE_LOG_HAZARD = (0.0, 0.2, 0.45, 0.8)
WEIBULL_SHAPE, MEDIAN_YEARS = 1.2, 4.0
DRAW_BATCH = 50


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes
    ----------
    log_hazard : array of float, shape (n,)
        Each patient's log-hazard, centred.
    photo_log_hazard : array of float, shape (n,)
        E[log-hazard | w], SD 1: all that a photograph could tell.
    direction : array of float, shape (w_dim,)
        β* with ``photo_log_hazard = (w − w_mean)·β*``.
    w : array of float, shape (n, w_dim)
        The true latents.
    w_mean : array of float, shape (w_dim,)
        Mean of w in the population.
    w_cov : array of float, shape (w_dim, w_dim)
        Covariance of w in the population.
    oracle_c : float
        Harrell's C of ``photo_log_hazard`` on these patients with this censoring.
    """

    log_hazard: Floats
    photo_log_hazard: Floats
    direction: Floats
    w: Floats
    w_mean: Floats
    w_cov: Floats
    oracle_c: float

    def score_cosine(self, beta: Floats) -> float:
        """Correlation of the estimated and the true photo score over fresh samples of w.

        Parameters
        ----------
        beta : array of float, shape (num_ws, w_dim)
            Coefficients on W+; on a sample of the generator all layers share one w, so they add up.

        Notes
        -----
        Taken in closed form: β̂ᵀΣβ* / √(β̂ᵀΣβ̂ · β*ᵀΣβ*).
        """
        from stylegan_surv.attribute import cosine

        root = np.linalg.cholesky(self.w_cov + 1e-9 * np.trace(self.w_cov) * np.eye(len(self.w_cov)))
        return cosine(root.T @ beta.sum(axis=0), root.T @ self.direction)

    def pattern_cosine(self, beta: Floats) -> float:
        """cos(Σβ̂, Σβ*): do the estimated and the true attribute point the same way?"""
        from stylegan_surv.attribute import cosine

        return cosine(self.w_cov @ beta.sum(axis=0), self.w_cov @ self.direction)


@dataclass(frozen=True)
class Plan:
    """The planted effects in w: unit-variance scores ``(w − mean)·direction`` for hazard and age."""

    mean: Floats
    cov: Floats
    hazard: Floats
    age: Floats


def plan(generator: Generator, seed: int, truncation_psi: float) -> Plan:
    """Draw two orthogonal directions in the whitened leading components of w."""
    rng = np.random.default_rng([seed, 1])
    w = sample_w(generator, POPULATION, int(rng.integers(2**31)), truncation_psi).astype(np.float64)
    mean, cov = w.mean(axis=0), np.cov(w, rowvar=False)
    values, vectors = np.linalg.eigh(cov)
    whiten = vectors[:, ::-1][:, :COMPONENTS] / np.sqrt(values[::-1][:COMPONENTS])
    q, _ = np.linalg.qr(rng.standard_normal((whiten.shape[1], 2)))
    return Plan(mean, cov, hazard=whiten @ q[:, 0], age=whiten @ q[:, 1])


def sample_w(generator: Generator, n: int, seed: int, truncation_psi: float) -> Floats:
    """Latents w [n, w_dim] of ``n`` seeded standard-normal z."""
    z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        w: Floats = generator.mapping(z, truncation_psi=truncation_psi)[:, 0].numpy()
    return w


def simulate_cohort(
    generator: Generator,
    n: int = 1000,
    seed: int = 0,
    *,
    out: str | Path,
    truncation_psi: float = 1.0,
    events: float = 0.6,
    camera: float = 1.0,
    confound: float = 0.0,
    null: bool = False,
    progress: Progress | None = None,
) -> tuple[Cohort, Truth]:
    """Make a cohort of synthetic patients: ``out/clinical.csv`` and camera chips in ``out/chips``.

    The log-hazard is a planted score of the face, plus age, plus stage; what the face tells of it, E[log-hazard | w],
    has SD 1. Times are Weibull, censoring is uniform and independent. The chips are cut as the generator frames them:
    no face detector is run on them.

    Parameters
    ----------
    generator : Generator
        Draws the faces.
    n : int
        Patients, ≥ 10, one photograph each.
    seed : int
        Everything random follows from it.
    out : str or Path
        Folder to write to.
    truncation_psi : float
        Of the samples; nearer 0 the faces are cleaner and more alike.
    events : float
        Expected share of patients whose death is seen, in (0, 1).
    camera : float
        Strength of the photographic nuisance, 0 for none.
    confound : float
        How much the background and light betray the log-hazard, in SD of it; 0 for not at all.
    null : bool
        Draw outcomes independent of everything, for controls.
    progress : callable, optional
        Called with (done, total).

    Returns
    -------
    (Cohort, Truth)

    Raises
    ------
    InputError
        If `n` < 10 or `events` is outside (0, 1).
    """
    from stylegan_surv.cohort import read_cohort
    from stylegan_surv.survival import concordance

    if n < LEAST or not 0 < events < 1:
        raise InputError(
            f"n is {n} and events {events}; expected n ≥ {LEAST} and a share of events between 0 and 1"
        )
    rng = np.random.default_rng([seed, 2])
    planted = plan(generator, seed, truncation_psi)
    w = sample_w(generator, n, int(rng.integers(2**31)), truncation_psi).astype(np.float64)
    drawn = draw_patients(w, planted, rng)
    time, event = outcomes(np.zeros(n) if null else drawn.log_hazard, events, rng)
    table = clinical_table(drawn, time, event, rng)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "clinical.csv", table)
    shift = confound * drawn.log_hazard / drawn.log_hazard.std()
    photograph_all(generator, w, list(table["patient_id"]), folder / "chips", seed, camera, shift, progress)
    cohort = read_cohort(
        folder / "clinical.csv", photos=folder / "chips", time_origin="diagnosis (simulated)"
    )
    oracle = float(concordance(time, event, drawn.photo_part).estimate)
    return cohort, Truth(
        drawn.log_hazard, drawn.photo_part, drawn.direction, w, planted.mean, planted.cov, oracle
    )


@dataclass(frozen=True)
class Patients:
    """What makes the hazard of the patients.

    Attributes
    ----------
    photo_part, log_hazard : array of float, shape (n,)
        What the photograph tells of the log-hazard, with SD 1 in the population; and all of it, centred.
    direction : array of float, shape (w_dim,)
        Of `photo_part` in w.
    age : array of float, shape (n,)
        In SD.
    stage : array of int, shape (n,)
        Index into `STAGES`.
    """

    photo_part: Floats
    log_hazard: Floats
    direction: Floats
    age: Floats
    stage: Ints


def draw_patients(w: Floats, planted: Plan, rng: np.random.Generator) -> Patients:
    """Age, stage and hazard of patients whose faces are those of latents `w`, shape (n, w_dim)."""
    n = len(w)
    face_age = (w - planted.mean) @ planted.age
    # the photo part is s·hazard + slope·ρ·age with unit variance in all
    told_by_age = AGE_SLOPE * AGE_IN_FACE
    direction = np.sqrt(1 - told_by_age**2) * planted.hazard + told_by_age * planted.age
    photo_part = (w - planted.mean) @ direction
    age = AGE_IN_FACE * face_age + np.sqrt(1 - AGE_IN_FACE**2) * rng.standard_normal(n)
    stage = rng.choice(len(STAGES), size=n, p=STAGE_SHARE)
    log_hazard = photo_part + AGE_SLOPE * (age - AGE_IN_FACE * face_age) + np.array(STAGE_LOG_HAZARD)[stage]
    return Patients(photo_part, log_hazard - log_hazard.mean(), direction, age, stage)


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
            "sex": rng.choice(["F", "M"], size=n),
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


def photograph_all(
    generator: Generator,
    w: Floats,
    photo_ids: Sequence[str],
    folder: Path,
    seed: int,
    camera: float,
    confound: Floats,
    progress: Progress | None,
) -> None:
    """Draw every face, photograph it, and write the chips folder."""
    from stylegan_surv.faces import Chips, photograph

    def shots() -> Iterator[Pixels]:
        for start in range(0, len(w), DRAW_BATCH):
            for i, face in enumerate(draw(generator, w[start : start + DRAW_BATCH]), start):
                yield photograph(face, seed=seed, index=i, confound=float(confound[i]), strength=camera)
                if progress:
                    progress(i + 1, len(w))

    Chips.create(folder, shots(), photo_ids, source="simulated")


def draw(generator: Generator, w: Floats) -> Pixels:
    """Faces [n, R, R, 3] of latents w [n, w_dim], the same w in every layer."""
    ws = torch.from_numpy(w).float()[:, None].expand(-1, generator.config.num_ws, -1)
    with torch.no_grad():
        return to_pixels(generator.synthesis(ws))
