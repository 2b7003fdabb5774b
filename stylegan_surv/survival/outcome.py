"""The outcome of a cohort: one follow-up per patient, checked once, carried with the patients' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stylegan_surv.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """Right-censored, possibly left-truncated follow-up of n patients.

    Parameters
    ----------
    patient_id : array of str, shape (n,)
        Unique names, in the order of the rows of every design matrix used with this outcome.
    time : array of float, shape (n,)
        End of follow-up in the cohort's time unit, >= 0.
    event : array of bool, shape (n,)
        True where the patient died (the event happened) at `time`.
    entry : array of float, shape (n,), optional
        Start of observation (left truncation): the patient is at risk in (entry, time].
    strata : array of str or int, shape (n,), optional
        Level within which patients are compared; every level has a baseline hazard of its own.

    Raises
    ------
    InputError
        Lengths differ, a name appears twice, a time is missing, infinite or negative, an event is not 0/1,
        an entry is not before its time.

    Examples
    --------
    >>> Outcome(np.array(["a", "b"]), np.array([2.0, 3.0]), np.array([1, 0])).y
    array([( True, 2.), (False, 3.)], dtype=[('event', '?'), ('time', '<f8')])
    """

    patient_id: Array
    time: Array
    event: Array
    entry: Array | None = None
    strata: Array | None = None

    def __post_init__(self) -> None:
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen)
        set_("patient_id", np.asarray(self.patient_id).astype(str))
        set_("time", _follow_up("time", self.time))
        set_("event", as_event(self.event))
        if self.entry is not None:
            set_("entry", np.asarray(self.entry, dtype=float))
        if self.strata is not None:
            strata = np.asarray(self.strata)
            if pd.isna(strata).any():
                raise InputError(
                    f"strata: {int(pd.isna(strata).sum())} of {len(strata)} patients have no stratum; "
                    "expected one level for each. Leave those patients out or give them a level of their own."
                )
            set_("strata", strata.astype(str) if strata.dtype == object else strata)
        self._check()

    def _check(self) -> None:
        n = len(self.patient_id)
        for name in ("time", "event", "entry", "strata"):
            value = getattr(self, name)
            if value is not None and value.shape != (n,):
                raise InputError(
                    f"outcome.{name}: got shape {value.shape}, expected ({n},), one per patient."
                )
        if len(np.unique(self.patient_id)) != n:
            names, counts = np.unique(self.patient_id, return_counts=True)
            raise InputError(
                f"outcome: patient {str(names[counts > 1][0])!r} has {counts.max()} rows; the unit is the patient. "
                "Average the photographs of a patient first (patient_matrix does)."
            )
        if self.entry is not None:
            late = ~(self.entry < self.time)
            if late.any():
                i = int(np.flatnonzero(late)[0])
                raise InputError(
                    f"outcome: {late.sum()} patients are never at risk: patient {str(self.patient_id[i])!r} enters at "
                    f"{self.entry[i]:g} and ends at {self.time[i]:g}; expected entry < time. Correct the dates or "
                    "leave these patients out."
                )

    def __len__(self) -> int:
        return len(self.patient_id)

    @property
    def y(self) -> Array:
        """Structured array with the fields ``event`` (bool) and ``time`` (float64), as scikit-survival has it."""
        y = np.empty(len(self), dtype=[("event", bool), ("time", float)])
        y["event"], y["time"] = self.event, self.time
        return y

    @property
    def fit_params(self) -> dict[str, Array]:
        """``entry`` and ``strata`` where this outcome has them, as keyword arguments of an estimator's fit."""
        given = {"entry": self.entry, "strata": self.strata}
        return {name: value for name, value in given.items() if value is not None}

    def subset(self, index: Array | Sequence[int] | slice) -> Outcome:
        """The patients at `index` (integers, mask or slice), in that order."""
        i = index if isinstance(index, slice) else np.asarray(index)
        pick = lambda v: None if v is None else v[i]  # noqa: E731
        return Outcome(self.patient_id[i], self.time[i], self.event[i], pick(self.entry), pick(self.strata))

    def require_events(self, least: int, what: str) -> None:
        """Raise InputError unless at least `least` patients have the event."""
        if (got := int(self.event.sum())) < least:
            raise InputError(
                f"{what}: {got} of {len(self)} patients have an event; expected at least {least}. "
                "Check the event column (1 = the event happened, 0 = censored) or use fewer folds."
            )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, strata: str | Sequence[str] | None = None) -> Outcome:
        """From a table with one row per patient: `patient_id`, `time`, `event` and optionally `entry`.

        `strata` is a specification for `strata_from`: ``"site"`` or ``"entry_year:5"``, or several of them.
        Entries that are all 0 or missing mean no left truncation.
        """
        missing = [c for c in ("patient_id", "time", "event") if c not in frame]
        if missing:
            raise InputError(f"outcome: no column {missing} in the table; it has {list(frame.columns)}.")
        levels = None
        if strata:
            from stylegan_surv.survival.design import strata_from

            levels = strata_from(strata, frame)
        entry = None
        if "entry" in frame and (frame["entry"].fillna(0) > 0).any():
            entry = frame["entry"].fillna(0).to_numpy(float)
            day_0 = frame["time"].to_numpy(float) <= 0  # a death on day 0 is at risk then, not in (0, 0]
            entry = np.where(day_0 & (entry == 0), -1.0, entry)
        patient_id, time, event = (frame[c].to_numpy() for c in ("patient_id", "time", "event"))
        return cls(patient_id, time, event, entry, levels)


def _follow_up(name: str, value: object) -> Array:
    try:
        time = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected numbers, got {np.asarray(value).dtype}.") from None
    bad = ~np.isfinite(time) | (time < 0)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{name}: {bad.sum()} values cannot be used (row {i}: {time[i]}); expected finite numbers >= 0."
        )
    return time


def as_event(value: object) -> Array:
    """Booleans from True/False or 0/1; anything else is an InputError."""
    event = np.asarray(value)
    if event.dtype != bool:
        known = np.isin(event, [0, 1])
        if not known.all():
            raise InputError(
                f"event: got {event[~known].tolist()[0]!r} in row {int(np.flatnonzero(~known)[0])}; "
                "expected 1 (the event happened) or 0 (censored)."
            )
        event = event.astype(bool)
    return event


def split_y(y: object) -> tuple[Array, Array]:
    """(event, time) of a scikit-survival structured array, whatever its two fields are called."""
    y = np.asarray(y)
    fields = y.dtype.names or ()
    boolean = [f for f in fields if y.dtype[f].kind == "b"]
    if len(fields) != 2 or len(boolean) != 1:
        raise InputError(
            f"y: got dtype {y.dtype}; expected a structured array with one boolean field (event) and one number "
            "(time), as Outcome.y or sksurv.util.Surv make it."
        )
    (time_field,) = set(fields) - set(boolean)
    return y[boolean[0]], _follow_up("time", y[time_field])
