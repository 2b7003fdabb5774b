"""A study's patients with their out-of-fold scores, as lifelines and scikit-survival take them.

lifelines is used for the log-rank test and the restricted mean. Late entry is this package's own: lifelines' baseline
hazard ignores it, and its log-rank test does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from stylegan_surv._types import Array, Floats
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.interval import LEVEL, Interval
from stylegan_surv.survival.metrics.kaplan_meier import at_risk, kaplan_meier
from stylegan_surv.survival.outcome import Outcome

RESERVED = ("patient_id", "time", "event", "entry", "strata", "event_cause")


def scores_by_patient(oof: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Out-of-fold scores, one column ``score_<model>`` for each model, rows in the order of the outcome.

    Risks of different folds have different zeros and spreads; within each fold they are brought to mean 0 and SD 1,
    then averaged over the repeats. NaN where a patient was never held out.
    """
    keys = ["model", "repeat", "fold"]
    groups = oof.groupby(keys)["risk"]
    z = (oof["risk"] - groups.transform("mean")) / groups.transform("std").replace(0.0, np.nan)
    mean = z.fillna(0.0).groupby([oof["patient_id"].astype(str), oof["model"]]).mean().unstack()
    models = list(dict.fromkeys(oof["model"]))
    table = mean.reindex(outcome.patient_id)[models].reset_index(drop=True)
    return table.set_axis([f"score_{model}" for model in models], axis=1)


def to_lifelines(oof: pd.DataFrame, outcome: Outcome, covariates: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per patient, for lifelines' fitters.

    Parameters
    ----------
    oof : DataFrame
        Out-of-fold results.
    outcome : Outcome
    covariates : DataFrame, shape (n, columns), optional
        Rows in the order of the outcome.

    Returns
    -------
    DataFrame
        Indexed by patient: ``time``, ``event`` (0/1), where there are any ``entry``, ``strata`` and ``event_cause``,
        then the covariates and the scores. ``CoxPHFitter().fit(frame[[...]], "time", "event", entry_col="entry")``.

    Raises
    ------
    InputError
        A covariate has a name that the outcome needs.
    """
    columns: dict[str, Array] = {"time": outcome.time, "event": outcome.event.astype(int)}
    further = {"entry": outcome.entry, "strata": outcome.strata, "event_cause": outcome.cause}
    columns |= {name: values for name, values in further.items() if values is not None}
    parts = [pd.DataFrame(columns)]
    if covariates is not None:
        if clash := [name for name in covariates if name in RESERVED]:
            raise InputError(f"covariates: {clash[0]!r} is a name of the outcome; rename the column.")
        parts.append(covariates.reset_index(drop=True))
    parts.append(scores_by_patient(oof, outcome))
    return pd.concat(parts, axis=1).set_index(pd.Index(outcome.patient_id, name="patient_id"))


def to_scikit_survival(
    oof: pd.DataFrame, outcome: Outcome, covariates: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, Array]:
    """X (scores and covariates) and y (fields ``event`` and ``time``), for scikit-survival's estimators and metrics.

    Raises
    ------
    InputError
        Patients enter late or causes compete, neither of which scikit-survival's ``y`` can say.
    """
    if outcome.entry is not None or outcome.competing is not None:
        what = "late entry" if outcome.entry is not None else "competing deaths"
        raise InputError(f"scikit-survival's y cannot hold {what}; use to_lifelines, whose table does.")
    frame = to_lifelines(oof, outcome, covariates)
    return frame.drop(columns=[name for name in RESERVED if name in frame]), outcome.y


@dataclass(frozen=True)
class GroupComparison:
    """Survival of groups of patients.

    Attributes
    ----------
    chi_square, p : float
        Log-rank test that all hazards are the same.
    tau : float
        Upper end of the restricted means, in the cohort's time unit.
    restricted_mean : dict of Interval
        By group: mean time without the event up to `tau`.
    """

    chi_square: float
    p: float
    tau: float
    restricted_mean: Mapping[str, Interval]


def compare_groups(outcome: Outcome, group: Array, tau: float | None = None) -> GroupComparison:
    """Log-rank test and restricted mean survival time by group.

    Parameters
    ----------
    outcome : Outcome
    group : array of str, shape (n,)
    tau : float, optional
        By default the earliest of the groups' last times, up to which all their curves are known.

    Raises
    ------
    InputError
        Patients enter late, or there is one group only.

    Notes
    -----
    The test and the means are lifelines'. The interval is not: what lifelines returns with `return_variance` is the
    variance of min(T, τ) and not of the estimated mean, which is Σ A(t)² d/{n(n − d)} with A(t) the area under the
    curve from t to τ (Klein & Moeschberger 2003, equation 4.5.2).
    """
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import multivariate_logrank_test
    from lifelines.utils import restricted_mean_survival_time

    names = list(dict.fromkeys(np.asarray(group).astype(str)))
    if outcome.entry is not None:
        raise InputError(
            "compare_groups: the log-rank test does not know late entry; compare by a Cox model."
        )
    if len(names) < 2:
        raise InputError(f"compare_groups: got one group ({names}), expected at least two.")
    members = {name: np.asarray(group).astype(str) == name for name in names}
    end = min(float(outcome.time[m].max()) for m in members.values()) if tau is None else float(tau)
    test = multivariate_logrank_test(outcome.time, np.asarray(group).astype(str), outcome.event)
    means = {}
    for name, m in members.items():
        curve = KaplanMeierFitter().fit(outcome.time[m], outcome.event[m])
        mean = float(restricted_mean_survival_time(curve, t=end))
        half = float(
            norm.ppf((1 + LEVEL) / 2) * restricted_mean_error(outcome.time[m], outcome.event[m], end)
        )
        means[name] = Interval(mean, mean - half, mean + half)
    return GroupComparison(float(test.test_statistic), float(test.p_value), end, means)


def restricted_mean_error(time: Floats, event: Array, tau: float) -> float:
    """Standard error of the area under the Kaplan–Meier curve up to `tau`."""
    curve = kaplan_meier(time, event)
    inside = curve.times < tau
    times, survival = curve.times[inside], curve.values[1:, 0][: inside.sum()]
    area = np.cumsum((np.diff(np.append(times, tau)) * survival)[::-1])[::-1]
    n = at_risk(time, None, np.ones((len(time), 1)), times)[:, 0]
    d = np.array([(event & (time == t)).sum() for t in times])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(n > d, area**2 * d / (n * (n - d)), 0.0)
    return float(np.sqrt(terms.sum()))
