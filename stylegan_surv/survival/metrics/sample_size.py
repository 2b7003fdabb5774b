"""How many events a study needs before it can show what it looks for."""

from __future__ import annotations

import math

from scipy.stats import norm

from stylegan_surv.errors import InputError


def events_for_hazard_ratio(
    hazard_ratio: float, *, r_squared: float = 0.0, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Events needed to detect a hazard ratio per standard deviation of a score (two-sided test).

    Parameters
    ----------
    hazard_ratio : float
        Per SD of the score, adjusted for the other variables; > 0, not 1.
    r_squared : float
        Share of the score's variance that the other variables explain, in [0, 1).
    power, alpha : float

    Returns
    -------
    int
        Number of events; divide by the expected share of events for the number of patients.

    Notes
    -----
    D = (z_{1−α/2} + z_{power})² / (log(HR)² (1 − R²)) (Hsieh & Lavori 2000, Control Clin Trials 21:552).

    Examples
    --------
    >>> events_for_hazard_ratio(1.3)
    115
    >>> events_for_hazard_ratio(1.3, r_squared=0.3)
    163
    """
    _check(power, alpha)
    if hazard_ratio <= 0 or hazard_ratio == 1:
        raise InputError(f"hazard_ratio: got {hazard_ratio:g}, expected a positive number other than 1")
    if not 0 <= r_squared < 1:
        raise InputError(f"r_squared: got {r_squared:g}, expected a number in [0, 1)")
    return math.ceil(_z(power, alpha) ** 2 / (math.log(hazard_ratio) ** 2 * (1 - r_squared)))


def events_for_delta_c(
    delta: float, *, pilot_se: float, pilot_events: int, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Events needed to detect a difference of two C, from the standard error that a pilot study had.

    Parameters
    ----------
    delta : float
        Difference to detect; > 0.
    pilot_se : float
        Standard error of the paired difference (``concordance(…).minus(…).se``) in the pilot.
    pilot_events : int
        Events of the pilot; the variance falls as one over the events.

    Notes
    -----
    A test of ΔC is nearly powerless against useful markers (Vickers, Cronin & Begg 2011): plan on the hazard
    ratio, report ΔC.

    Examples
    --------
    >>> events_for_delta_c(0.02, pilot_se=0.015, pilot_events=120)
    530
    """
    _check(power, alpha)
    if delta <= 0 or pilot_se <= 0 or pilot_events < 1:
        raise InputError("events_for_delta_c: delta, pilot_se and pilot_events must be positive")
    return math.ceil(pilot_events * (_z(power, alpha) * pilot_se / delta) ** 2)


def _z(power: float, alpha: float) -> float:
    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power))


def _check(power: float, alpha: float) -> None:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise InputError(f"power {power:g} and alpha {alpha:g} must lie between 0 and 1")
