"""Checks that the result is what it seems: permuted outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Permutations:
    """A statistic under permutation, beside its observed value.

    Attributes
    ----------
    observed : float
    values : array [n]
        The statistic on each permuted data set.
    mean : float
    p : float
        One-sided, (1 + number of values ≥ observed) / (1 + n).
    """

    observed: float
    values: NDArray[np.floating]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def p(self) -> float:
        return float((1 + np.sum(self.values >= self.observed)) / (1 + len(self.values)))

    def to_dict(self) -> dict[str, object]:
        """As ``metrics.json`` holds it."""
        return {
            "observed": self.observed,
            "mean": self.mean,
            "p": self.p,
            "n": len(self.values),
            "values": self.values.tolist(),
        }


def permuted_outcomes(
    statistic: Callable[[NDArray[np.intp]], float],
    n: int,
    *,
    observed: float | None = None,
    strata: NDArray | None = None,
    n_permutations: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
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
    strata : array [n], optional
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


def permutation_within(strata: NDArray | None, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A random permutation of range(n) that keeps every element in its stratum."""
    if strata is None:
        return rng.permutation(n)
    strata = np.asarray(strata)
    at = np.argsort(strata, kind="stable")
    shuffled = np.lexsort((rng.random(n), strata))
    out = np.empty(n, np.intp)
    out[at] = shuffled
    return out
