"""Newton's method with preconditioned conjugate gradients for ridge-penalised Cox regression.

Minimises ``-l(F t + C c) + alpha/2 <t, t> + light/2 |c|^2`` over coordinates t of the penalised coefficients and
coefficients c of a few further columns. A `Problem` says what the coordinates are: the coefficients themselves
(`_primal`), or one number for each patient with the Gram matrix as metric (`_gram`). Either way one step costs one
`forward` and one `pull`.

The preconditioner replaces the information matrix by its mean diagonal h, and F'F by its leading eigenpairs and
an isotropic rest; C enters it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from scipy.linalg import eigh

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.partial import WIDEST, PartialLikelihood

RANK = 128  # leading eigenpairs in the preconditioner
MAX_NEWTON, MAX_CG, MAX_HALVINGS = 60, 500, 30
ARMIJO, ROUNDING = 1e-4, 1e-13
LOOSEST = 0.1  # relative residual of a Newton system far from the optimum
NEAR = 1e3  # times the target: within it, an iterate that rounding keeps from coming nearer is the minimiser
STALLED = 2  # steps in a row, near the target, that do not lower the objective as they should: rounding
REALISED = 0.1  # share of the fall that a Newton step promises, below which it has not come
SEPARATED = 25.0  # spread of the unpenalised columns' linear predictor: a hazard ratio of e^25 is no estimate


class Problem(Protocol):
    """Coordinates of the penalised coefficients, and what the preconditioner knows of them."""

    C: Array  # (n, q) columns outside the penalty
    light: float  # ridge on their coefficients
    zero: Array  # the origin of the coordinates
    lift: Array  # (size, k) leading directions, orthonormal in the metric
    image: Array  # (n, k) what `forward` makes of them
    values: Array  # (k,) eigenvalues of F'F
    rest: float  # mean of the others
    floor: float  # smallest tolerance that the products' precision allows

    def forward(self, t: Array) -> Array:
        """F t, shape (n,)."""
        ...

    def pull(self, g: Array) -> Array:
        """Coordinates of F'g."""
        ...

    def inner(self, s: Array, t: Array, image: Array) -> float:
        """<s, t>, given image = forward(t)."""
        ...

    def along(self, t: Array) -> Array:
        """Components of t along `lift`, shape (k,)."""
        ...


class Stop(Enum):
    """Why Newton's method ended."""

    TOLERANCE = "the decrement is within the tolerance"
    PRECISION = "rounding in the products with X forbids to come nearer, and the minimiser is near"
    SEPARATION = (
        "an unpenalised column separates those with an event, so that its coefficient grows without bound"
    )
    SPREAD = "the penalty is so light that the hazards of two patients differ by more than a double holds"
    ROUNDING = "rounding in the products with X forbids further progress far from the minimiser"
    STEPS = f"{MAX_NEWTON} Newton steps were not enough"


@dataclass(frozen=True)
class Solution:
    """Coordinates t, coefficients c, linear predictor eta (n,), and how it went."""

    t: Array
    c: Array
    eta: Array
    objective: float
    newton: int
    cg: int
    stop: Stop

    @property
    def converged(self) -> bool:
        """Whether this is the minimiser, to `tol` or to what the precision of the products allows."""
        return self.stop in (Stop.TOLERANCE, Stop.PRECISION)


@dataclass(frozen=True)
class _Point:
    """An iterate and everything the likelihood says there, whatever alpha."""

    t: Array
    c: Array
    Ft: Array
    value: float  # log partial likelihood
    score: tuple[Array, Array]  # its gradient in t and c
    h: float
    information: Callable[[Array], Array]


def solve_path(
    problem: Problem, likelihood: PartialLikelihood, alphas: Sequence[float], tol: float = 1e-7
) -> Iterator[Solution]:
    """Minimisers for each of `alphas` (best from heavy to light), every one started from the one before.

    Newton stops when its decrement is `tol` times that at 0.
    """
    point = origin = _at(problem, likelihood, problem.zero, np.zeros(problem.C.shape[1]))
    steep = problem.forward(origin.score[0])
    for alpha in alphas:
        z = _Preconditioner(problem, alpha, origin.h)(*origin.score)
        decrement = problem.inner(z[0], origin.score[0], steep) + float(z[1] @ origin.score[1])
        point, newton, cg, stop = _newton(
            problem, likelihood, alpha, point, max(tol, problem.floor) * decrement**0.5
        )
        eta = point.Ft + problem.C @ point.c
        yield Solution(point.t, point.c, eta, _objective(problem, alpha, point), newton, cg, stop)


def _newton(
    problem: Problem, likelihood: PartialLikelihood, alpha: float, point: _Point, target: float
) -> tuple[_Point, int, int, Stop]:
    """Newton's method until the decrement is `target`: (point, Newton steps, CG steps, why it ended).

    The products' rounding sets a floor below which no step brings the decrement. In single precision it rises
    with the patients and as alpha falls, so that it is seen rather than foretold: near the target, a step that
    does not lower the objective as it promises is made of rounding.
    """
    steps, first, stalled = 0, 0.0, 0
    for newton in range(MAX_NEWTON):
        system = _System(problem, alpha, point)
        first = first or system.decrement
        if system.decrement <= target:
            return point, newton, steps, Stop.TOLERANCE
        near = system.decrement <= NEAR * target
        loose = min(LOOSEST, (system.decrement / first) ** 0.5)
        change = system.solve(max(loose, 0.3 * target / system.decrement))
        steps += system.steps
        new = _line_search(problem, likelihood, alpha, point, system.gradient, *change)
        if new is None:  # rounding forbids further progress
            return point, newton, steps, Stop.PRECISION if near else _trouble(problem, point, Stop.ROUNDING)
        fall = _objective(problem, alpha, point) - _objective(problem, alpha, new)
        stalled = stalled + 1 if near and fall < REALISED * system.decrement**2 / 2 else 0
        point = new
        if stalled == STALLED:
            return point, newton + 1, steps, Stop.PRECISION
    return point, MAX_NEWTON, steps, _trouble(problem, point, Stop.STEPS)


def _trouble(problem: Problem, point: _Point, otherwise: Stop) -> Stop:
    """Why Newton's method ended at a point that is no minimiser."""
    if len(point.c) and np.ptp(problem.C @ point.c) > SEPARATED:
        return Stop.SEPARATION
    return Stop.SPREAD if np.ptp(point.Ft) > WIDEST else otherwise


def _at(
    problem: Problem, likelihood: PartialLikelihood, t: Array, c: Array, Ft: Array | None = None
) -> _Point:
    Ft = np.zeros(len(problem.C)) if Ft is None else Ft
    value, g, diagonal, information = likelihood.local(Ft + problem.C @ c)
    return _Point(t, c, Ft, value, (problem.pull(g), problem.C.T @ g), float(diagonal.mean()), information)


def _penalty(problem: Problem, alpha: float, t: Array, c: Array, Ft: Array) -> float:
    return 0.5 * alpha * problem.inner(t, t, Ft) + 0.5 * problem.light * float(c @ c)


def _objective(problem: Problem, alpha: float, point: _Point) -> float:
    return _penalty(problem, alpha, point.t, point.c, point.Ft) - point.value


def _line_search(
    problem: Problem,
    likelihood: PartialLikelihood,
    alpha: float,
    point: _Point,
    gradient: tuple[Array, Array],
    dt: Array,
    dc: Array,
    Fdt: Array,
) -> _Point | None:
    """Halve the step until the objective falls enough (Armijo); None if it never does."""
    slope = problem.inner(gradient[0], dt, Fdt) + float(gradient[1] @ dc)
    now = _objective(problem, alpha, point)
    step = 1.0
    for _ in range(MAX_HALVINGS):
        t, c, Ft = point.t + step * dt, point.c + step * dc, point.Ft + step * Fdt
        new = _penalty(problem, alpha, t, c, Ft) - likelihood.value(Ft + problem.C @ c)
        if new <= now + ARMIJO * step * slope + ROUNDING * abs(now):
            return _at(problem, likelihood, t, c, Ft)
        step /= 2
    return None


class _Preconditioner:
    """(rt, rc) -> M^-1 (rt, rc), with M the Hessian for W = h, and F'F by its leading pairs and a rest."""

    def __init__(self, problem: Problem, alpha: float, h: float) -> None:
        self.problem, C = problem, problem.C
        self.base = h * problem.rest + alpha
        self.leading = h * problem.values + alpha
        if C.shape[1]:
            self.coupling = h * (problem.image.T @ C)
            schur = h * (C.T @ C) + problem.light * np.eye(C.shape[1])
            schur -= self.coupling.T @ (self.coupling / self.leading[:, None])
            self.schur_inverse = np.linalg.pinv(schur, hermitian=True)  # collinear columns share their effect

    def __call__(self, rt: Array, rc: Array) -> tuple[Array, Array]:
        along = self.problem.along(rt)
        x, y = along / self.leading, rc
        if len(rc):
            y = self.schur_inverse @ (rc - self.coupling.T @ x)
            x = x - (self.coupling @ y) / self.leading
        return rt / self.base + self.problem.lift @ (x - along / self.base), y


class _System:
    """H (dt, dc) = -gradient, with ``H = [[F'WF + alpha, F'WC], [C'WF, C'WC + light]]`` and W the information."""

    def __init__(self, problem: Problem, alpha: float, point: _Point) -> None:
        self.problem, self.alpha, self.information = problem, alpha, point.information
        self.gradient = (alpha * point.t - point.score[0], problem.light * point.c - point.score[1])
        self.precondition = _Preconditioner(problem, alpha, point.h)
        self.r = (-self.gradient[0], -self.gradient[1])
        self.z = self.precondition(*self.r)
        self.Fz = problem.forward(self.z[0])
        self.rz = problem.inner(self.r[0], self.z[0], self.Fz) + float(self.r[1] @ self.z[1])
        self.decrement = max(self.rz, 0.0) ** 0.5  # squared: about twice what the objective can still fall
        self.steps = 0

    def solve(self, forcing: float) -> tuple[Array, Array, Array]:
        """(dt, dc, F dt) once the residual's preconditioned norm has fallen to `forcing` times the first."""
        problem, alpha, C = self.problem, self.alpha, self.problem.C
        (rt, rc), (pt, pc), Fp, rz = self.r, self.z, self.Fz, self.rz
        dt, dc, Fdt = np.zeros_like(rt), np.zeros_like(rc), np.zeros_like(Fp)
        for self.steps in range(1, MAX_CG + 1):
            curvature = self.information(Fp + C @ pc)
            Ht, Hc = problem.pull(curvature) + alpha * pt, C.T @ curvature + problem.light * pc
            step = rz / (problem.inner(Ht, pt, Fp) + float(Hc @ pc))
            dt, dc, Fdt = dt + step * pt, dc + step * pc, Fdt + step * Fp
            rt, rc = rt - step * Ht, rc - step * Hc
            zt, zc = self.precondition(rt, rc)
            Fz = problem.forward(zt)
            rz, previous = problem.inner(rt, zt, Fz) + float(rc @ zc), rz
            if rz <= forcing**2 * self.rz:
                break
            beta = rz / previous
            pt, pc, Fp = zt + beta * pt, zc + beta * pc, Fz + beta * Fp
        return dt, dc, Fdt


def ritz(lift: Array, image: Array, metric: Array) -> tuple[Array, Array, Array]:
    """Turn k directions into approximate eigenvectors of F'F (Rayleigh-Ritz).

    Given directions `lift` (size, k), their `image` F lift (n, k) and `metric` = <lift, lift> (k, k), returns
    them rotated to be orthonormal in the metric with orthogonal images, and the eigenvalues; directions
    without an image are dropped.
    """
    s, E = eigh(metric)
    good = s > 1e-10 * s.max(initial=1e-300)
    E = E[:, good] / np.sqrt(s[good])
    values, rotation = eigh((image @ E).T @ (image @ E))
    keep = values > 1e-12 * max(values.max(initial=0.0), 1e-300)
    turn = E @ rotation[:, keep]
    return lift @ turn, image @ turn, values[keep]
