"""Does the score tell more in one group than in another: a test of interaction, and how C differs between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import chi2

from stylegan_surv._types import Array, Floats
from stylegan_surv.audit.added_value import LEAST_EVENTS, levels_of
from stylegan_surv.errors import InputError
from stylegan_surv.survival.cox.plain import fit_cox
from stylegan_surv.survival.metrics.concordance import pooled_concordance

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome


@dataclass(frozen=True)
class Interaction:
    """The score in the levels of one column.

    Attributes
    ----------
    levels : int
        With enough events.
    p : float
        Likelihood-ratio test that the score has one hazard ratio in all levels, in a Cox model stratified by them,
        adjusted over the columns (Holm 1979).
    q, p_q : float
        Cochran's Q of logit C over the levels, and its p: C differs with the spread of the score (case mix), too.
    sd : dict of float
        Standard deviation of the score within each level, that of all patients being 1.
    """

    levels: int
    p: float
    q: float
    p_q: float
    sd: Mapping[str, float]


def interactions(
    frame: pd.DataFrame, outcome: Outcome, table: pd.DataFrame, columns: Sequence[str]
) -> dict[str, Interaction]:
    """Interaction of one model's score with each column that has two levels of 20 events or more.

    Parameters
    ----------
    frame : DataFrame
        One model's out-of-fold rows; the first repeat is tested, C is that of all repeats.
    outcome : Outcome
    table : DataFrame
        Patients in the order of the outcome.
    columns : sequence of str
    """
    first = frame[frame["repeat"] == frame["repeat"].min()].set_index("patient_id")
    rows = first.reindex(outcome.patient_id)
    z = (rows["risk"] - rows.groupby("fold")["risk"].transform("mean")).to_numpy(float)
    z = z / np.nanstd(z)
    found = {}
    for name in columns:
        level = levels_of(table[name])
        kept = [
            k for k in sorted(set(level) - {"missing"})
            if outcome.event[(level == k) & np.isfinite(z)].sum() >= LEAST_EVENTS
        ]  # fmt: skip
        if len(kept) > 1 and (one := _interaction(z, outcome, level, kept, frame)) is not None:
            found[name] = one
    return _holm(found)


def _interaction(
    z: Floats, outcome: Outcome, level: Array, kept: Sequence[str], frame: pd.DataFrame
) -> Interaction | None:
    use = np.isin(level, kept) & np.isfinite(z)
    part, score, group = outcome.subset(use), z[use], level[use]
    if min(np.ptp(score[group == k]) for k in kept) <= 0:
        return None
    own = score[:, None] * (group[:, None] == np.array(kept))
    try:
        apart, common = (
            fit_cox(x, part.time, part.event, entry=part.entry, strata=group) for x in (own, score[:, None])
        )
        q, p_q = heterogeneity(frame, outcome, level, kept)
    except InputError:  # separated, or no two patients of a level in one fold
        return None
    if not np.isfinite([apart.log_likelihood, common.log_likelihood, q]).all():
        return None
    statistic = max(0.0, 2 * (apart.log_likelihood - common.log_likelihood))
    sd = {k: float(np.std(score[group == k])) for k in kept}
    return Interaction(len(kept), float(chi2.sf(statistic, len(kept) - 1)), q, p_q, sd)


def heterogeneity(
    frame: pd.DataFrame, outcome: Outcome, level: Array, kept: Sequence[str]
) -> tuple[float, float]:
    """Cochran's Q of logit C over the levels, and its p (Snell et al. 2018 for the scale)."""
    logit, weight = np.empty(len(kept)), np.empty(len(kept))
    for i, k in enumerate(kept):
        member = level == k
        c = pooled_concordance(
            frame[frame["patient_id"].isin(set(outcome.patient_id[member]))], outcome.subset(member)
        )
        p = float(np.clip(c.estimate, 1e-3, 1 - 1e-3))
        logit[i] = np.log(p / (1 - p))
        weight[i] = (p * (1 - p) / max(c.se, 1e-6)) ** 2
    q = float(weight @ (logit - weight @ logit / weight.sum()) ** 2)
    return q, float(chi2.sf(q, len(kept) - 1))


def _holm(found: Mapping[str, Interaction]) -> dict[str, Interaction]:
    """The same with p adjusted over the columns, in their order."""
    adjusted, least = {}, 0.0
    for k, name in enumerate(sorted(found, key=lambda n: found[n].p)):
        least = max(least, min(1.0, found[name].p * (len(found) - k)))
        adjusted[name] = least
    return {name: replace(one, p=adjusted[name]) for name, one in found.items()}
