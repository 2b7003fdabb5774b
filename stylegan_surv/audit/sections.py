"""Everything that a reviewer asks beside the metrics, from one call: sections of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stylegan_surv._records import Section
from stylegan_surv._types import Array, Floats, Ints, Progress
from stylegan_surv.audit.added_value import (
    LEAST_EVENTS,
    AddedValue,
    Subgroup,
    added_value,
    c_by_censoring,
    subgroups,
)
from stylegan_surv.audit.circumstances import Circumstances
from stylegan_surv.audit.controls import Permutations, Predicted, predict_column
from stylegan_surv.audit.hazards import HazardsOverTime, hazards_over_time
from stylegan_surv.audit.interactions import Interaction, interactions
from stylegan_surv.audit.judged import Judged
from stylegan_surv.audit.photographs import AlikePair, across_patients
from stylegan_surv.audit.skin_tone import SKIN_TONE, bands
from stylegan_surv.errors import InputError
from stylegan_surv.faces.duplicates import alike, same_picture
from stylegan_surv.survival.design import layer_groups, strata_from
from stylegan_surv.survival.engines.curved import CurvedDesign
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.table import default_tau, pooled_concordance
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import leave_group_out, temporal_split
from stylegan_surv.survival.validation.gram_cv import GramCV

SUBGROUPS = ("sex", "age", SKIN_TONE, "entity", "stage", "site")
MOST_LEFT_OUT = 12  # places above which leaving out one at a time is not done
EARLIER = 2 / 3  # share of the patients that a temporal split trains on
INNER = 3  # inner folds of the many small cross-validations
SEVERAL = 10  # distinct numbers above which a column is binned
BIN = 5  # years


@dataclass(frozen=True)
class LayerGroup:
    """C of a group of latent layers alone, and of all others."""

    alone: Interval
    without: Interval


@dataclass(frozen=True)
class Controls(Section):
    """Checks that the result is what it seems.

    Attributes
    ----------
    from_latents : dict of Predicted
        How well a column can be read from the latents.
    permuted_outcome : Permutations or None
        The photograph's C with outcomes of other patients; None without permutations.
    duplicates, same_person : tuple of AlikePair or None
        One picture, and one person, under two patients; None where it was not looked for.
    """

    from_latents: Mapping[str, Predicted]
    permuted_outcome: Permutations | None = None
    duplicates: tuple[AlikePair, ...] | None = None
    same_person: tuple[AlikePair, ...] | None = None


@dataclass(frozen=True)
class Audit(Section):
    """Sections of ``metrics.json``.

    Attributes
    ----------
    controls : Controls
    subgroups : list of Subgroup
    interactions : dict of Interaction
        Whether the photograph's score tells more in some levels of a column than in others.
    c_by_censoring : dict of Interval
        Uno's C of the photograph by the model of the censoring.
    c_within : dict of Interval
        Its C among patients of the same site, camera, era or years.
    transport : dict of Interval
        Its C at sites and in years that the model was not trained on.
    layer_groups : dict of LayerGroup
    circumstances : Circumstances
        Columns that tell where, by what and when the photographs were taken, and what no column tells.
    added_value : AddedValue or None
        None without permutations.
    hazards : HazardsOverTime or None
        Of the photograph's score, first repeat; None where there are too few events.
    """

    controls: Controls
    subgroups: list[Subgroup]
    interactions: Mapping[str, Interaction]
    c_by_censoring: Mapping[str, Interval]
    c_within: Mapping[str, Interval]
    transport: Mapping[str, Interval]
    layer_groups: Mapping[str, LayerGroup]
    circumstances: Circumstances
    added_value: AddedValue | None = None
    hazards: HazardsOverTime | None = None


def audit(
    judged: Judged,
    *,
    n_permutations: int,
    seed: int = 0,
    tau: float | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Added value, subgroups, censoring models and controls of a cross-validated study.

    Parameters
    ----------
    judged : Judged
        The patients, with out-of-fold results of the model "photo".
    n_permutations : int
        Reruns of the cross-validation for the test of added value; 0 leaves the test out.
    seed : int
    tau : float, optional
        Upper end of Uno's C; by default `default_tau`.
    progress : callable, optional
        Called with (done, total) permutations.
    """
    outcome, table, photo = judged.outcome, judged.table, judged.photo
    added = _added(judged, n_permutations, seed, progress) if n_permutations else None
    divided = table
    if judged.skin_tone is not None and SKIN_TONE not in table:
        event = np.asarray(outcome.event, bool)
        divided = table.assign(**{SKIN_TONE: bands(judged.skin_tone, event, LEAST_EVENTS)})
    columns = [c for c in dict.fromkeys((*judged.clinical, *SUBGROUPS)) if c in divided]
    tau = default_tau(outcome) if tau is None else tau
    return Audit(
        controls=_controls(judged, added, seed),
        subgroups=subgroups(photo, outcome, divided, columns, quality=judged.quality),
        interactions=interactions(photo, outcome, divided, columns),
        c_by_censoring=c_by_censoring(
            photo, outcome, tau=tau, strata=judged.strata, covariates=_when(judged)
        ),
        c_within={name: _c(photo, outcome, level) for name, level in _levels(judged).items()},
        transport=_transport(judged, seed),
        layer_groups=_layer_groups(judged, seed),
        circumstances=judged.circumstances,
        added_value=added,
        hazards=_hazards(judged),
    )


def _design(judged: Judged) -> Floats | None:
    clinical = list(judged.clinical)
    if not clinical:
        return None
    table = judged.table[clinical]
    return np.asarray(CurvedDesign(linear=judged.linear).fit(table, judged.outcome).transform(table))


def _hazards(judged: Judged) -> HazardsOverTime | None:
    photo = judged.photo
    first = photo[photo["repeat"] == photo["repeat"].min()].set_index("patient_id")["risk"]
    score = first.reindex(judged.outcome.patient_id).to_numpy(float)
    return hazards_over_time(score, judged.outcome, _design(judged), fold=judged.fold, strata=judged.strata)


def _added(judged: Judged, n_permutations: int, seed: int, progress: Progress | None) -> AddedValue:
    return added_value(
        GramCV(judged.x, judged.fold, seed=seed).out_of_fold_risk,
        judged.outcome,
        _design(judged),
        fold=judged.fold,
        strata=judged.strata,
        n_permutations=n_permutations,
        seed=seed,
        progress=progress,
    )


def _controls(judged: Judged, added: AddedValue | None, seed: int) -> Controls:
    duplicates = same_person = None
    if judged.chips is not None:
        photos = judged.photos
        owner = dict(zip(photos["photo_id"].astype(str), photos["patient_id"].astype(str)))
        duplicates = across_patients(same_picture(judged.chips), owner)
        if judged.recognition is not None:
            same_person = across_patients(alike(list(owner), judged.recognition), owner)
    permuted = None if added is None else added.concordance
    return Controls(_from_latents(judged, seed), permuted, duplicates, same_person)


def _when(judged: Judged) -> Floats | None:
    """The year of the photograph, on which the length of follow-up may depend, shape (n, 1)."""
    if not judged.circumstances.year:
        return None
    values = judged.table[judged.circumstances.year[0]].astype(float)
    return np.asarray(values.fillna(values.mean()).to_numpy())[:, None]


def _levels(judged: Judged) -> dict[str, Array]:
    """Levels within which the photograph should still tell something; years in bins of five."""
    found, table = {}, judged.table
    for name in (*judged.circumstances.named, *judged.circumstances.tried):
        numeric = pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > SEVERAL
        level = strata_from(f"{name}:{BIN}" if numeric else name, table)
        if len(set(level)) > 1:
            found[name] = level
    return found


def _c(frame: pd.DataFrame, outcome: Outcome, strata: Array | None = None) -> Interval:
    try:
        c = pooled_concordance(frame, outcome, strata=strata)
    except InputError:  # no two patients of one level are in a fold
        return Interval()
    return Interval(c.estimate, *c.ci())


def _layer_groups(judged: Judged, seed: int) -> dict[str, LayerGroup]:
    """Layer groups cross-validated on the study's folds."""
    x, outcome, fold = judged.x, judged.outcome, judged.fold
    groups = layer_groups(*judged.shape)
    if len(groups) < 2:
        return {}
    return {
        name: LayerGroup(
            alone=_cross_validated(x[:, columns], outcome, fold, seed),
            without=_cross_validated(np.delete(x, columns, axis=1), outcome, fold, seed),
        )
        for name, columns in groups.items()
    }


def _transport(judged: Judged, seed: int) -> dict[str, Interval]:
    """C of the photograph at sites, and in years, that the model was not trained on, where columns tell them."""
    divisions, table, told = {}, judged.table, judged.circumstances
    for name in (*told.site, *told.camera):
        if 1 < table[name].nunique(dropna=False) <= MOST_LEFT_OUT:
            divisions[f"other {name}s"] = leave_group_out(table[name].to_numpy())
    for year in told.year[:1]:
        cut = float(table[year].quantile(EARLIER))
        if table[year].min() < cut:
            divisions[f"before {year} {cut:g}"] = temporal_split(table[year].to_numpy(float), cut)
    found = {}
    for trained_on, fold in divisions.items():
        try:
            found[trained_on] = _cross_validated(judged.x, judged.outcome, fold, seed)
        except InputError:  # a training part without events
            continue
    return found


def _cross_validated(x: Floats, outcome: Outcome, fold: Ints, seed: int) -> Interval:
    """C of ridge Cox on some columns, pairs within the folds."""
    risk = GramCV(x, fold, inner=INNER, seed=seed).out_of_fold_risk(outcome)
    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": fold, "risk": risk})
    return _c(frame.dropna(), outcome)


def _from_latents(judged: Judged, seed: int) -> dict[str, Predicted]:
    told = judged.circumstances
    columns = {name: judged.table[name] for name in (*told.named, *told.tried)}
    if judged.strata is not None:
        columns["strata"] = pd.Series(np.asarray(judged.strata).astype(str))
    found = {
        name: predict_column(judged.x, values, judged.fold, seed=seed) for name, values in columns.items()
    }
    return {name: value for name, value in found.items() if value is not None}
