"""Everything that a reviewer asks beside the metrics, from one call: the sections of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stylegan_surv.audit.added_value import added_value, c_by_censoring, subgroups
from stylegan_surv.audit.controls import predict_column
from stylegan_surv.audit.photographs import Photographs, across_patients, measure
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.duplicates import alike, same_picture
from stylegan_surv.survival.design import ClinicalDesign, layer_groups, strata_from
from stylegan_surv.survival.metrics.table import default_tau, pooled_concordance
from stylegan_surv.survival.validation.folds import leave_group_out, temporal_split
from stylegan_surv.survival.validation.gram_cv import GramCV

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

__all__ = ["Photographs", "audit", "baselines", "measure", "nuisance_matrices", "set_against"]

Floats = NDArray[np.floating]
Progress = Callable[[int, int], None]
CIRCUMSTANCES = (
    "site",
    "camera",
    "era",
    "entry_year",
    "year",
    "photo_year",
)  # read from the latents, if there
SUBGROUPS = ("sex", "age", "entity", "stage", "site")


COMPARE = ("face-recognition",)
APPARENT_AGE = "apparent_age"  # column with somebody's, or some program's, estimate from the photograph
MOST_LEFT_OUT = 12  # sites above which leaving out one at a time is not done
EARLIER = 2 / 3  # share of the patients that a temporal split trains on


def set_against(
    table: pd.DataFrame,
    clinical: Sequence[str],
    chips: Chips | None,
    photos: pd.DataFrame,
    compare: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Floats | None]:
    """All that the photograph is set against on the same folds: baselines, pictures without the face, recognition.

    Parameters
    ----------
    table : DataFrame
        Patients with their covariates.
    chips, photos : Chips or None, DataFrame (photo_id, patient_id)
        The aligned photographs and whose they are.
    compare : sequence of str
        "face-recognition", which needs the chips.

    Returns
    -------
    matrices : dict
        For ``nested_cv(extra_matrices=…)``, rows as in `table`.
    recognition : array [photos, 128] or None

    Raises
    ------
    InputError
        An unknown comparison, or one without the photographs that it needs.
    """
    for name in compare:
        if name not in COMPARE:
            raise InputError(f"compare is {name!r}; expected one of {', '.join(COMPARE)}")
        if chips is None:
            raise InputError(
                f"comparing with {name} needs the aligned photographs: give their folder, --photos"
            )
    ids, seen = [str(p) for p in table["patient_id"]], None
    if chips is not None:
        names, owners = list(photos["photo_id"]), list(photos["patient_id"])
        seen = measure(chips, names, owners, progress, recognition="face-recognition" in compare)
    found: dict[str, Any] = {**baselines(table, clinical), **nuisance_matrices(seen, ids, table)}
    if seen is None or seen.recognition is None:
        return found, None
    found["face_recognition"] = seen.by_patient(seen.recognition, ids)
    return found, seen.recognition


def nuisance_matrices(
    photographs: Photographs | None, patients: Sequence[str], table: pd.DataFrame | None = None
) -> dict[str, Floats]:
    """Feature matrices without the face, for ``nested_cv(extra_matrices=…)``.

    Returns
    -------
    dict
        ``nuisance``: light, colour, sharpness, pose and crop of the photograph, and site, camera and year where
        `table` (patients in the same order) has them; ``background``: pixels outside the head;
        ``no_face``: pixels with the face masked out. Rows in the order of `patients`. Without photographs there is
        ``nuisance`` at most.
    """
    found, parts = {}, []
    columns = [c for c in CIRCUMSTANCES if table is not None and c in table]
    if photographs is not None:
        parts.append(photographs.by_patient(photographs.camera, patients))
    if table is not None and columns:
        parts.append(ClinicalDesign(columns).fit_transform(table).astype(np.float32))
    nuisance = np.hstack(parts) if parts else np.zeros((len(patients), 0))
    if nuisance.shape[1]:
        found["nuisance"] = nuisance
    if photographs is not None:
        found["background"] = photographs.by_patient(photographs.background, patients)
        found["no_face"] = photographs.by_patient(photographs.no_face, patients)
    return found


def baselines(table: pd.DataFrame, clinical: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Covariates to set the photograph against, for ``nested_cv(extra_matrices=…)``.

    Returns
    -------
    dict
        ``age_sex`` where the clinical variables are more than these two, and ``apparent_age`` where the table has
        such a column: an estimate of the age from the photograph, by people or by a program.
    """
    found = {}
    plain = [c for c in ("age", "sex") if c in clinical]
    if plain and len(plain) < len(clinical):
        found["age_sex"] = table[plain]
    if APPARENT_AGE in table and table[APPARENT_AGE].notna().any():
        found[APPARENT_AGE] = table[[APPARENT_AGE]]
    return found


def audit(
    x: Floats,
    outcome: Outcome,
    oof: pd.DataFrame,
    *,
    table: pd.DataFrame,
    fold: NDArray[np.intp],
    clinical: Sequence[str] = (),
    strata: NDArray | None = None,
    chips: Chips | None = None,
    photos: pd.DataFrame | None = None,
    quality: Floats | None = None,
    recognition: Floats | None = None,
    shape: tuple[int, int] | None = None,
    tau: float | None = None,
    n_permutations: int = 199,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Added value, subgroups, censoring models and controls of a cross-validated study.

    Parameters
    ----------
    x : array [n, p]
        Latents, one row per patient in the order of `outcome`.
    oof : DataFrame
        Out-of-fold results with the model "photo".
    table : DataFrame [n rows]
        Patients with their covariates, in the same order.
    fold : int array [n]
        Folds of the first repeat.
    clinical : sequence of str
        Columns that the clinic knows.
    strata : array [n], optional
        Era, site: permutations stay within, the censoring model may use it.
    chips, photos : Chips and DataFrame (photo_id, patient_id), optional
        The aligned photographs and whose they are, for duplicates across patients.
    quality : array [n], optional
        Inversion error per patient, shown beside the subgroups.
    recognition : array [photos, 128], optional
        Face-recognition embeddings in the order of `photos`, for people who occur twice.
    shape : (num_ws, w_dim), optional
        Shape of a patient's W+, for the layer groups.
    n_permutations : int
        Reruns of the cross-validation for the test of added value; 0 leaves the test out.

    Returns
    -------
    dict
        ``added_value``, ``subgroups``, ``c_by_censoring``, ``c_within``, ``transport``, ``layer_groups`` and
        ``controls``.
    """
    tau = default_tau(outcome) if tau is None else tau
    design = ClinicalDesign().fit_transform(table[list(clinical)]) if clinical else None
    photo = oof[oof["model"] == "photo"]
    found: dict[str, Any] = {"controls": {}}
    controls = found["controls"]
    if n_permutations:
        added = added_value(
            GramCV(x, fold, seed=seed).out_of_fold_risk, outcome, design, fold=fold, strata=strata,
            n_permutations=n_permutations, seed=seed, progress=progress,
        )  # fmt: skip
        found["added_value"] = added.to_dict()
        controls["permuted_outcome"] = added.concordance.to_dict()
    columns = [c for c in dict.fromkeys((*clinical, *SUBGROUPS)) if c in table]
    rows = subgroups(photo, outcome, table, columns, quality=quality)
    found["subgroups"] = [
        {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
        for row in rows.to_dict("records")
    ]
    found["c_by_censoring"] = c_by_censoring(photo, outcome, tau=tau, strata=strata, covariates=_when(table))
    found["c_within"] = {name: _c(photo, outcome, level) for name, level in _circumstances(table).items()}
    found["transport"] = _transport(x, outcome, table, seed)
    if shape is not None:
        found["layer_groups"] = _layer_groups(x, outcome, fold, shape, seed)
    controls["from_latents"] = _from_latents(x, table, fold, strata, seed)
    if chips is not None and photos is not None:
        owner = dict(zip(photos["photo_id"].astype(str), photos["patient_id"].astype(str)))
        controls["duplicates"] = across_patients(same_picture(chips), owner)
        if recognition is not None:
            controls["same_person"] = across_patients(alike(list(owner), recognition), owner)
    return found


def _when(table: pd.DataFrame) -> Floats | None:
    """The year of the photograph, on which the length of follow-up may depend."""
    for name in ("photo_year", "entry_year", "year"):
        if name in table and pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > 1:
            values = table[name].astype(float)
            return np.asarray(values.fillna(values.mean()).to_numpy())[:, None]
    return None


def _circumstances(table: pd.DataFrame) -> dict[str, NDArray]:
    """Levels within which the photograph should still tell something; years in bins of five."""
    found = {}
    for name in (c for c in CIRCUMSTANCES if c in table):
        numeric = pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > 10
        level = strata_from(f"{name}:5" if numeric else name, table)
        if len(set(level)) > 1:
            found[name] = level
    return found


def _c(frame: pd.DataFrame, outcome: Outcome, strata: NDArray | None = None) -> dict[str, float | None]:
    try:
        c = pooled_concordance(frame, outcome, strata=strata)
    except InputError:  # no two patients of one level are in a fold
        return dict.fromkeys(("estimate", "low", "high"))
    return dict(zip(("estimate", "low", "high"), (c.estimate, *c.ci())))


def _layer_groups(
    x: Floats, outcome: Outcome, fold: NDArray[np.intp], shape: tuple[int, int], seed: int
) -> dict[str, Any]:
    """C of each layer group ``alone``, and of all ``without`` it, cross-validated on the study's folds."""
    groups = layer_groups(*shape)
    if len(groups) < 2:
        return {}
    return {
        name: {
            "alone": _cross_validated(x[:, columns], outcome, fold, seed),
            "without": _cross_validated(np.delete(x, columns, axis=1), outcome, fold, seed),
        }
        for name, columns in groups.items()
    }


def _transport(x: Floats, outcome: Outcome, table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """C of the photograph at sites, and in years, that the model was not trained on, where columns tell them."""
    divisions = {}
    for name in ("site", "camera"):
        if name in table and 1 < table[name].nunique(dropna=False) <= MOST_LEFT_OUT:
            divisions[f"other {name}s"] = leave_group_out(table[name].to_numpy())
    for name in ("photo_year", "entry_year", "year"):
        if name in table and pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > 1:
            cut = float(table[name].quantile(EARLIER))
            if table[name].min() < cut:
                divisions[f"before {name} {cut:g}"] = temporal_split(table[name].to_numpy(float), cut)
            break
    found = {}
    for trained_on, fold in divisions.items():
        try:
            found[trained_on] = _cross_validated(x, outcome, fold, seed)
        except InputError:  # a training part without events
            continue
    return found


def _cross_validated(
    x: Floats, outcome: Outcome, fold: NDArray[np.intp], seed: int
) -> dict[str, float | None]:
    """C of ridge Cox on some columns, pairs within the folds; three inner folds, since there are many of these."""
    risk = GramCV(x, fold, inner=3, seed=seed).out_of_fold_risk(outcome)
    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": fold, "risk": risk})
    return _c(frame.dropna(), outcome)


def _from_latents(
    x: Floats, table: pd.DataFrame, fold: NDArray[np.intp], strata: NDArray | None, seed: int
) -> dict[str, Any]:
    columns = {name: table[name] for name in CIRCUMSTANCES if name in table}
    if strata is not None:
        columns["strata"] = pd.Series(np.asarray(strata).astype(str))
    found = {name: predict_column(x, column, fold, seed=seed) for name, column in columns.items()}
    return {name: value.to_dict() for name, value in found.items() if value is not None}
