"""What a new patient's risk is shown beside: survival, calibration and latents of the cohort, without any patient.

Kept with the fitted model, for whoever shows a single prediction: how the cohort survived, whether predicted risks came
true, how unusual a latent is, and where a risk lies among those of patients whom the model had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from scipy.sparse.linalg import eigsh

from stylegan_surv._files import write_arrays, write_json
from stylegan_surv._records import check_format, read_sealed, sealed
from stylegan_surv._types import Array, Floats, Ints
from stylegan_surv.audit.judged import Judged
from stylegan_surv.errors import InputError
from stylegan_surv.study.data import StudyData
from stylegan_surv.study.refits import Refits, refit
from stylegan_surv.survival.metrics.curves import (
    CalibrationCurves,
    Curves,
    SurvivalCurve,
    incidence_curve,
    survival_curve,
)
from stylegan_surv.survival.metrics.names import PHOTO
from stylegan_surv.survival.metrics.summary import FOLLOWED
from stylegan_surv.survival.outcome import Outcome

FORMAT = 1
REFIT = "refit_"  # how the names of the refits' arrays begin
FACTS, ARRAYS = "page.json", "page.safetensors"
COMPONENTS = 50  # of the latents; more cost a page megabytes and hold hardly any variance
FLAT = 1e-6  # of the first component's variance; components below it are rounding
UNUSUAL = (50.0, 90.0, 95.0, 99.0, 99.9)  # percentiles of the distances
RISKS = (
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    75.0,
    90.0,
    95.0,
    99.0,
)  # percentiles of the risks; not the extreme patients
GRID = 101  # points of a curve: regular, so that no patient's time or risk is told


@dataclass(frozen=True)
class Line:
    """Smoothed observed against predicted risk at one horizon, on a regular grid; shape (GRID,)."""

    horizon: float
    predicted: Floats
    observed: Floats


@dataclass(frozen=True)
class Percentiles:
    """Values below which so many per cent lie; two arrays of one shape."""

    percent: Floats
    value: Floats


@dataclass(frozen=True)
class LatentSpace:
    """Leading principal components of patients' latents.

    Attributes
    ----------
    mean : array of float32, shape (p,)
    components : array of float32, shape (k, p)
        Orthonormal rows.
    variances : array of float32, shape (k,)
        Along the components, shrunken to the mean variance (Ledoit & Wolf 2004).
    """

    mean: Floats
    components: Floats
    variances: Floats

    def place(self, x: Floats) -> tuple[Floats, Floats]:
        """How unusual latents are.

        Parameters
        ----------
        x : array of float, shape (n, p)

        Returns
        -------
        distance : array of float, shape (n,)
            Mahalanobis distance within the components.
        left_over : array of float, shape (n,)
            Euclidean length of what the components do not hold.
        """
        centred = np.asarray(x, np.float64) - self.mean
        z = centred @ self.components.T.astype(np.float64)
        rest = np.maximum((centred**2).sum(axis=1) - (z**2).sum(axis=1), 0.0)
        return np.sqrt((z**2 / self.variances).sum(axis=1)), np.sqrt(rest)


@dataclass(frozen=True)
class PageData:
    """What is kept with the model; every curve and percentile is of the cohort, none of a patient.

    Attributes
    ----------
    time_unit : str
    survival : SurvivalCurve
        Kaplan–Meier of all patients, on a regular grid.
    calibration : Line or None
        Of the photograph, out of fold; None where the model predicts no probabilities.
    distance, left_over : Percentiles
        Of patients held out from the components (`LatentSpace.place`), by the study's folds.
    risk : Percentiles
        Of out-of-fold risks, each fold's around the model's mean risk: where a new patient's risk lies.
    latents : LatentSpace
        Of all patients.
    refits : Refits or None
        Of the model, on resampled patients; None where it is not refitted.
    """

    time_unit: str
    survival: SurvivalCurve
    calibration: Line | None
    distance: Percentiles
    left_over: Percentiles
    risk: Percentiles
    latents: LatentSpace
    refits: Refits | None = None

    @classmethod
    def of(cls, model: Any, data: StudyData, judged: Judged, curves: Curves) -> PageData:
        """Of a model fitted on all patients of `data`, cross-validated on those of `judged`."""
        distance, left_over = held_out_places(judged.x, judged.fold)
        survival = survival_on_grid(data.outcome)
        return cls(
            time_unit=data.cohort.time_unit,
            survival=survival,
            calibration=_line(curves.calibration),
            distance=_percentiles(distance, UNUSUAL),
            left_over=_percentiles(left_over, UNUSUAL),
            risk=_percentiles(held_out_risks(judged.photo, np.asarray(model.predict(data.x), float)), RISKS),
            latents=latent_space(data.x),
            refits=refit(model, data.x, data.outcome, survival.time),
        )

    def save(self, folder: str | Path) -> None:
        """Write ``page.json`` and, for latents and refits, ``page.safetensors``."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("latents", "refits")}
        kept = vars(self.latents) | {
            f"{REFIT}{k}": a for k, a in (vars(self.refits) if self.refits else {}).items()
        }
        arrays = {name: np.ascontiguousarray(a, np.float32) for name, a in kept.items()}
        write_arrays(Path(folder) / ARRAYS, arrays, {"format": str(FORMAT)})
        write_json(Path(folder) / FACTS, sealed({"format": FORMAT, **facts}))

    @classmethod
    def open(cls, folder: str | Path) -> PageData:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The files are missing, damaged or of another format.
        """
        folder = Path(folder)
        try:
            facts = read_sealed(folder / FACTS, FORMAT)
            line = facts["calibration"]
            arrays = _read_arrays(folder / ARRAYS)
            again = {k.removeprefix(REFIT): arrays.pop(k) for k in list(arrays) if k.startswith(REFIT)}
            return cls(
                time_unit=facts["time_unit"],
                survival=SurvivalCurve(**_arrays(facts["survival"])),
                calibration=None if line is None else Line(line.pop("horizon"), **_arrays(line)),
                **{k: Percentiles(**_arrays(facts[k])) for k in ("distance", "left_over", "risk")},
                latents=LatentSpace(**arrays),
                refits=Refits(**again) if again else None,
            )
        except (OSError, SafetensorError, KeyError, TypeError, AttributeError) as fault:
            raise InputError(
                f"{folder} holds no usable {FACTS} and {ARRAYS} ({type(fault).__name__}: {fault}); run `fit` again"
            ) from fault


def survival_on_grid(outcome: Outcome) -> SurvivalCurve:
    """Kaplan–Meier with its band at regular times from 0 over nearly the whole follow-up."""
    if outcome.competing is None:
        curve = survival_curve(outcome.time, outcome.event, outcome.entry)
    else:
        curve = incidence_curve(outcome, np.ones(len(outcome), bool))
    grid = np.linspace(0, np.quantile(outcome.time, FOLLOWED), GRID)
    at = np.searchsorted(curve.time, grid, side="right") - 1
    return SurvivalCurve(grid, curve.survival[at], curve.low[at], curve.high[at])


def _read_arrays(path: Path) -> dict[str, Array]:
    with safe_open(path, "np") as file:
        written: dict[str, str] = file.metadata() or {}
        check_format(written.get("format"), FORMAT, path)
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _line(curves: CalibrationCurves | None) -> Line | None:
    if curves is None or PHOTO not in curves.models:
        return None
    curve = curves.models[PHOTO]
    grid = np.linspace(curve.predicted[0], curve.predicted[-1], GRID)
    return Line(curves.horizon, grid, np.interp(grid, curve.predicted, curve.observed))


def _percentiles(values: Floats, percent: tuple[float, ...]) -> Percentiles:
    return Percentiles(np.array(percent), np.quantile(values, np.array(percent) / 100))


def _arrays(record: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value, float) for name, value in record.items()}


def held_out_risks(photo: pd.DataFrame, risk: Floats) -> Floats:
    """Out-of-fold risks, each fold's around the mean of the final model's `risk`.

    Risks of different folds have different zeros; their spread is what patients have whom a model had not seen.
    """
    groups = photo.groupby(["repeat", "fold"])["risk"]
    return np.asarray(photo["risk"] - groups.transform("mean") + risk.mean(), float)


def latent_space(x: Floats) -> LatentSpace:
    """Principal components of latents, shape (n, p), by the Gram matrix of the n patients."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    found = spectrum(centred @ centred.T, x.shape[1])
    components = (found.vectors / np.sqrt(found.variances * len(x))).T @ centred
    return LatentSpace(*(a.astype(np.float32) for a in (mean, components, found.shrunken)))


@dataclass(frozen=True)
class Spectrum:
    """Leading eigenvectors of a Gram matrix, shape (n, k), with the variances along them, raw and shrunken, (k,)."""

    vectors: Floats
    variances: Floats
    shrunken: Floats


def spectrum(gram: Floats, p: int) -> Spectrum:
    """Of n centred points in p dimensions, from their Gram matrix, shape (n, n).

    Notes
    -----
    The covariance S and the Gram matrix share their eigenvalues but for a factor n, so that the shrinkage of Ledoit &
    Wolf (2004, J Multivariate Anal 88:365, section 3.3) follows without S: ‖S‖² = ‖K‖²/n², and ‖xᵢxᵢᵀ‖² = Kᵢᵢ².
    """
    n = len(gram)
    start = np.random.default_rng(0).normal(size=n)  # ARPACK's own would differ from run to run
    values, vectors = eigsh(gram, min(COMPONENTS, n - 1, p), v0=start)
    variances, vectors = values[::-1] / n, vectors[:, ::-1]
    kept = variances > FLAT * variances[0]
    mean = float(np.trace(gram)) / n / p
    size = float((gram**2).sum()) / n**2
    apart = size - p * mean**2
    noise = (float((np.diag(gram) ** 2).sum()) / n - size) / n
    share = min(max(noise, 0.0), apart) / apart if apart > 0 else 1.0
    variances = variances[kept]
    return Spectrum(vectors[:, kept], variances, (1 - share) * variances + share * mean)


def held_out_places(x: Floats, fold: Ints) -> tuple[Floats, Floats]:
    """`LatentSpace.place` of every patient by the components of the other folds; folds below 0 are only learnt from.

    Everything is read off one Gram matrix: the projection of a held-out point is its centred row times eigenvectors.
    """
    x = x - x.mean(axis=0, dtype=np.float64)
    gram = x @ x.T
    distance, left_over = np.full((2, len(x)), np.nan)
    for k in np.unique(fold[fold >= 0]):
        test, train = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        inner, cross = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
        column, middle = inner.mean(axis=0), float(inner.mean())
        found = spectrum(inner - column - column[:, None] + middle, x.shape[1])
        length = gram[test, test] - 2 * cross.mean(axis=1) + middle
        centred = cross - column - cross.mean(axis=1, keepdims=True) + middle
        z = centred @ found.vectors / np.sqrt(found.variances * len(train))
        distance[test] = np.sqrt((z**2 / found.shrunken).sum(axis=1))
        left_over[test] = np.sqrt(np.maximum(length - (z**2).sum(axis=1), 0.0))
    held_out = fold >= 0
    return distance[held_out], left_over[held_out]
