"""The outcome of a cohort: one follow-up per patient, checked once, carried with the patients' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError
from stylegan_surv.survival.design import strata_from

BEFORE_DAY_ZERO = -1.0  # entry of those who end on day 0: at risk in (-1, 0], where (0, 0] holds nobody


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
    weight : array of float, shape (n,) or (n, B), optional
        Case weights >= 0; B columns of them where every resample of the patients has its own.
    cause : array of int, shape (n,), optional
        What ended the follow-up where deaths of several causes are told apart: 0 censoring, 1 the event, from 2 on
        the causes that compete with it. `event` is then true where it is 1.

    Raises
    ------
    InputError
        Lengths differ, a name appears twice, a time is missing, infinite or negative, an event is not 0/1,
        an entry is not before its time, a weight is negative.

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
    weight: Array | None = None
    cause: Array | None = None

    def __post_init__(self) -> None:
        self._set("patient_id", np.asarray(self.patient_id).astype(str))
        self._set("time", follow_up("time", self.time))
        self._set("event", as_event(self.event))
        if self.entry is not None:
            self._set("entry", np.asarray(self.entry, dtype=float))
        if self.strata is not None:
            self._set("strata", as_strata(self.strata))
        if self.weight is not None:
            self._set("weight", as_weight("weight", self.weight))
        if self.cause is not None:
            self._set("cause", np.asarray(self.cause, dtype=int))
        self._check()

    def _set(self, name: str, value: Array | None) -> None:
        object.__setattr__(self, name, value)  # frozen

    def _check(self) -> None:
        n = len(self.patient_id)
        for name in ("time", "event", "entry", "strata", "weight", "cause"):
            value = getattr(self, name)
            if value is None:
                continue
            if (value.shape[:1] if name == "weight" else value.shape) != (n,):
                raise InputError(
                    f"outcome.{name}: got shape {value.shape}, expected ({n},), one per patient."
                )
        if self.cause is not None and ((self.cause == 1) != self.event).any():
            raise InputError("outcome.cause: expected 1 where `event` is true, and there alone.")
        names, counts = np.unique(self.patient_id, return_counts=True)
        if len(names) != n:
            raise InputError(_twice(names[counts > 1][0], counts.max()))
        if self.entry is not None:
            late = ~(self.entry < self.time)
            if late.any():
                i = int(np.flatnonzero(late)[0])
                raise InputError(
                    f"outcome: {late.sum()} patients are never at risk: patient {str(self.patient_id[i])!r} enters at "
                    f"{self.entry[i]:g} and ends at {self.time[i]:g}; expected entry < time. Correct the dates or "
                    "leave these patients out."
                )

    @classmethod
    def unchecked(
        cls,
        time: Array,
        event: Array,
        entry: Array | None = None,
        strata: Array | None = None,
        weight: Array | None = None,
        patient_id: Array | None = None,
        cause: Array | None = None,
    ) -> Outcome:
        """The arrays as they are, for callers that have checked them; rows without names are numbered.

        Examples
        --------
        >>> Outcome.unchecked(np.array([2.0, 3.0]), np.array([True, False])).patient_id.tolist()
        ['0', '1']
        """
        outcome: Outcome = object.__new__(cls)
        outcome._set("patient_id", np.arange(len(time)).astype(str) if patient_id is None else patient_id)
        for name, value in {"time": time, "event": event, "entry": entry, "strata": strata}.items():
            outcome._set(name, value)
        outcome._set("weight", weight)
        outcome._set("cause", cause)
        return outcome

    def __len__(self) -> int:
        return len(self.patient_id)

    @property
    def y(self) -> Array:
        """Structured array with the fields ``event`` (bool) and ``time`` (float64), as scikit-survival has it."""
        y = np.empty(len(self), dtype=[("event", bool), ("time", float)])
        y["event"], y["time"] = self.event, self.time
        return y

    @property
    def competing(self) -> Array | None:
        """Who died of another cause, shape (n,); None where nobody did."""
        other = None if self.cause is None else self.cause > 1
        return other if other is not None and other.any() else None

    @property
    def observed(self) -> Array:
        """Whether follow-up ended with a death of any cause, shape (n,): what is not censored."""
        return self.event if self.cause is None else self.cause > 0

    @property
    def causes(self) -> range:
        """The numbers of all causes of death, 1 (the event) first."""
        return range(1, 2 if self.cause is None else int(self.cause.max(initial=1)) + 1)

    def of_cause(self, cause: int) -> Outcome:
        """The same follow-up with the deaths of `cause` as the event and all others as censorings.

        What a cause-specific Cox model is fitted to; no probability may be taken from it alone.
        """
        died = self.event if self.cause is None else self.cause == cause
        return Outcome.unchecked(
            self.time, died, self.entry, self.strata, self.weight, patient_id=self.patient_id
        )

    @property
    def case_weight(self) -> Array:
        """The case weights; ones where there are none."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def fit_params(self) -> dict[str, Array]:
        """``entry``, ``strata`` and ``sample_weight`` where there are any, as keyword arguments of a fit."""
        given = {"entry": self.entry, "strata": self.strata, "sample_weight": self.weight}
        return {name: value for name, value in given.items() if value is not None}

    def subset(self, index: Array | Sequence[int] | slice) -> Outcome:
        """The patients at `index` (integers, mask or slice), in that order.

        Raises
        ------
        InputError
            A patient is drawn twice; a resample of patients is a column of `weight`.
        """
        i = index if isinstance(index, slice) else np.asarray(index)
        drawn = np.bincount(np.arange(len(self))[i], minlength=len(self))
        if drawn.max(initial=0) > 1:
            raise InputError(_twice(self.patient_id[int(np.argmax(drawn > 1))], drawn.max()))

        def pick(values: Array | None) -> Array | None:
            return None if values is None else values[i]

        return Outcome.unchecked(
            self.time[i],
            self.event[i],
            pick(self.entry),
            pick(self.strata),
            pick(self.weight),
            self.patient_id[i],
            pick(self.cause),
        )

    def require_events(self, least: int, what: str) -> None:
        """Raise InputError unless at least `least` patients have the event."""
        if (got := int(self.event.sum())) < least:
            raise InputError(
                f"{what}: {got} of {len(self)} patients have an event; expected at least {least}. "
                "Check the event column (1 = the event happened, 0 = censored) or use fewer folds."
            )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, strata: str | Sequence[str] | None = None) -> Outcome:
        """From a table with one row per patient: `patient_id`, `time`, `event`, and if it has them `entry` and
        `event_cause` (0 censored, 1 the event, from 2 on other deaths).

        `strata` is a specification for `strata_from`: ``"site"`` or ``"entry_year:5"``, or several of them.
        Entries that are all 0 or missing mean no left truncation.
        """
        missing = [c for c in ("patient_id", "time", "event") if c not in frame]
        if missing:
            raise InputError(f"outcome: no column {missing} in the table; it has {list(frame.columns)}.")
        levels = strata_from(strata, frame) if strata else None
        entry = None
        if "entry" in frame and (frame["entry"].fillna(0) > 0).any():
            entry = frame["entry"].fillna(0).to_numpy(float)
            day_0 = frame["time"].to_numpy(float) <= 0
            entry = np.where(day_0 & (entry == 0), BEFORE_DAY_ZERO, entry)
        patient_id, time, event = (frame[c].to_numpy() for c in ("patient_id", "time", "event"))
        cause = frame["event_cause"].to_numpy(int) if "event_cause" in frame else None
        return cls(patient_id, time, event, entry, levels, cause=cause)


def _twice(name: object, count: int) -> str:
    return (
        f"outcome: patient {str(name)!r} has {count} rows; the unit is the patient. "
        "Average the photographs of a patient first (patient_matrix does)."
    )


def follow_up(name: str, value: object) -> Array:
    """Times as float64, finite and >= 0; anything else is an InputError."""
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


def as_strata(value: object) -> Array:
    """Levels as an array of numbers or text; a missing one is an InputError."""
    strata = np.asarray(value)
    if pd.isna(strata).any():
        raise InputError(
            f"strata: {int(pd.isna(strata).sum())} of {len(strata)} patients have no stratum; "
            "expected one level for each. Leave those patients out or give them a level of their own."
        )
    return strata.astype(str) if strata.dtype == object else strata


def as_weight(name: str, value: object) -> Array:
    """Case weights as finite numbers >= 0; float32 stays float32."""
    weight = np.asarray(value)
    if weight.dtype not in (np.float32, np.float64):
        try:
            weight = weight.astype(float)
        except (TypeError, ValueError):
            raise InputError(f"{name}: expected numbers, got {weight.dtype}.") from None
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise InputError(f"{name}: expected finite numbers >= 0.")
    return weight


def split_y(y: object) -> tuple[Array, Array]:
    """(event, time) of a scikit-survival structured array, whatever its two fields are called."""
    if y is None:
        raise InputError(
            "y: a survival model requires y to be passed, but the target y is None; give scikit-survival's "
            "structured array, as Outcome.y makes it."
        )
    y = np.asarray(y)
    fields = y.dtype.names or ()
    boolean = [f for f in fields if y.dtype[f].kind == "b"]
    if len(fields) != 2 or len(boolean) != 1:
        raise InputError(
            f"y: got dtype {y.dtype}; expected a structured array with one boolean field (event) and one number "
            "(time), as Outcome.y or sksurv.util.Surv make it."
        )
    (time_field,) = set(fields) - set(boolean)
    return y[boolean[0]], follow_up("time", y[time_field])
