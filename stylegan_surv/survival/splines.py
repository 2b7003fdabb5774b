"""Natural cubic splines: smooth curves that are straight beyond their outer knots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Floats

KNOTS = (0.05, 0.35, 0.65, 0.95)  # Harrell (2015), Regression Modeling Strategies, table 2.3: four knots
FLAT = 1e-6  # of the largest singular value; a curve below it is a straight line in these patients


def restricted_cubic(x: Floats, knots: Floats) -> Floats:
    """Natural cubic spline basis [n, k − 1]: x, and one term per inner knot (Harrell 2015, equation 2.24)."""
    knots = np.unique(knots)
    if len(knots) < 3:
        return x[:, None]
    last, before = knots[-1], knots[-2]

    def cube(v: Floats) -> Floats:
        return np.asarray(np.maximum(v, 0.0) ** 3)

    terms = [
        cube(x - k)
        - cube(x - before) * (last - k) / (last - before)
        + cube(x - last) * (before - k) / (last - before)
        for k in knots[:-2]
    ]
    return np.column_stack([x, *(term / (last - knots[0]) ** 2 for term in terms)])


@dataclass(frozen=True)
class Bend:
    """What a natural cubic spline adds to a straight line, orthonormal over the values that it was made from.

    Attributes
    ----------
    mean, sd : float
        Of the values.
    knots : array of float, shape (k,)
        Of the standardised values.
    line : array of float, shape (2, k - 2)
        Intercept and slope of every spline term, which are taken off.
    turn : array of float, shape (k - 2, m)
        From what is left to m uncorrelated columns of mean 0 and variance 1.
    """

    mean: float
    sd: float
    knots: Floats
    line: Floats
    turn: Floats

    @classmethod
    def of(cls, values: Floats) -> Bend | None:
        """Of a covariate, shape (n,), NaN where unknown; None where its values allow no curve."""
        known = values[np.isfinite(values)]
        if len(known) == 0 or not known.std() > 0:
            return None
        mean, sd = float(known.mean()), float(known.std())
        z = (known - mean) / sd
        knots = np.unique(np.quantile(z, KNOTS))
        if len(knots) < 3:
            return None
        terms = restricted_cubic(z, knots)[:, 1:]
        straight = np.column_stack([np.ones(len(z)), z])
        line = np.linalg.lstsq(straight, terms, rcond=None)[0]
        _, size, turn = np.linalg.svd(terms - straight @ line, full_matrices=False)
        kept = size > FLAT * max(size[0], np.linalg.norm(terms))
        if not kept.any():
            return None
        return cls(mean, sd, knots, line, turn[kept].T / size[kept] * np.sqrt(len(z)))

    def columns(self, values: Floats) -> Floats:
        """The columns for new values, shape (n, m); 0 where a value is unknown."""
        known = np.isfinite(values)
        z = np.where(known, (values - self.mean) / self.sd, 0.0)
        terms = restricted_cubic(z, self.knots)[:, 1:] - np.column_stack([np.ones(len(z)), z]) @ self.line
        return np.asarray(np.where(known[:, None], terms @ self.turn, 0.0))
