"""The column `event` of a clinical table: censored or not, or causes of death that compete."""

from __future__ import annotations

import pandas as pd

from stylegan_surv._table import Faults, numbers
from stylegan_surv.errors import InputError

MOST_CAUSES = 20  # of death; a larger number in `event` is a code of something else
ONE_CAUSE = (
    "1 (died) or 0 (censored); where the numbers are causes of death, say which one counts (--cause 1, in Python "
    "cause=1): other deaths are counted as such, they are no censorings"
)


def read_events(out: pd.DataFrame, given: pd.Series, faults: Faults, cause: int | None) -> None:
    """Add `event` and, where causes of death are told apart, `event_cause`: 1 the event, from 2 on other causes."""
    text = given.astype("string").str.lower().astype(object)
    if cause is None:
        event = text.map({"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1})
        several = numbers(given).astype(float).ge(2).any()
        faults.add(event.isna(), "event", given, ONE_CAUSE if several else "1 (died) or 0 (censored)")
        out["event"] = event == 1
        return
    code = numbers(given).astype(float)
    bad = ~((code >= 0) & (code <= MOST_CAUSES) & (code % 1 == 0))
    faults.add(bad, "event", given, f"0 (censored) or the number of a cause of death, up to {MOST_CAUSES}")
    causes = code.where(~bad, 0).astype(int)
    out["event"] = causes == cause
    others = sorted(set(causes) - {0, cause})
    number = {0: 0, cause: 1, **{other: 2 + k for k, other in enumerate(others)}}
    out["event_cause"] = causes.map(number).astype(int)
    if not out["event"].any():
        raise InputError(
            f"cause is {cause}, and no row of `event` holds it; it holds {sorted(set(causes))}. Give the number of the "
            "cause of death that the study is about."
        )


def cause_flags(table: pd.DataFrame, cause: int | None) -> list[str]:
    """Which deaths count, in words."""
    if cause is None:
        return []
    died = table.groupby("patient_id")["event_cause"].first()
    return [
        f"Deaths of cause {cause} count ({(died == 1).sum()} patients); {(died > 1).sum()} patients died of other "
        "causes, which compete with it. Risks are cumulative incidences, and 1 − S(t) is that of the cause."
    ]
