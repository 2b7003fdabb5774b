"""What the photograph adds to what the clinic knows: permutation test, adjusted hazard ratio, subgroups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm

from stylegan_surv._types import Array, Bools, Floats, Ints, Progress
from stylegan_surv.audit.controls import Permutations, permuted_outcomes
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import SmallCox, fit_cox
from stylegan_surv.survival.metrics.censoring import Censoring
from stylegan_surv.survival.metrics.concordance import pooled_concordance
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, kaplan_meier

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

LEVEL = 0.05  # of the tests
LEAST_EVENTS = 20  # of a subgroup whose C is estimated
SEVERAL = 6  # distinct numbers above which a column is cut into thirds


def hazard_ratio(coef: float, se: float) -> Interval:
    """Hazard ratio of a Cox coefficient with its 95 % Wald interval."""
    half = norm.ppf(0.975) * se
    return Interval(*(float(np.exp(x)) for x in (coef, coef - half, coef + half)))


@dataclass(frozen=True)
class Adjusted:
    """The out-of-fold photo score in a Cox model beside the clinical variables.

    Attributes
    ----------
    hazard_ratio : Interval
        Per standard deviation of the score.
    root : float
        Signed root of the likelihood-ratio statistic: positive when the score points the right way.
    p_nominal : float
        One-sided p of `root` against the normal distribution. An out-of-fold score is not a covariate fixed
        beforehand, which biases this test (Höfling & Tibshirani 2008); `AddedValue` measures its level.
    p_proportional : float
        Grambsch–Therneau test that the score's hazard ratio does not change with time.
    """

    hazard_ratio: Interval
    root: float
    p_nominal: float
    p_proportional: float


@dataclass(frozen=True)
class AddedValue:
    """Primary test of added value.

    Attributes
    ----------
    adjusted : Adjusted
        On the data as they are.
    permutations : Permutations
        `Adjusted.root` with the photographs permuted against outcome and clinical variables, the whole
        cross-validation rerun each time; its ``p`` is the test.
    concordance : Permutations
        The photograph's pooled C on the same permutations (within strata, where there are any): a sound
        pipeline gives .5 on average.
    """

    adjusted: Adjusted
    permutations: Permutations
    concordance: Permutations

    @property
    def nominal_level(self) -> float:
        """Share of the permutations in which the nominal test rejects at 5 %: .05 would be right."""
        return float(np.mean(norm.sf(self.permutations.values) < LEVEL))

    def record(self) -> dict[str, Any]:
        """As ``metrics.json`` holds it."""
        a = self.adjusted
        return {
            "p": self.permutations.p,
            "n_permutations": len(self.permutations.values),
            "root": a.root,
            "permuted_roots": self.permutations.values,
            "hazard_ratio_per_sd": a.hazard_ratio,
            "p_nominal": a.p_nominal,
            "nominal_level": self.nominal_level,
            "p_proportional_hazards": a.p_proportional,
        }


def added_value(
    risk_of: Callable[[Outcome], Floats],
    outcome: Outcome,
    clinical: Floats | None = None,
    *,
    fold: Ints | None = None,
    strata: Array | None = None,
    n_permutations: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> AddedValue:
    """Test whether the photographs add to the clinical variables, with the whole pipeline rerun under the null.

    Parameters
    ----------
    risk_of : callable
        ``risk_of(outcome)`` cross-validates the photographs, in their order, on the outcomes given to them and
        returns the out-of-fold risk of each photograph [n]; e.g. ``GramCV(X, fold).out_of_fold_risk``.
    outcome : Outcome
        In the order of the photographs.
    clinical : array of float, shape (n, q), optional
        Clinical design, e.g. from `ClinicalDesign`; a patient's row moves with the outcome.
    fold : array of int, shape (n,), optional
        Fold of each photograph; the score is centred within folds.
    strata : array, shape (n,), optional
        Patients are exchanged within strata, which have their own baselines.
    n_permutations, seed : int
    progress : callable, optional

    Returns
    -------
    AddedValue

    Notes
    -----
    The null hypothesis is that the photographs are independent of outcome and clinical variables within
    strata. It is the right one for "no information in the photograph"; a photograph that shows nothing but
    age, with age among the clinical variables, is not in it, and there the statistic, which is adjusted,
    keeps the test conservative or close to its level.
    """
    design = np.zeros((len(outcome), 0)) if clinical is None else np.asarray(clinical, float)
    run = partial(rerun, risk_of, outcome, design, fold=fold, strata=strata)
    real, c_real = run(np.arange(len(outcome)))
    c_values: list[float] = []

    def statistic(order: Ints) -> float:
        found, c = run(order)
        c_values.append(c)
        return found.root

    roots = permuted_outcomes(
        statistic,
        len(outcome),
        observed=real.root,
        strata=strata,
        n_permutations=n_permutations,
        seed=seed,
        progress=progress,
    )
    return AddedValue(real, roots, Permutations(c_real, np.array(c_values)))


def rerun(
    risk_of: Callable[[Outcome], Floats],
    outcome: Outcome,
    design: Floats,
    order: Ints,
    *,
    fold: Ints | None = None,
    strata: Array | None = None,
) -> tuple[Adjusted, float]:
    """The analysis of `added_value` with photograph i given to patient ``order[i]``: adjusted score and pooled C."""
    moved = outcome.subset(order)
    level = None if strata is None else np.asarray(strata)[order]
    risk = risk_of(moved)
    c = _pooled_c(risk, moved, fold, level)
    return adjusted_score(risk, moved, design[order], fold=fold, strata=level), c


def _pooled_c(risk: Floats, outcome: Outcome, fold: Ints | None, strata: Array | None) -> float:
    frame = {"patient_id": outcome.patient_id, "repeat": 0, "risk": risk, "fold": 0 if fold is None else fold}
    table = pd.DataFrame(frame).dropna()
    return pooled_concordance(table, outcome, strata=strata).estimate


def adjusted_score(
    score: Floats,
    outcome: Outcome,
    clinical: Floats | None = None,
    *,
    fold: Ints | None = None,
    strata: Array | None = None,
) -> Adjusted:
    """Cox model of the standardised score beside the clinical variables.

    Parameters
    ----------
    score : array of float, shape (n,)
        Out-of-fold risk; NaN leaves the patient out.
    clinical : array of float, shape (n, q), optional
    fold : array of int, shape (n,), optional
        Centre the score within folds, since the risks of different folds have different zeros.
    strata : array, shape (n,), optional
        Strata of the baseline hazard; by default the outcome's own.
    """
    known = np.isfinite(score)
    z = np.array(score[known], float)
    if fold is not None:
        z = z - pd.Series(z).groupby(np.asarray(fold)[known]).transform("mean").to_numpy()
    if not np.ptp(z) > 0:
        raise InputError(
            "added value: the photo score is the same for all patients, there is nothing to test"
        )
    z = z / z.std()
    part = outcome.subset(known)
    level = part.strata if strata is None else np.asarray(strata)[known]
    x = np.zeros((len(z), 0)) if clinical is None else varying(np.asarray(clinical, float)[known], level)
    both = np.column_stack([z, x])
    full, less = (
        fit_cox(matrix, part.time, part.event, entry=part.entry, strata=level) for matrix in (both, x)
    )
    root = float(np.sign(full.coef[0]) * np.sqrt(max(0.0, 2 * (full.log_likelihood - less.log_likelihood))))
    p_zph = proportional_hazards(both, full, part.time, part.event, entry=part.entry, strata=level)
    return Adjusted(hazard_ratio(full.coef[0], full.se[0]), root, float(norm.sf(root)), p_zph)


def varying(x: Floats, strata: Array | None) -> Floats:
    """Columns that vary within strata and are no copies of others: no level that nobody has, not the site itself."""
    level = np.zeros(len(x), int) if strata is None else np.unique(strata, return_inverse=True)[1]
    within = x - pd.DataFrame(x).groupby(level).transform("mean").to_numpy()
    size = np.linalg.norm(within, axis=0)
    kept = size > 1e-8 * np.maximum(np.linalg.norm(x, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(within[:, kept], mode="r")))
    return np.asarray(x[:, kept][:, diagonal > 1e-8 * size[kept]])


def proportional_hazards(
    x: Floats,
    fit: SmallCox,
    time: Floats,
    event: Bools,
    *,
    entry: Floats | None = None,
    strata: Array | None = None,
    column: int = 0,
) -> float:
    """p of the score test that one coefficient does not drift with 1 − S(t) (Grambsch & Therneau 1994).

    The test of adding x·g(t) to the model, g the centred Kaplan–Meier transform of time (Breslow's ties).
    """
    p = x.shape[1]
    g = 1 - kaplan_meier(time, event, entry=entry).at(time, left=True)[:, 0]
    g = g - g[event].mean()
    group = np.zeros(len(time), int) if strata is None else np.unique(strata, return_inverse=True)[1]
    drift, own = 0.0, 0.0
    cross, information = np.zeros(p), np.zeros((p, p))
    for s in np.unique(group[event]):
        k = group == s
        mean, spread = _risk_set_moments(
            x[k], fit.coef, time[k], event[k], None if entry is None else entry[k]
        )
        gk, xk = g[k][event[k]], x[k][event[k]]
        drift += float(gk @ (xk[:, column] - mean[:, column]))
        own += float(gk**2 @ spread[:, column, column])
        cross += gk @ spread[:, column]
        information += spread.sum(axis=0)
    variance = own - cross @ np.linalg.solve(information, cross)
    return float(chi2.sf(drift**2 / variance, 1))


def _risk_set_moments(
    x: Floats, coef: Floats, time: Floats, event: Bools, entry: Floats | None
) -> tuple[Floats, Floats]:
    """Weighted mean [d, p] and covariance [d, p, p] of x among those at risk, at each event."""
    r = np.exp((x - x.mean(axis=0)) @ coef)[:, None]
    n, p = x.shape
    t = time[event]
    products = (x[:, :, None] * x[:, None, :]).reshape(n, p * p)
    total = at_risk(time, entry, np.hstack([r, r * x, r * products]), t)
    mean = total[:, 1 : 1 + p] / total[:, :1]
    second = (total[:, 1 + p :] / total[:, :1]).reshape(-1, p, p)
    return mean, second - mean[:, :, None] * mean[:, None, :]


@dataclass(frozen=True)
class Subgroup:
    """C of the photograph among the patients of one level of a column.

    Attributes
    ----------
    column, level : str
    patients, events : int
    estimate, low, high : float or None
        None where there are too few events.
    quality : float or None
        Mean inversion error (LPIPS) of their photographs; None where not measured.
    """

    column: str
    level: str
    patients: int
    events: int
    estimate: float | None
    low: float | None
    high: float | None
    quality: float | None


def subgroups(
    frame: pd.DataFrame,
    outcome: Outcome,
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    least_events: int = LEAST_EVENTS,
    quality: Floats | None = None,
) -> list[Subgroup]:
    """C of one model within the levels of each column; numbers in thirds.

    Parameters
    ----------
    frame : DataFrame
        One model's out-of-fold rows.
    outcome : Outcome
    table : DataFrame
        Patients in the order of the outcome.
    columns : sequence of str
    least_events : int
        Levels with fewer events are given without an estimate.
    quality : array of float, shape (n,), optional
        Inversion error of the patient's photographs (LPIPS).
    """
    rows = []
    for name in columns:
        levels = levels_of(table[name])
        for level in sorted(set(levels) - {"missing"}):
            member = levels == level
            events = int(outcome.event[member].sum())
            c = _within(frame, outcome, member) if events >= least_events else Interval()
            error = None
            if quality is not None:
                mean = float(np.nanmean(np.asarray(quality)[member]))
                error = mean if np.isfinite(mean) else None
            rows.append(
                Subgroup(name, str(level), int(member.sum()), events, c.estimate, c.low, c.high, error)
            )
    return rows


def _within(frame: pd.DataFrame, outcome: Outcome, member: Bools) -> Interval:
    """C among some patients; nothing where no pair of them can be compared within the folds."""
    part = frame[frame["patient_id"].astype(str).isin(set(outcome.patient_id[member]))]
    try:
        c = pooled_concordance(part, outcome.subset(member))
    except InputError:
        return Interval()
    return Interval(c.estimate, *c.ci())


def levels_of(values: pd.Series) -> Array:
    """Text levels; a number with more than six values is cut into thirds."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > SEVERAL:
        edges = np.unique(np.quantile(values.dropna(), [0, 1 / 3, 2 / 3, 1]))
        cut = pd.cut(values, list(edges), include_lowest=True, precision=3)
        text = cut.map(lambda i: f"{i.left:.3g} to {i.right:.3g}", na_action="ignore").astype(object)
    else:
        text = values.astype(object).map(str, na_action="ignore")
    return np.asarray(text.where(values.notna(), "missing").to_numpy(str))


def c_by_censoring(
    frame: pd.DataFrame,
    outcome: Outcome,
    *,
    tau: float,
    strata: Array | None = None,
    covariates: Floats | None = None,
) -> dict[str, Interval]:
    """Uno's C of one model under each censoring model that the columns allow.

    Where follow-up ends on one calendar day and the photograph betrays the year, censoring depends on what
    the score sees, and the marginal Kaplan–Meier weights are wrong.

    Parameters
    ----------
    frame : DataFrame
        One model's out-of-fold rows.
    outcome : Outcome
    tau : float
        Upper end of Uno's C.
    strata : array, shape (n,), optional
        For the weights; the pairs are those of the plain C.
    covariates : array of float, shape (n, k), optional
    """
    models: dict[Censoring, Mapping[str, Array]] = {"km": {}}
    if strata is not None:
        models["stratified"] = {"censoring_strata": strata}
    if covariates is not None:
        models["cox"] = {"censoring_covariates": covariates}
    found: dict[str, Interval] = {}
    for name, given in models.items():
        c = pooled_concordance(frame, outcome, weights="uno", tau=tau, censoring=name, **given)
        found[name] = Interval(c.estimate, *c.ci())
    return found
