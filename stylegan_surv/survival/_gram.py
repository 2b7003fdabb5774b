"""Ridge-penalised Cox regression in the row space of the design: exact whatever the number of columns.

The minimiser of ``-l(X b + C c) + alpha/2 |b|^2`` is ``b = X'a`` with one number a_i per patient (Hastie &
Tibshirani 2004, Biostatistics 5:329), so that the linear predictor is ``K a + C c`` with the Gram matrix
``K = X X'`` (centred), and n unknowns take the place of p. Several penalties are the sum ``K = sum_g K_g /
alpha_g`` with alpha = 1 (van de Wiel et al. 2021, multiridge).

Newton's steps are solved by conjugate gradients in the metric of b, ``<a1, a2> = a1' K a2``, where a step costs one
product with K. The preconditioner replaces the information matrix by its mean diagonal h, and X'X by its leading
Ritz pairs and an isotropic rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, eigh

from ._partial import PartialLikelihood

Array = npt.NDArray[Any]

RANK = 128  # Ritz pairs in the preconditioner
MAX_NEWTON, MAX_CG, MAX_HALVINGS = 60, 500, 30
ARMIJO, ROUNDING = 1e-4, 1e-13


def gram(X: Array, columns: Array | None = None, block: int = 1024) -> Array:
    """X X' of the centred columns, shape (n, n), float64.

    float32 products are summed in float64 block by block, so that the rounding stays that of `block` columns.
    """
    n, p = X.shape
    columns = np.arange(p) if columns is None else columns
    K = np.zeros((n, n))
    for begin in range(0, len(columns), block):
        part = columns[begin : begin + block]
        step = slice(part[0], part[-1] + 1) if part[-1] - part[0] == len(part) - 1 else part
        centred = X[:, step] - X[:, step].mean(axis=0, dtype=np.float64).astype(X.dtype)
        K += centred @ centred.T
    return K


def centre(K: Array) -> Array:
    """Gram matrix of the same rows with the mean of the features taken off."""
    mean = K.mean(axis=0)
    centred: Array = K - mean - mean[:, None] + mean.mean()
    return centred


@dataclass
class Solution:
    """Dual coefficients a (n,), unpenalised coefficients c (q,), value of the objective, Newton and CG steps."""

    a: Array
    c: Array
    eta: Array
    objective: float = np.inf
    newton: int = 0
    cg: int = 0
    converged: bool = True


class GramProblem:
    """One training set: centred Gram matrix K (n, n), centred columns C (n, q) with a light ridge or none.

    Parameters
    ----------
    K : array, shape (n, n)
    C : array, shape (n, q), optional
        Columns outside the penalty alpha.
    light : float
        Ridge on the coefficients of C.
    start : array, shape (n, k), optional
        Guess of the leading eigenspace (rows of that of a larger Gram matrix); random otherwise.
    """

    def __init__(
        self, K: Array, C: Array | None = None, light: float = 0.0, start: Array | None = None
    ) -> None:
        self.K = K
        self.n = len(K)
        self.C = np.zeros((self.n, 0)) if C is None else C
        self.light = light
        self._ritz(start)

    def _ritz(self, start: Array | None) -> None:
        """Q with Q'KQ = I and Q'KKQ = diag(values): leading Ritz pairs of X'X, in dual coordinates."""
        if start is None:
            guess = np.random.default_rng(0).standard_normal((self.n, min(self.n - 1, RANK)))
            start = self.K @ np.linalg.qr(self.K @ (guess - guess.mean(axis=0)))[0]
        U = np.linalg.qr(start - start.mean(axis=0))[0]
        KU = self.K @ U
        inner = U.T @ KU
        s, E = eigh(inner)
        keep = s > 1e-10 * max(s[-1], 1e-300)
        E = E[:, keep] / np.sqrt(s[keep])
        KQ = KU @ E
        self.values, rotation = eigh(KQ.T @ KQ)
        self.Q, self.KQ = U @ (E @ rotation), KQ @ rotation
        rest = np.trace(self.K) - self.values.sum()
        self.rest = max(rest, 0.0) / max(self.n - 1 - len(self.values), 1)

    @property
    def subspace(self) -> Array:
        """Leading directions to start another problem from, scaled by importance."""
        leading: Array = self.KQ
        return leading

    def solve(
        self, likelihood: PartialLikelihood, alpha: float, warm: Solution | None = None, tol: float = 1e-7
    ) -> Solution:
        """Minimise the objective from `warm` (or 0) until the Newton decrement is `tol` times that at 0."""
        zero = Solution(np.zeros(self.n), np.zeros(self.C.shape[1]), np.zeros(self.n))
        now = zero if warm is None else replace(warm, newton=0, cg=0, converged=True)
        Ka = self.K @ now.a
        eta = Ka + self.C @ now.c
        value, g, h, information = likelihood.local(eta)
        scale = self._decrement(alpha, likelihood, zero) if warm is not None else None
        a, c = now.a, now.c
        objective = self._objective(value, alpha, a, Ka, c)
        newton = cg = 0
        while True:
            ga, gc = alpha * a - g, self.light * c - self.C.T @ g
            system = _NewtonSystem(self, alpha, information, float(h.mean()), ga, gc)
            scale = system.decrement if scale is None else scale
            converged = system.decrement <= tol * scale
            if converged or newton == MAX_NEWTON:
                break
            forcing = max(min(0.1, (system.decrement / scale) ** 0.5), 0.3 * tol * scale / system.decrement)
            da, dc, Kda = system.solve(forcing)
            cg += system.steps
            newton += 1
            slope, change = Kda @ ga + dc @ gc, Kda + self.C @ dc
            step = 1.0
            for _ in range(MAX_HALVINGS):
                trial = (a + step * da, Ka + step * Kda, c + step * dc)
                value = likelihood.value(eta + step * change)
                if self._objective(
                    value, alpha, *trial
                ) <= objective + ARMIJO * step * slope + ROUNDING * abs(objective):
                    break
                step /= 2
            else:  # rounding forbids further progress
                converged = system.decrement <= 1e3 * tol * scale
                break
            a, Ka, c = trial
            eta = eta + step * change
            value, g, h, information = likelihood.local(eta)
            objective = self._objective(value, alpha, a, Ka, c)
        return Solution(a, c, eta, objective, newton, cg, bool(converged))

    def _objective(self, value: float, alpha: float, a: Array, Ka: Array, c: Array) -> float:
        return float(-value + 0.5 * alpha * (a @ Ka) + 0.5 * self.light * (c @ c))

    def _decrement(self, alpha: float, likelihood: PartialLikelihood, at: Solution) -> float:
        _, g, h, information = likelihood.local(at.eta)
        system = _NewtonSystem(self, alpha, information, float(h.mean()), -g, -self.C.T @ g)
        return float(system.decrement)


class _NewtonSystem:
    """H (da, dc) = -(ga, gc) by preconditioned conjugate gradients; H = [[W + alpha, .], [., C'WC + light]]."""

    def __init__(
        self, problem: GramProblem, alpha: float, information: Any, h: float, ga: Array, gc: Array
    ) -> None:
        self.problem, self.alpha, self.information = problem, alpha, information
        self.base = h * problem.rest + alpha
        self.leading = h * problem.values + alpha
        C = problem.C
        if C.shape[1]:
            self.coupling = h * (problem.KQ.T @ C)
            schur = h * (C.T @ C) + problem.light * np.eye(C.shape[1])
            schur -= self.coupling.T @ (self.coupling / self.leading[:, None])
            self.schur = cho_factor(schur + 1e-12 * np.trace(schur) * np.eye(len(schur)))
        self.r = (-ga, -gc)
        self.z = self._precondition(*self.r)
        self.Kz = problem.K @ self.z[0]
        self.rz = float(self.r[0] @ self.Kz + self.r[1] @ self.z[1])
        self.decrement = max(self.rz, 0.0) ** 0.5
        self.steps = 0

    def _precondition(self, ra: Array, rc: Array) -> tuple[Array, Array]:
        t = self.problem.KQ.T @ ra
        x, y = t / self.leading, rc
        if len(rc):
            y = cho_solve(self.schur, rc - self.coupling.T @ x)
            x = x - (self.coupling @ y) / self.leading
        return ra / self.base + self.problem.Q @ (x - t / self.base), y

    def solve(self, forcing: float) -> tuple[Array, Array, Array]:
        """(da, dc, K da) once the residual's preconditioned norm has fallen to `forcing` times the first."""
        (ra, rc), (za, zc), Kz, rz = self.r, self.z, self.Kz, self.rz
        pa, pc, Kp = za, zc, Kz
        K, C, light = self.problem.K, self.problem.C, self.problem.light
        da, dc, Kda = np.zeros_like(ra), np.zeros_like(rc), np.zeros_like(ra)
        for self.steps in range(1, MAX_CG + 1):
            curvature = self.information(Kp + C @ pc)
            Ha, Hc = curvature + self.alpha * pa, C.T @ curvature + light * pc
            step = rz / (Ha @ Kp + Hc @ pc)
            da, dc, Kda = da + step * pa, dc + step * pc, Kda + step * Kp
            ra, rc = ra - step * Ha, rc - step * Hc
            za, zc = self._precondition(ra, rc)
            Kz = K @ za
            rz, previous = float(ra @ Kz + rc @ zc), rz
            if rz <= forcing**2 * self.rz:
                break
            beta = rz / previous
            pa, pc, Kp = za + beta * pa, zc + beta * pc, Kz + beta * Kp
        return da, dc, Kda
