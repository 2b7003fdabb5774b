"""Ridge-penalised Cox regression in the row space of the design: exact whatever the number of columns.

The minimiser of ``-l(X b + C c) + alpha/2 |b|^2`` is ``b = X'a`` with one number a_i for each patient (Hastie &
Tibshirani 2004, Biostatistics 5:329), so that the linear predictor is ``K a + C c`` with the Gram matrix
``K = X X'`` of the centred columns, and n unknowns take the place of p. Several penalties are the sum
``K = sum_g K_g / alpha_g`` (van de Wiel et al. 2021, multiridge, Scand. J. Statist. 48:578).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dsymv, dsyrk

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.newton import RANK, ritz


def gram(X: Array, columns: Array | None = None, block: int = 1024) -> Array:
    """X X' of the centred columns, shape (n, n); float64 whatever X is, without a float64 copy of X."""
    n, p = X.shape
    columns = np.arange(p) if columns is None else columns
    K = np.zeros((n, n), order="F")
    for begin in range(0, len(columns), block):
        part = columns[begin : begin + block]
        consecutive = part[-1] - part[0] == len(part) - 1
        Z = X[:, slice(part[0], part[-1] + 1) if consecutive else part].astype(np.float64)
        Z -= Z.mean(axis=0)
        K = dsyrk(1.0, Z.T, beta=1.0, c=K, trans=1, lower=1, overwrite_c=1)
    K += np.tril(K, -1).T
    return K


def centre(K: Array) -> Array:
    """Gram matrix of the same rows with the mean of the features taken off."""
    mean = K.mean(axis=0)
    centred: Array = np.subtract(K, mean, order="F")
    centred -= mean[:, None]
    centred += mean.mean()
    return centred


class GramProblem:
    """Coordinates a (n,) with b = X'a and the metric <a, a'> = a'K a'; see `_newton.Problem`.

    Parameters
    ----------
    K : array, shape (n, n)
        Centred Gram matrix.
    C : array, shape (n, q)
        Centred columns outside the penalty.
    light : float
        Ridge on their coefficients.
    start : array, shape (n, k), optional
        Guess of the leading eigenspace (rows of that of a larger Gram matrix); random otherwise.
    """

    floor = 1e-13

    def __init__(self, K: Array, C: Array, light: float = 0.0, start: Array | None = None) -> None:
        self.K, self.C, self.light = np.asfortranarray(K), C, light
        n = len(K)
        self.zero = np.zeros(n)
        if start is None:
            guess = np.random.default_rng(0).standard_normal((n, min(n - 1, RANK)))
            start = K @ np.linalg.qr(K @ (guess - guess.mean(axis=0)))[0]
        U = np.linalg.qr(start - start.mean(axis=0))[0]  # sums of 0, as every gradient has
        KU = K @ U
        self.lift, self.image, self.values = ritz(U, KU, U.T @ KU)
        left_over = max(float(np.trace(K) - self.values.sum()), 0.0)
        self.rest = left_over / max(n - 1 - len(self.values), 1)

    def forward(self, a: Array) -> Array:
        Ka: Array = dsymv(1.0, self.K, a, lower=1)  # reads half of K, and memory is what limits a product
        return Ka

    def pull(self, g: Array) -> Array:
        return g

    def inner(self, a: Array, b: Array, Kb: Array) -> float:
        return float(a @ Kb)

    def along(self, a: Array) -> Array:
        components: Array = self.image.T @ a
        return components
