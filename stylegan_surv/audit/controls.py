"""Checks that the result is what it seems: permuted outcomes, what the latents betray, how stable a risk is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from stylegan_surv._types import Array, Floats, Ints, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.resamples import multiplicities

_PENALTIES = np.geomspace(1e-3, 1e3, 13)  # of the kernel's mean eigenvalue
_LEAST_LEVEL = 10  # patients that a level needs to be predicted


@dataclass(frozen=True)
class Permutations:
    """A statistic under permutation, beside its observed value.

    Attributes
    ----------
    observed : float
    values : array of float, shape (n,)
        The statistic on each permuted data set.
    """

    observed: float
    values: Floats

    @property
    def mean(self) -> float:
        """Mean over the permutations."""
        return float(self.values.mean())

    @property
    def p(self) -> float:
        """One-sided, (1 + number of values ≥ observed) / (1 + n) (Phipson & Smyth 2010)."""
        return float((1 + np.sum(self.values >= self.observed)) / (1 + len(self.values)))

    def record(self) -> dict[str, Any]:
        """As ``metrics.json`` holds it."""
        return {
            "observed": self.observed,
            "mean": self.mean,
            "sd": float(self.values.std()),
            "p": self.p,
            "n": len(self.values),
            "values": self.values,
        }


def permuted_outcomes(
    statistic: Callable[[Ints], float],
    n: int,
    *,
    observed: float | None = None,
    strata: Array | None = None,
    n_permutations: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Permutations:
    """Rerun an analysis with outcomes that have nothing to do with the photographs.

    Outcome and clinical columns of a patient stay together and move to another patient's photograph, within
    strata (era, site). A sound pipeline then gives C ≈ 0.5 for the photograph.

    Parameters
    ----------
    statistic : callable
        ``statistic(permutation)`` reruns the whole cross-validation with photograph i given to the patient in
        row ``permutation[i]`` and returns the number of interest, e.g. the pooled C.
    n : int
        Number of patients.
    observed : float, optional
        The statistic of the data as they are; by default computed with the identity.
    strata : array, shape (n,), optional
        Patients are exchanged within a stratum only.
    n_permutations, seed : int
    progress : callable, optional
        Called with (done, total).

    Returns
    -------
    Permutations
    """
    rng = np.random.default_rng(seed)
    if observed is None:
        observed = statistic(np.arange(n))
    values = np.empty(n_permutations)
    for k in range(n_permutations):
        values[k] = statistic(permutation_within(strata, n, rng))
        if progress:
            progress(k + 1, n_permutations)
    return Permutations(float(observed), values)


def permutation_within(strata: Array | None, n: int, rng: np.random.Generator) -> Ints:
    """A random permutation of range(n) that keeps every element in its stratum."""
    if strata is None:
        return rng.permutation(n)
    level = np.unique(strata, return_inverse=True)[1]
    out = np.empty(n, np.intp)
    out[np.argsort(level, kind="stable")] = np.lexsort((rng.random(n), level))
    return out


# what the latents betray --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted:
    """How well a column (site, era, camera) can be read from the latents.

    Attributes
    ----------
    measure : str
        "auc" (one against the rest, mean over levels by their size; chance .5) or "r2" (chance 0).
    estimate, low, high : float
        With the 95 % percentile interval over patients.
    levels : int
        Number of levels, 0 for a number.
    """

    measure: str
    estimate: float
    low: float
    high: float
    levels: int


def predict_column(
    x: Floats, column: pd.Series, fold: Ints, *, n_boot: int = 200, seed: int = 0
) -> Predicted | None:
    """Cross-validated ridge regression of a patient column on the latents.

    Parameters
    ----------
    x : array of float, shape (n, p)
        Latents of the patients.
    column : Series of length n
        Text (levels with fewer than 10 patients are left out) or numbers.
    fold : array of int, shape (n,)
        Fold of each patient.

    Returns
    -------
    Predicted or None
        None where there is nothing to predict (one level).
    """
    values = column.reset_index(drop=True)
    numeric = pd.api.types.is_numeric_dtype(values) and values.nunique() > 10
    counts = values.value_counts()
    known = values.notna() & (True if numeric else values.isin(counts.index[counts >= _LEAST_LEVEL]))
    k = known.to_numpy(bool)
    values, fold = values[k], np.asarray(fold)[k]
    if values.nunique() < 2 or len(np.unique(fold)) < 2:
        return None
    target = (
        values.to_numpy(float)[:, None] if numeric else pd.get_dummies(values.astype(str)).to_numpy(float)
    )
    predicted = _out_of_fold_ridge(np.asarray(x)[k], target, fold)
    m = multiplicities(len(values), n_boot, seed)
    samples = _r_squared(target, predicted, m) if numeric else _one_against_rest(target, predicted, fold, m)
    low, high = np.nanquantile(samples[1:], [0.025, 0.975])
    measure = "r2" if numeric else "auc"
    return Predicted(measure, float(samples[0]), float(low), float(high), 0 if numeric else target.shape[1])


def _out_of_fold_ridge(x: Floats, target: Floats, fold: Ints) -> Floats:
    """Predictions [n, k] of kernel ridge regression, its penalty chosen by generalised cross-validation."""
    x = x.astype(np.float64) - x.mean(axis=0)
    gram = x @ x.T
    out = np.empty(target.shape)
    for f in np.unique(fold):
        test, train = np.flatnonzero(fold == f), np.flatnonzero(fold != f)
        inner, cross = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
        column = inner.mean(axis=0)
        centred = inner - column - column[:, None] + column.mean()
        mean = target[train].mean(axis=0)
        values, vectors = np.linalg.eigh(centred)
        values = np.maximum(values, 0.0)
        y = vectors.T @ (target[train] - mean)
        best = min(_PENALTIES * values.mean(), key=lambda a: _gcv(values, y, a))
        dual = vectors @ (y / (values + best)[:, None])
        cross = cross - column - cross.mean(axis=1, keepdims=True) + column.mean()
        out[test] = mean + cross @ dual
    return out


def _gcv(values: Floats, y: Floats, penalty: float) -> float:
    """Generalised cross-validation (Golub, Heath & Wahba 1979) in the eigenbasis of the kernel."""
    kept = penalty / (values + penalty)
    return float(np.sum((kept[:, None] * y) ** 2) / np.sum(kept) ** 2)


def _r_squared(target: Floats, predicted: Floats, m: Floats) -> Floats:
    y = target[:, 0]
    error = (y - predicted[:, 0]) ** 2
    centred = (y**2) @ m - (y @ m) ** 2 / m.sum(axis=0)
    return np.asarray(1 - (error @ m) / centred)


def _one_against_rest(target: Floats, predicted: Floats, fold: Ints, m: Floats) -> Floats:
    """AUC of each level within folds, mean by the level's size, [B]."""
    total, size = np.zeros((2, m.shape[1]))
    for level, score in zip(target.T, predicted.T):
        right = pairs = np.zeros(m.shape[1])
        for f in np.unique(fold):
            a, b = np.flatnonzero((level == 1) & (fold == f)), np.flatnonzero((level == 0) & (fold == f))
            above = (score[b] < score[a][:, None]) + 0.5 * (score[b] == score[a][:, None])
            right = right + np.einsum("ib,ib->b", m[a], above @ m[b])
            pairs = pairs + m[a].sum(axis=0) * m[b].sum(axis=0)
        share = np.where(pairs > 0, level.mean(), 0.0)  # a level may be alone in its folds
        total += share * right / np.maximum(pairs, 1e-300)
        size += share
    return np.asarray(np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0))


# how stable a patient's risk is -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """Intraclass correlation with its 95 % interval, and how many it rests on."""

    icc: float
    low: float
    high: float
    subjects: int
    ratings: int


def repeat_photo_icc(values: Floats, patient: Array) -> Agreement | None:
    """ICC(1) of a score over repeated photographs of the same patients.

    Parameters
    ----------
    values : array of float, shape (photos,)
        Risk of each photograph.
    patient : array, shape (photos,)
        Whose photograph it is; patients with one photograph count for nothing and are left out.

    Returns
    -------
    Agreement or None
        None with fewer than three patients who have several photographs.

    Notes
    -----
    One-way random effects (Shrout & Fleiss 1979), interval from the F distribution with the mean number of
    photographs k₀ for unequal numbers (Donner 1979).
    """
    table = pd.DataFrame({"v": np.asarray(values, float), "who": np.asarray(patient)}).dropna()
    table = table[table.groupby("who")["v"].transform("size") > 1]
    groups = table.groupby("who")["v"]
    sizes = groups.size().to_numpy()
    g, n = len(sizes), int(sizes.sum())
    if g < 3:
        return None
    within = float(((table["v"] - groups.transform("mean")) ** 2).sum() / (n - g))
    between = float((sizes * (groups.mean() - table["v"].mean()) ** 2).sum() / (g - 1))
    k0 = (n - np.sum(sizes**2) / n) / (g - 1)
    ratio = between / within if within > 0 else np.inf
    bounds = (f_distribution.ppf(q, g - 1, n - g) for q in (0.975, 0.025))
    icc, low, high = (_icc(r, k0) for r in (ratio, *(ratio / b for b in bounds)))
    return Agreement(icc, low, high, g, n)


def _icc(ratio: float, k0: float) -> float:
    return 1.0 if np.isinf(ratio) else float((ratio - 1) / (ratio + k0 - 1))


@dataclass(frozen=True)
class RiskAgreement:
    """Two risks of the same patients.

    Attributes
    ----------
    correlation : float
    icc : float
        Absolute agreement, ICC(A, 1) of McGraw & Wong (1996).
    shift : float
        Mean difference, in standard deviations of the first risk.
    """

    correlation: float
    icc: float
    shift: float


def reconstruction_agreement(photo: Floats, reconstruction: Floats) -> RiskAgreement:
    """Does the risk survive a second pass? Risk of the photograph against risk of its re-embedded reconstruction.

    Parameters
    ----------
    photo, reconstruction : array of float, shape (n,)
        Risks of the same patients from the two, n ≥ 3.
    """
    a, b = np.asarray(photo, float), np.asarray(reconstruction, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise InputError(f"risks: got shapes {a.shape} and {b.shape}, expected two of at least 3 patients")
    n, both = len(a), np.stack([a, b])
    rows = 2 * np.var(both.mean(axis=0), ddof=1)
    columns = n * np.var(both.mean(axis=1), ddof=1)
    residual = both - both.mean(axis=0) - both.mean(axis=1, keepdims=True) + both.mean()
    error = np.sum(residual**2) / (n - 1)
    icc = (rows - error) / (rows + error + 2 * (columns - error) / n)
    return RiskAgreement(float(np.corrcoef(a, b)[0, 1]), float(icc), float((b - a).mean() / a.std(ddof=1)))
