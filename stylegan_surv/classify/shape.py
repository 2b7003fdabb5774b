"""Do the faces differ in shape? Procrustes superimposition, a permutation test of the whole, landmarks one by one.

Everything is computed on differences within matched sets (the case minus the mean of its controls), so that what was
matched on drops out; further covariates enter as regressors of these differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import f as f_distribution

from stylegan_surv._types import Bools, Floats, Ints

FDR = 0.05  # Benjamini & Hochberg (1995)
STEPS, STILL = 50, 1e-9  # of the superimposition
PER_COMPONENT = 8  # sets per shape component that enter Hotelling's test
MOST_COMPONENTS = 20


def superimpose(shapes: Floats) -> tuple[Floats, Floats]:
    """Generalised Procrustes superimposition in the plane (Gower 1975), without reflection.

    Parameters
    ----------
    shapes : array of float, shape (n, k, 2)
        Landmarks in pixels.

    Returns
    -------
    aligned : array of float, shape (n, k, 2)
        Moved, turned and scaled onto the mean, in pixels of the mean's size.
    mean : array of float, shape (k, 2)
        Centred on the origin; its size is the mean centroid size.
    """
    z = np.asarray(shapes, float) @ np.array([1, 1j])
    z = z - z.mean(axis=1, keepdims=True)
    size = np.linalg.norm(z, axis=1, keepdims=True)
    z, mean = z / size, z[0] / size[0]
    first = mean
    for _ in range(STEPS):
        turn = np.conj(z @ np.conj(mean))[:, None]  # the rotation onto the mean, in complex numbers
        z = z * turn / np.abs(turn)
        new = z.mean(axis=0)
        new = new / np.linalg.norm(new)
        moved = float(np.linalg.norm(new - mean))
        mean = new
        if moved < STILL:
            break
    back = np.vdot(mean, first)  # the mean keeps the attitude of the first face
    z, mean = z * back / abs(back), mean * back / abs(back)
    unit = float(size.mean())
    return _plane(z) * unit, _plane(mean) * unit


def _plane(z: Floats) -> Floats:
    return np.stack([z.real, z.imag], axis=-1)


def set_differences(values: Floats, case: Bools, sets: Ints) -> Floats:
    """The case minus the mean of its controls, one row per set, shape (sets, …)."""
    return np.asarray(set_weights(case, sets) @ values.reshape(len(values), -1))


def set_weights(case: Bools, sets: Ints) -> csr_array:
    """The matrix [sets, n] that takes the case minus the mean of the controls in each set."""
    names, of = np.unique(sets, return_inverse=True)
    many = np.stack(
        [np.bincount(of[~case], minlength=len(names)), np.bincount(of[case], minlength=len(names))]
    )
    weight = np.where(case, 1.0, -1.0) / many[case.astype(int), of]
    return csr_array((weight, (of, np.arange(len(sets)))), shape=(len(names), len(sets)))


def permuted_cases(case: Bools, sets: Ints, rng: np.random.Generator) -> Bools:
    """Classes dealt out anew within every set."""
    order = np.lexsort((rng.random(len(sets)), sets))
    stable = np.lexsort((np.arange(len(sets)), sets))
    dealt = np.empty(len(case), bool)
    dealt[order] = case[stable]
    return dealt


@dataclass(frozen=True, eq=False)
class ShapeTest:
    """Differences of shape between the classes.

    Attributes
    ----------
    mean : array of float, shape (k, 2)
        Mean face, pixels.
    shift : array of float, shape (k, 2)
        Cases minus controls, pixels of the mean face.
    p : array of float, shape (k,)
        Of each landmark.
    found : array of bool, shape (k,)
        At a false discovery rate of 5 %.
    statistic : float
        Hotelling's T² of the whole shape, on its leading components.
    whole_p : float
        By permutation within sets.
    sets : int
    """

    mean: Floats
    shift: Floats
    p: Floats
    found: Bools
    statistic: float
    whole_p: float
    sets: int


def compare_shapes(
    shapes: Floats,
    case: Bools,
    sets: Ints,
    covariates: Floats | None = None,
    *,
    permutations: int = 499,
    seed: int = 0,
) -> ShapeTest:
    """Compare the shapes of cases and controls.

    Parameters
    ----------
    shapes : array of float, shape (n, k, 2)
        Landmarks in pixels.
    case : array of bool, shape (n,)
    sets : array of int, shape (n,)
        Each with a case and a control.
    covariates : array of float, shape (n, c), optional
        Age, BMI, …: what differs within sets is taken out by regression.
    permutations, seed : int

    Returns
    -------
    ShapeTest
    """
    aligned, mean = superimpose(shapes)
    flat = aligned.reshape(len(aligned), -1)
    rng = np.random.default_rng([seed, 41])
    shift, rest, free = _adjusted(flat, covariates, case, sets)
    basis = _components(flat, len(rest))
    observed = _hotelling(*_adjusted(flat @ basis, covariates, case, sets)[:2])
    null = [
        _hotelling(*_adjusted(flat @ basis, covariates, permuted_cases(case, sets, rng), sets)[:2])
        for _ in range(permutations)
    ]
    p = _by_landmark(shift.reshape(-1, 2), rest.reshape(len(rest), -1, 2), free)
    whole_p = float((1 + np.sum(np.array(null) >= observed)) / (1 + permutations))
    return ShapeTest(mean, shift.reshape(-1, 2), p, rejected(p), observed, whole_p, len(rest))


def _adjusted(
    values: Floats, covariates: Floats | None, case: Bools, sets: Ints
) -> tuple[Floats, Floats, int]:
    """Mean difference at equal covariates, residuals of the sets scaled to its standard error, their freedom."""
    d = set_differences(values, case, sets)
    x = np.ones((len(d), 1))
    if covariates is not None:
        extra = set_differences(covariates, case, sets)
        x = np.column_stack([x, extra[:, extra.std(axis=0) > 1e-9]])
    inverse = np.linalg.pinv(x.T @ x)
    coef = inverse @ x.T @ d
    free = len(d) - x.shape[1]
    residual = (d - x @ coef) * np.sqrt(inverse[0, 0] / max(free, 1))
    return coef[0], residual, free


def _components(flat: Floats, sets: int) -> Floats:
    """Leading axes of the pooled shapes, as many as the sets can bear."""
    count = int(np.clip(sets // PER_COMPONENT, 1, MOST_COMPONENTS))
    return np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:count].T


def _hotelling(shift: Floats, residual: Floats) -> float:
    """T² of a mean difference whose sampling covariance is residualᵀ·residual."""
    return float(shift @ np.linalg.pinv(residual.T @ residual) @ shift)


def _by_landmark(shift: Floats, residual: Floats, free: int) -> Floats:
    """p of Hotelling's test in the plane, for every landmark."""
    cov = np.einsum("ski,skj->kij", residual, residual)
    t2 = np.einsum("ki,kij,kj->k", shift, np.linalg.pinv(cov), shift)
    if free < 2:
        return np.ones(len(shift))
    return np.asarray(f_distribution.sf(t2 * (free - 1) / (2 * free), 2, free - 1))


def rejected(p: Floats, rate: float = FDR) -> Bools:
    """Benjamini & Hochberg's step-up procedure.

    >>> rejected(np.array([0.001, 0.02, 0.9, 0.04])).tolist()
    [True, True, False, False]
    """
    order = np.argsort(p)
    limit = rate * np.arange(1, len(p) + 1) / len(p)
    passed = np.flatnonzero(p[order] <= limit)
    found = np.zeros(len(p), bool)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found
