"""What the photograph is set against on the same folds: covariates, pictures without the face, face recognition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stylegan_surv._types import Floats, Progress
from stylegan_surv.audit.photographs import Photographs, measure
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.survival.design import ClinicalDesign
from stylegan_surv.survival.metrics import names

RECOGNITION = "face-recognition"
COMPARE = (RECOGNITION,)  # rivals that have to be asked for


@dataclass(frozen=True, eq=False)
class Rivals:
    """Feature matrices to cross-validate beside the photograph.

    Attributes
    ----------
    matrices : dict of str to array of float, shape (n, k), or DataFrame
        For ``nested_cv(extra_matrices=…)``, rows as the patients.
    recognition : array of float, shape (photos, 128), or None
        Face-recognition embeddings, where they were asked for.
    """

    matrices: Mapping[str, Floats | pd.DataFrame]
    recognition: Floats | None = None


def set_against(
    table: pd.DataFrame,
    clinical: Sequence[str],
    chips: Chips | None,
    photos: pd.DataFrame,
    compare: Sequence[str] = (),
    circumstances: Sequence[str] = (),
    progress: Progress | None = None,
) -> Rivals:
    """All that the photograph is set against.

    Parameters
    ----------
    table : DataFrame
        Patients with their covariates.
    clinical : sequence of str
        Columns that the clinic knows.
    chips : Chips or None
        The aligned photographs; without them there are no pictures to set against.
    photos : DataFrame
        ``photo_id, patient_id`` of the photographs.
    compare : sequence of str
        "face-recognition", which needs the chips.
    circumstances : sequence of str
        Columns of the table that tell where, by what and when the photographs were taken.
    progress : callable, optional
        Called with (done, total).

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
        photo_ids, owners = list(photos["photo_id"]), list(photos["patient_id"])
        seen = measure(chips, photo_ids, owners, progress, recognition=RECOGNITION in compare)
    found: dict[str, Floats | pd.DataFrame] = {
        **baselines(table, clinical),
        **nuisance_matrices(seen, ids, table[list(circumstances)]),
    }
    if seen is None or seen.recognition is None:
        return Rivals(found)
    found[names.FACE_RECOGNITION] = seen.by_patient(seen.recognition, ids)
    return Rivals(found, seen.recognition)


def nuisance_matrices(
    photographs: Photographs | None, patients: Sequence[str], table: pd.DataFrame | None = None
) -> dict[str, Floats]:
    """Feature matrices without the face.

    Parameters
    ----------
    photographs : Photographs or None
    patients : sequence of str
        Order of the rows.
    table : DataFrame, optional
        Columns that tell of the circumstances, rows in the same order.

    Returns
    -------
    dict of str to array of float, shape (n, k)
        ``nuisance``: light, colour, sharpness, pose and crop of the photograph, and the columns of
        `table`; ``background``: pixels behind the person; ``no_face``: pixels with the face masked out.
        Without photographs there is ``nuisance`` at most.
    """
    found, parts = {}, []
    if photographs is not None:
        parts.append(photographs.by_patient(photographs.camera, patients))
    if table is not None and table.shape[1]:
        parts.append(ClinicalDesign().fit_transform(table).astype(np.float32))
    nuisance = np.hstack(parts) if parts else np.zeros((len(patients), 0))
    if nuisance.shape[1]:
        found[names.NUISANCE] = nuisance
    if photographs is not None:
        found[names.BACKGROUND] = photographs.by_patient(photographs.background, patients)
        found[names.NO_FACE] = photographs.by_patient(photographs.no_face, patients)
    return found


def baselines(table: pd.DataFrame, clinical: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Covariates to set the photograph against.

    Returns
    -------
    dict of str to DataFrame
        ``age_sex`` where the clinical variables are more than these two, and ``apparent_age`` where the table has
        such a column: an estimate of the age from the photograph, by people or by a program.
    """
    found = {}
    plain = [c for c in ("age", "sex") if c in clinical]
    if plain and len(plain) < len(clinical):
        found[names.AGE_SEX] = table[plain]
    if names.APPARENT_AGE in table and table[names.APPARENT_AGE].notna().any():
        found[names.APPARENT_AGE] = table[[names.APPARENT_AGE]]
    return found
