"""The clinical table and its photographs: every check on what a user brings lives here.

One row per photograph, one outcome per patient. Nothing is repaired silently: all faults of a table are
collected and reported together, with row, column, value and what is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stylegan_surv._causes import cause_flags, read_events
from stylegan_surv._covariates import ISO_DATE, Reading, check_ages, read_covariate
from stylegan_surv._notebook import facts_table
from stylegan_surv._photos import photo_folder, photo_paths, relative_name
from stylegan_surv._table import Faults, blank, identity, numbers, present, read_table
from stylegan_surv.errors import InputError

REQUIRED = ("patient_id", "photo", "time", "event")
UNKNOWN = {"time": "1e6", "event": "0"}  # of patients who have not been followed yet
OPTIONAL = ("entry", "photo_date", "origin_date")
DERIVED = (
    "photo_id",
    "path",
    "photo_time",
    "n_photos",
    "event_cause",
)  # made here; ignored in a table that was read before
NOMINAL = ("sex", "entity", "site", "camera", "era")  # labels even where they are coded as numbers
NUMERIC = ("age",)
LABELS = (
    "patient_id",
    "photo",
    "photo_date",
    "origin_date",
    "photo_id",
    "path",
    *NOMINAL,
)  # never read as numbers
PER_PHOTO = ("camera",)  # may differ between photographs of one patient; every other covariate may not
DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}  # length of a time unit in days


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients, their follow-up and their photographs.

    Attributes
    ----------
    table : DataFrame
        One row per photograph: ``photo_id`` (safe as a file name, unique), ``patient_id``, ``photo`` (its
        name relative to the folder), ``path`` (absolute, or None), ``time``, ``event`` (bool), ``entry`` (0
        where nothing is truncated), ``photo_time`` (photograph minus time zero, NaN where undated), then the
        covariates.
    patients : DataFrame
        One row per patient, in order of first appearance: ``patient_id, time, event, entry``, the covariates
        and ``n_photos``.
    covariates : list of str
        Names of the clinical columns; numbers are floats or integers, everything else is text or None.
    time_unit, time_origin : str
        ``"years"``, ``"months"``, ``"weeks"`` or ``"days"``, and what time zero is, in words.
    flags : tuple of str
        What a reader of the report must know about this table, in plain language.
    photos_dir : Path or None
        The folder of the photographs, or of their aligned chips.
    readings : mapping of str to Reading
        How each covariate was read, and why it cannot stand in a model, if so.
    """

    table: pd.DataFrame
    patients: pd.DataFrame
    covariates: list[str]
    time_unit: str = "years"
    time_origin: str = ""
    flags: tuple[str, ...] = ()
    photos_dir: Path | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.patients)

    def _repr_html_(self) -> str:
        facts = {
            "patients": len(self),
            "events": int(self.patients["event"].sum()),
            "photographs": len(self.table),
        }
        told = {
            "covariates": ", ".join(self.covariates) or "none",
            "time": f"{self.time_unit} {self.time_origin}",
        }
        notes = {f"note {k + 1}": flag for k, flag in enumerate(self.flags)}
        return facts_table("Cohort", {**facts, **told, **notes})

    def index_photos(self) -> pd.DataFrame:
        """Rows of ``table`` taken on each patient's index date: the earliest date; all rows if undated."""
        return self.table[_is_index(self.table)]

    def landmark(self, at: float) -> Cohort:
        """Cohort as seen at a later time: who is still followed at `at`, with the latest photograph so far.

        The only way in which a photograph of a later date enters a model. Follow-up before the landmark is
        cut off by left truncation (``entry = at``), so that survival up to it counts for nobody.

        Parameters
        ----------
        at : float
            Landmark, in ``time_unit`` since time zero; > 0.
        """
        rows = self.table[(self.table["time"] > at) & (self.table["photo_time"] <= at)]
        latest = rows.groupby("patient_id")["photo_time"].transform("max")
        rows = rows[rows["photo_time"] == latest]
        if rows.empty:
            raise InputError(
                f"No patient has a dated photograph by {at} {self.time_unit} and follow-up beyond it; "
                "a landmark needs the columns photo_date and origin_date."
            )
        rows = rows.assign(entry=rows["entry"].clip(lower=at))
        patients = _patients(rows, self.covariates)
        flag = f"Landmark analysis at {at} {self.time_unit} after time zero: {len(patients)} patients."
        return replace(self, table=rows.reset_index(drop=True), patients=patients, flags=(*self.flags, flag))

    def in_unit(self, unit: str) -> Cohort:
        """The same cohort with its times in another unit, one of `DAYS`."""
        if unit not in DAYS:
            raise InputError(f"time_unit is '{unit}'; expected one of {', '.join(DAYS)}.")
        if unit == self.time_unit:
            return self
        ratio = DAYS[self.time_unit] / DAYS[unit]

        def scaled(frame: pd.DataFrame) -> pd.DataFrame:
            times = [name for name in ("time", "entry", "photo_time") if name in frame]
            return frame.assign(**{name: frame[name] * ratio for name in times})

        return replace(self, table=scaled(self.table), patients=scaled(self.patients), time_unit=unit)

    def subset(self, patient_ids: Iterable[str]) -> Cohort:
        """Cohort of these patients only, in the cohort's own order; unknown identifiers are an InputError."""
        wanted = set(patient_ids)
        unknown = sorted(wanted - set(self.patients["patient_id"]))
        if unknown:
            raise InputError(f"Not in the cohort: {', '.join(unknown[:5])} ({len(unknown)} patients).")
        return replace(
            self,
            table=self.table[self.table["patient_id"].isin(wanted)].reset_index(drop=True),
            patients=self.patients[self.patients["patient_id"].isin(wanted)].reset_index(drop=True),
        )


def read_cohort(
    table: str | Path | pd.DataFrame,
    photos: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit: str = "years",
    time_origin: str = "",
    cause: int | None = None,
    followed: bool = True,
    check_photos: bool = True,
) -> Cohort:
    """Read and check a clinical table with one row per photograph.

    Parameters
    ----------
    table : str, Path or DataFrame
        CSV (UTF-8; comma, semicolon or tab), Excel, Parquet or a frame with the columns ``patient_id``,
        ``photo``, ``time`` (> 0) and ``event`` (0/1); optionally ``entry`` (0 ≤ entry < time), ``photo_date``
        and ``origin_date`` (YYYY-MM-DD) and any covariate.
    photos : str or Path, optional
        Folder that the names in ``photo`` are relative to, and lie in; or a folder of aligned chips.
    columns : mapping of str to str, optional
        Our name → the table's name, for columns that are called otherwise.
    time_unit : {"years", "months", "weeks", "days"}
        Unit of ``time`` and ``entry``.
    time_origin : str
        What time zero is ("first radiotherapy").
    cause : int, optional
        Which cause of death in ``event`` is the event; 0 is censored, others compete. By default 0 and 1 alone.
    followed : bool
        False for patients to predict for: the table needs no ``time`` and ``event``, and the cohort's mean nothing.
    check_photos : bool
        Whether a photograph that is not in `photos` is a fault by itself; beside other faults it is always told.

    Returns
    -------
    Cohort

    Raises
    ------
    InputError
        One message that lists every fault of the table.

    Notes
    -----
    A dated photograph taken after time zero makes its patient enter the risk set on that day (left
    truncation): without that, the time up to the photograph would be guaranteed survival. With several
    photographs the earliest date counts.
    """
    if time_unit not in DAYS:
        raise InputError(f"time_unit is '{time_unit}'; expected one of {', '.join(DAYS)}.")
    named = columns or {}
    raw = read_table(table, labels=[named.get(name, name) for name in LABELS])
    given = _rename(raw.frame if followed else _unfollowed(raw.frame, named), named, raw.source)
    faults = Faults(raw)
    names = _names(given, faults, None if photos is None else photo_folder(photos))
    frame = given.apply(blank).assign(**names)
    out = _outcome(frame, faults, time_unit, cause)
    covariates = [name for name in frame.columns.astype(str) if name not in (*REQUIRED, *OPTIONAL, *DERIVED)]
    readings = _read_covariates(out, frame[covariates], faults)
    folder, absent = photo_paths(out, photos)
    _check_agreement(out, frame, [name for name in covariates if name not in PER_PHOTO], faults)
    if check_photos or faults.found:
        for position, expected in absent.items():
            faults.add_one(position, "photo", given["photo"].iloc[position], expected)
    faults.report()

    out["entry"] = out.groupby("patient_id")["entry"].transform("max")
    first = ["photo_id", "patient_id", "photo", "path", "time", "event", "entry", "photo_time"]
    first += ["event_cause"] if "event_cause" in out else []
    dates = [name for name in ("photo_date", "origin_date") if name in out]
    out = out[[*first, *dates, *covariates]]
    flags = [
        *_time_flags(out, time_origin),
        *cause_flags(out, cause),
        *(r.flag for r in readings.values() if r.flag),
    ]
    return Cohort(
        out, _patients(out, covariates), covariates, time_unit, time_origin, tuple(flags), folder, readings
    )


def _read_covariates(out: pd.DataFrame, frame: pd.DataFrame, faults: Faults) -> dict[str, Reading]:
    """Fill the covariates' columns of `out`; how each was read."""
    readings = {}
    for name in frame:
        out[name], readings[str(name)] = read_covariate(frame[name], faults, nominal=NOMINAL, numeric=NUMERIC)
    if "age" in out:
        check_ages(out["age"], faults)
    return readings


def split_cohort(
    cohort: Cohort,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    stratify: Sequence[str] = ("event",),
) -> pd.DataFrame:
    """Divide the patients, never their photographs, into named sets.

    Parameters
    ----------
    fractions : mapping of str to float, optional
        Set → share of the patients; they sum to 1. Default: half ``finetune``, half ``evaluate``.
    seed : int
        The same seed and patients give the same sets, whatever the order of the rows.
    stratify : sequence of str
        Columns of ``cohort.patients`` to balance over the sets; numbers with more than 8 values by quarters.

    Returns
    -------
    DataFrame
        ``patient_id, set``, in the cohort's order.
    """
    shares = dict(fractions or {"finetune": 0.5, "evaluate": 0.5})
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"fractions are {shares}; expected shares above 0 that sum to 1.")
    patients = cohort.patients.sort_values("patient_id").reset_index(drop=True)
    if unknown := [name for name in stratify if name not in patients]:
        raise InputError(
            f"Cannot stratify by {unknown[0]}; expected columns of {', '.join(patients.columns)}."
        )
    keys = pd.DataFrame({name: _levels(patients[name]) for name in stratify}, index=patients.index)
    keys["_random"] = np.random.default_rng(seed).permutation(len(patients))
    order = keys.sort_values(keys.columns.tolist()).index
    names, target = list(shares), np.array(list(shares.values()))
    taken = np.zeros(len(names))
    chosen = {}
    for step, row in enumerate(order, start=1):  # the set furthest behind its share takes the next patient
        behind = int(np.argmax(target * step - taken))
        taken[behind] += 1
        chosen[patients.at[row, "patient_id"]] = names[behind]
    result = cohort.patients[["patient_id"]].copy()
    result["set"] = result["patient_id"].map(chosen)
    return result


def read_split(path: str | Path) -> pd.DataFrame:
    """Read what `split_cohort` wrote: ``patient_id, set``, each patient once."""
    raw = read_table(path, labels=("patient_id", "set"))
    faults = Faults(raw)
    if missing := [name for name in ("patient_id", "set") if name not in raw.frame]:
        raise InputError(f"{raw.source} has no column {missing[0]}; expected patient_id,set.")
    given = raw.frame[["patient_id", "set"]]
    frame = given.assign(patient_id=identity(given["patient_id"], faults))
    faults.add(frame["set"].isna(), "set", frame["set"], "a value")
    twice = frame["patient_id"].duplicated() & frame["patient_id"].notna()
    faults.add(twice, "patient_id", given["patient_id"], "each patient once")
    faults.report()
    return frame


def _unfollowed(frame: pd.DataFrame, named: Mapping[str, str]) -> pd.DataFrame:
    """The table with a follow-up that means nothing, where it has none."""
    missing = {named.get(ours, ours): value for ours, value in UNKNOWN.items()}
    return frame.assign(**{name: value for name, value in missing.items() if name not in frame})


def _rename(frame: pd.DataFrame, columns: Mapping[str, str], source: str) -> pd.DataFrame:
    if len(set(columns.values())) < len(columns):
        raise InputError(f"columns maps two names to one column of the table: {dict(columns)}.")
    if absent := [f"{theirs} (for {ours})" for ours, theirs in columns.items() if theirs not in frame]:
        raise InputError(f"{source} has no column {', '.join(absent)}; it has {', '.join(frame.columns)}.")
    clash = [ours for ours, theirs in columns.items() if ours in frame and ours != theirs]
    frame = frame.drop(columns=[name for name in clash if name not in columns.values()])
    frame = frame.rename(columns={theirs: ours for ours, theirs in columns.items()})
    if missing := [name for name in REQUIRED if name not in frame]:
        raise InputError(
            f"{source} has no column {', '.join(missing)}; it has {', '.join(frame.columns)}. Expected "
            f"{', '.join(REQUIRED)}; other names can be mapped:",
            python="columns={'time': 'os_years'}.",
            command="--column time=os_years.",
        )
    if frame.empty:
        raise InputError(f"{source} has a header but no rows.")
    return frame


def _dates(text: pd.Series, faults: Faults) -> pd.Series:
    """Days as they are written: the time of day and its zone, if there are any, move nothing."""
    days = text.astype("string").str.extract(ISO_DATE)[0]
    dates = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
    faults.add(text.notna() & dates.isna(), str(text.name), text, "a date as YYYY-MM-DD")
    return dates


def _names(given: pd.DataFrame, faults: Faults, folder: Path | None) -> dict[str, pd.Series]:
    """Patients and photographs by the one name that each of them has."""
    patients = identity(given["patient_id"], faults)
    photo = present(given["photo"], faults)
    tidy = photo.map(lambda name: None if name is None else relative_name(name, folder)).astype(object)
    outside = "a name relative to the folder of photographs, and inside it"
    faults.add(photo.notna() & tidy.isna(), "photo", photo, outside)
    twice = tidy.duplicated() & tidy.notna()
    faults.add(twice, "photo", given["photo"], "each photograph once")
    return {"patient_id": patients, "photo": tidy}


def _outcome(frame: pd.DataFrame, faults: Faults, unit: str, cause: int | None) -> pd.DataFrame:
    """Identity, outcome and time zero of every row, as typed columns."""
    out = frame[["patient_id", "photo"]].copy()

    out["time"] = numbers(frame["time"]).astype(float)
    good_time = np.isfinite(out["time"]) & (out["time"] > 0)
    faults.add(~good_time, "time", frame["time"], f"{unit} of follow-up, a number above 0")

    read_events(out, frame["event"], faults, cause)

    given = frame["entry"] if "entry" in frame else pd.Series([None] * len(frame), dtype=object)
    out["entry"] = numbers(given).astype(float)
    wrong = given.notna() & ~(out["entry"] >= 0)
    faults.add(wrong | (out["entry"] == np.inf), "entry", given, f"{unit} at entry, a number from 0")
    late = good_time & (out["entry"] >= out["time"]) & (out["entry"] < np.inf)
    faults.add(late, "entry", given, "an entry before the end of follow-up (entry < time)")
    out["entry"] = out["entry"].fillna(0.0)
    return _time_zero(out, frame, good_time, faults, unit)


def _time_zero(
    out: pd.DataFrame, frame: pd.DataFrame, good_time: pd.Series, faults: Faults, unit: str
) -> pd.DataFrame:
    """Add photo_time, photograph minus time zero; where it is positive the patient enters on that day."""
    for name in ("photo_date", "origin_date"):
        if name in frame:
            out[name] = _dates(frame[name], faults)
    out["photo_time"] = np.nan
    if "photo_date" not in out or "origin_date" not in out:
        return out
    out["photo_time"] = (out["photo_date"] - out["origin_date"]).dt.days / DAYS[unit]
    faults.add(
        good_time & (out["photo_time"] >= out["time"]), "photo_date", frame["photo_date"],
        "a photograph taken before the end of follow-up",
    )  # fmt: skip
    lag = out["photo_time"].where(_is_index(out), 0.0).fillna(0.0)
    out["entry"] = np.maximum(out["entry"], lag)
    return out


def _check_agreement(out: pd.DataFrame, frame: pd.DataFrame, constant: list[str], faults: Faults) -> None:
    """Rows of one patient must say the same; a missing covariate says nothing."""
    several = out["patient_id"].duplicated(keep=False) & out["patient_id"].notna()
    entry = ["entry"] if "entry" in frame else []
    origin = ["origin_date"] if "origin_date" in frame else []
    for name in ["time", "event", *entry, *origin, *constant]:
        values = frame[name] if name in entry else out[name]
        first = values.groupby(out["patient_id"]).transform("first")
        as_given = frame[name].groupby(out["patient_id"]).transform("first")
        differs = several & values.notna() & first.notna() & (values != first)
        for position in np.flatnonzero(differs):
            patient = out["patient_id"].iloc[position]
            expected = f"'{as_given.iloc[position]}' as in the other rows of patient {patient}"
            faults.add_one(int(position), name, frame[name].iloc[position], expected)


def _is_index(table: pd.DataFrame) -> pd.Series:
    """Mask of the rows on the patient's earliest date; every row of a patient without any date."""
    if "photo_date" not in table:
        return pd.Series(True, index=table.index)
    dates = table["photo_date"]
    earliest = dates.groupby(table["patient_id"]).transform("min")
    return (dates == earliest) | earliest.isna()


def _patients(table: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    # per-photo covariates come from the index photographs; gaps are filled from the patient's other rows
    index_first = pd.concat([table[_is_index(table)], table])
    outcome = ["time", "event", "entry", *(["event_cause"] if "event_cause" in table else [])]
    first = index_first.groupby("patient_id", sort=False)[[*outcome, *covariates]].first()
    patients = first.loc[table["patient_id"].unique()]
    patients["n_photos"] = table.groupby("patient_id")["photo_id"].size()
    return patients.reset_index()


def _time_flags(table: pd.DataFrame, origin: str) -> list[str]:
    flags = []
    undated = int(table["photo_time"].isna().sum())
    if undated:
        flags.append(
            f"{undated} of {len(table)} photographs have no date relative to time zero: one that was taken "
            "later guarantees survival up to that day, so the figures are no prognostic evidence."
        )
    late = int((table.groupby("patient_id")["photo_time"].min() > 0).sum())
    if late:
        flags.append(f"{late} of the patients enter the risk set with their photograph, after time zero.")
    unused = int((~_is_index(table)).sum())
    if unused:
        flags.append(f"{unused} of the photographs, of later or unknown date, wait for a landmark.")
    if not origin:
        flags.append("Time zero is not named.")
    return flags


def _levels(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 8:
        return pd.qcut(values.rank(method="first"), 4, labels=False).fillna(-1)
    return values.astype(str)
