"""An estimate with its interval: the one form in which every result is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Floats

LEVEL = 0.95
RESAMPLES = 1000  # of the patients, for a percentile interval (Davison & Hinkley 1997, section 5.3)


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % interval.

    Attributes
    ----------
    estimate, low, high : float or None
        None where a number cannot be computed.
    """

    estimate: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_samples(cls, values: Floats, level: float = LEVEL) -> Interval:
        """Percentile interval.

        Parameters
        ----------
        values : array of float, shape (1 + B,)
            The estimate, then its value on each resample; those that are not finite are left out.
        level : float
            Coverage, in (0, 1).
        """
        edge = (1 - level) / 2
        resamples = values[1:][np.isfinite(values[1:])]
        low, high = np.quantile(resamples, [edge, 1 - edge]) if len(resamples) > 1 else (np.nan, np.nan)
        return cls(*(float(x) if np.isfinite(x) else None for x in (values[0], low, high)))
