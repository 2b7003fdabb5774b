"""Do predicted probabilities come true? At a horizon (O/E, slope, ICI) and over all times (D, A)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.concordance import checked
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, kaplan_meier
from stylegan_surv.survival.splines import restricted_cubic

_KNOTS = (0.10, 0.50, 0.90)  # Harrell (2015), table 2.3: three knots
_CLIP = 1e-6  # predicted probabilities of exactly 0 or 1 have no complementary log-log
_LEAST_EXPECTED = 5.0  # expected events that a cell of a chi-square test needs


@dataclass(frozen=True)
class Calibration:
    """Calibration of predicted risks at one horizon.

    Attributes
    ----------
    oe : float or array of shape (B,)
        Observed (Kaplan–Meier) over mean predicted risk; 1 is ideal, above 1 means risk is underestimated.
    slope : float or array of shape (B,)
        Coefficient of log(−log S(t)) in a Cox model; 1 is ideal, below 1 means predictions are too extreme.
    ici, e50, e90 : float or array of shape (B,)
        Mean, median and 90th percentile of |predicted − smoothed observed risk| (Austin et al. 2020).
    predicted, observed : array, shape (n,)
        Predicted risk and its smoothed observed counterpart, for the curve.
    """

    oe: Floats
    slope: Floats
    ici: Floats
    e50: Floats
    e90: Floats
    predicted: Floats
    observed: Floats


def calibration(
    survival: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    horizon: float,
    *,
    entry: ArrayLike | None = None,
    multiplicity: Floats | None = None,
) -> Calibration:
    """Calibration of predicted survival S(t) at a horizon.

    Parameters
    ----------
    survival : array-like, shape (n,)
        Predicted probability of being alive at `horizon`, in [0, 1].
    time, event, entry : array-like, shape (n,)
    horizon : float
    multiplicity : array, shape (n, B), optional
        Bootstrap multiplicities; without them the values are those of the sample.

    Notes
    -----
    The smoothed observed risk is that of a Cox model on a restricted cubic spline of log(−log S(t)) with three
    knots (Austin, Harrell & van Klaveren 2020, Stat Med 39:2714). On a resample its coefficients are updated
    by one Newton step from those of the sample (exact to first order), the baseline hazard is recomputed.
    """
    s = np.asarray(survival, float)
    if s.size and (s.min() < 0 or s.max() > 1):
        raise InputError(f"survival: got values from {s.min():.3g} to {s.max():.3g}, expected probabilities")
    data = checked(time, event, s, entry)
    m = np.ones((len(s), 1)) if multiplicity is None else multiplicity
    risk, total = 1 - s, m.sum(axis=0)
    curve = kaplan_meier(data.time, data.event, entry=data.entry, weight=m)
    oe = (1 - curve.at(np.array([horizon]))[0]) / (risk @ m / total)

    x = np.log(-np.log(np.clip(s, _CLIP, 1 - _CLIP)))
    if np.ptp(x) < 1e-9:
        raise InputError("calibration: all predicted risks are equal, there is no slope to estimate")
    slope = _resampled_coefficients(x[:, None], data.time, data.event, data.entry, m)[0]
    basis = restricted_cubic(x, np.quantile(x, _KNOTS))
    basis = basis - basis.mean(axis=0)
    coef = _resampled_coefficients(basis, data.time, data.event, data.entry, m)
    observed = _cox_risk(basis @ coef, data.time, data.event, data.entry, m, horizon)
    error = np.abs(observed - risk[:, None])
    e50, e90 = weighted_quantile(error, m, (0.5, 0.9))
    ici = np.einsum("ib,ib->b", error, m) / total
    if multiplicity is None:
        oe, slope, ici, e50, e90 = (v[0] for v in (oe, slope, ici, e50, e90))
    return Calibration(oe, slope, ici, e50, e90, predicted=risk, observed=observed[:, 0])


def _resampled_coefficients(x: Floats, time: Floats, event: Bools, entry: Floats | None, m: Floats) -> Floats:
    """Cox coefficients per resample [p, B]: one Newton step from the sample's, along the score residuals."""
    fit = fit_cox(x, time, event, entry=entry)
    residuals = score_residuals(x, fit.coef, time, event, entry)
    return np.asarray(fit.coef[:, None] + fit.covariance @ (residuals.T @ (m - 1.0)))


def score_residuals(
    x: Floats, coef: Floats, time: Floats, event: Bools, entry: Floats | None = None
) -> Floats:
    """U_i = d_i (x_i − x̄(t_i)) − exp(x_iβ) ∫_{entry_i}^{t_i} (x_i − x̄(u)) dΛ₀(u), [n, p] (Breslow's ties)."""
    r = np.exp((x - x.mean(axis=0)) @ coef)
    times, deaths = np.unique(time[event], return_counts=True)
    s0 = at_risk(time, entry, r[:, None], times)
    mean = at_risk(time, entry, r[:, None] * x, times) / s0
    hazard = deaths[:, None] / s0
    cumulative = np.vstack(
        [np.zeros((1, 1 + x.shape[1])), np.cumsum(np.hstack([hazard, hazard * mean]), axis=0)]
    )
    over = cumulative[np.searchsorted(times, time, side="right")]
    if entry is not None:
        over = over - cumulative[np.searchsorted(times, entry, side="right")]
    residual = -r[:, None] * (x * over[:, :1] - over[:, 1:])
    residual[event] += x[event] - mean[np.searchsorted(times, time[event])]
    return np.asarray(residual)


def _cox_risk(eta: Floats, time: Floats, event: Bools, entry: Floats | None, m: Floats, t: float) -> Floats:
    """Risk by t under a Cox model with linear predictors `eta` [n, B], Breslow's baseline per resample."""
    r = np.exp(eta)
    use = event & (time <= t)
    times, index = np.unique(time[use], return_inverse=True)
    s0 = at_risk(time, entry, m * r, times)
    with np.errstate(divide="ignore", invalid="ignore"):
        jumps = np.where(s0[index] > 0, m[use] / s0[index], 0.0)
    return np.asarray(-np.expm1(-jumps.sum(axis=0) * r))


def weighted_quantile(values: Floats, weight: Floats, q: tuple[float, ...]) -> list[Floats]:
    """Quantiles of every column of `values` [n, B] under the weights [n, B]: a list of arrays [B]."""
    order = np.argsort(values, axis=0)
    x, w = np.take_along_axis(values, order, 0), np.take_along_axis(np.asarray(weight, float), order, 0)
    reached = np.cumsum(w, axis=0)
    rows = [(reached < p * reached[-1]).sum(axis=0) for p in q]
    return [np.take_along_axis(x, np.minimum(k, len(x) - 1)[None], 0)[0] for k in rows]


@dataclass(frozen=True)
class ChiSquare:
    """A goodness-of-fit test: small p, the predicted distributions do not fit."""

    statistic: float
    df: int
    p: float


def d_calibration(survival: ArrayLike, event: ArrayLike, *, cells: int = 10) -> ChiSquare:
    """D-calibration: S_i(T_i) is uniform if the predicted distributions are right (Haider et al. 2020).

    Parameters
    ----------
    survival : array-like, shape (n,)
        Predicted S_i at the patient's own end of follow-up (divided by S_i at entry, with delayed entry).
    event : array-like, shape (n,)
    cells : int

    Notes
    -----
    A censored patient is spread evenly over [0, S_i(T_i)], which makes the test conservative.
    """
    s = np.clip(np.asarray(survival, float), 1e-12, 1.0)
    died = np.asarray(event).astype(bool)
    edges = np.linspace(0, 1, cells + 1)
    observed = np.histogram(s[died], edges)[0].astype(float)
    overlap = np.clip(s[~died][:, None], edges[:-1], edges[1:]) - edges[:-1]
    observed += (overlap / s[~died][:, None]).sum(axis=0)
    expected = len(s) / cells
    statistic = float(np.sum((observed - expected) ** 2) / expected)
    return ChiSquare(statistic, cells - 1, float(chi2.sf(statistic, cells - 1)))


def a_calibration(
    cumulative_hazard: ArrayLike, event: ArrayLike, *, entry: ArrayLike | None = None, cells: int = 10
) -> ChiSquare:
    """A-calibration: Akritas's goodness-of-fit test on the cumulative-hazard residuals.

    Parameters
    ----------
    cumulative_hazard : array-like, shape (n,)
        Predicted Λ_i at the patient's own end of follow-up.
    event : array-like, shape (n,)
    entry : array-like, shape (n,), optional
        Λ_i at the patient's entry.
    cells : int
        Cells, equally probable without censoring; cells with fewer than 5 expected events are merged.

    Notes
    -----
    Under the model the Λ_i(T_i) are a censored sample of the unit exponential. A cell's expected number of
    events is the time at risk spent in it, so nothing is imputed for the censored, and
    Σ (observed − expected)²/expected has as many degrees of freedom as cells (Akritas 1988, JASA 83:222;
    Simonsen & Waagepetersen 2025). Unlike D-calibration it keeps its power under censoring.
    """
    h = np.asarray(cumulative_hazard, float)
    start = np.zeros(len(h)) if entry is None else np.asarray(entry, float)
    died = np.asarray(event).astype(bool)
    edges = -np.log1p(-np.arange(cells) / cells)
    edges = np.append(edges, np.inf)
    expected = (
        np.clip(h[:, None], edges[:-1], edges[1:]) - np.clip(start[:, None], edges[:-1], edges[1:])
    ).sum(0)
    observed = np.histogram(h[died], edges)[0].astype(float)
    keep = _merge(expected)
    o, e = np.add.reduceat(observed, keep), np.add.reduceat(expected, keep)
    statistic = float(np.sum((o - e) ** 2 / e))
    return ChiSquare(statistic, len(keep), float(chi2.sf(statistic, len(keep))))


def _merge(expected: Floats) -> Ints:
    """Starts of runs of cells that expect enough events each; the last run takes what is left."""
    starts, total = [0], 0.0
    for k, e in enumerate(expected):
        total += e
        if total >= _LEAST_EXPECTED and expected[k + 1 :].sum() >= _LEAST_EXPECTED:
            starts.append(k + 1)
            total = 0.0
    return np.array(starts)
