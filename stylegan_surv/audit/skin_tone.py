"""Bands of skin tone as a subgroup: does the model serve everybody alike?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stylegan_surv._types import Array, Bools, Floats, Ints
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.tone import BANDS, EDGES

SKIN_TONE = "skin_tone"
MISSING = "missing"


def by_patient(chips: Chips, photos: pd.DataFrame, patients: Sequence[str]) -> Floats | None:
    """Median typology angle of each patient's photographs, shape (n,), degrees; None where it was not measured.

    Parameters
    ----------
    chips : Chips
    photos : DataFrame
        ``photo_id, patient_id``.
    patients : sequence of str
        Order of the result.
    """
    if "ita_deg" not in chips.table or chips.table["ita_deg"].isna().all():
        return None
    angle = dict(zip(chips.table["photo_id"], chips.table["ita_deg"].astype(float)))
    values = pd.Series([angle.get(name, np.nan) for name in photos["photo_id"]], dtype=float)
    owner = photos["patient_id"].astype(str).to_numpy()
    return np.asarray(values.groupby(owner).median().reindex(list(patients)).to_numpy())


def bands(angle: Floats, event: Bools, least_events: int) -> Array:
    """The usual six bands, those with few events merged with a neighbour.

    Parameters
    ----------
    angle : array of float, shape (n,)
        Degrees; NaN where not measurable.
    event : array of bool, shape (n,)
    least_events : int
        A band with fewer events is merged with the neighbour that has fewer.

    Returns
    -------
    array of str, shape (n,)
        Such as ``"1 dark"`` or ``"2–4 brown to intermediate"``, numbered so that their order is that of the alphabet;
        ``"missing"`` where not measurable.
    """
    known = np.isfinite(angle)
    band: Ints = np.searchsorted(EDGES, np.where(known, angle, 0.0), side="left")
    groups = [[k] for k in range(len(BANDS))]

    def events(group: list[int]) -> int:
        return int((event & known & np.isin(band, group)).sum())

    while len(groups) > 1:
        counts = [events(group) for group in groups]
        small = int(np.argmin(counts))
        if counts[small] >= least_events:
            break
        beside = [k for k in (small - 1, small + 1) if 0 <= k < len(groups)]
        first = min(small, min(beside, key=lambda k: counts[k]))
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
    names = np.empty(len(BANDS), dtype=object)
    for group in groups:
        names[group] = _named(group[0], group[-1])
    return np.where(known, names[band], MISSING).astype(str)


def _named(first: int, last: int) -> str:
    if first == last:
        return f"{first + 1} {BANDS[first]}"
    return f"{first + 1}–{last + 1} {BANDS[first]} to {BANDS[last]}"
