"""Do the photographs' sources separate the classes? What the verdict rests on.

Inputs without a face decide. They raise an alarm if their AUC is above .5 beyond chance (Bonferroni over these inputs)
and reaches a third of what the face reaches. Where class and source coincide, no analysis can tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from stylegan_surv._types import Bools, Floats
from stylegan_surv.classify.inputs import WITHOUT_FACE
from stylegan_surv.classify.measures import auc_interval
from stylegan_surv.classify.people import SOURCES
from stylegan_surv.survival.metrics.interval import LEVEL, Interval

SHARE = 1 / 3  # of the face's AUC − .5 from which another input matters
FEW = 10  # people of a class that a source needs to be judged within
Level = Literal["good", "plain", "caution", "alarm"]
WORDS = {
    "background": "the background",
    "file": "the file's format, size and compression",
    "resolution": "the resolution",
    "framing": "the framing",
    "residue": "noise and sharpening outside the head",
}


@dataclass(frozen=True)
class Alarm:
    """An input without a face that tells the classes apart.

    Attributes
    ----------
    name : str
    estimate, low : float
        AUC with its lower Bonferroni bound.
    """

    name: str
    estimate: float
    low: float


@dataclass(frozen=True)
class SourceTable:
    """How class and source hang together.

    Attributes
    ----------
    column : str
    levels : dict of str to (int, int)
        Cases and controls of each.
    coincide : bool
        Whether no level has both.
    mixed : float
        Share of the people whose level has both.
    unknown : int
        People without a value.
    """

    column: str
    levels: dict[str, tuple[int, int]]
    coincide: bool
    mixed: float
    unknown: int


@dataclass(frozen=True)
class Verdict:
    """Whether the face can be believed to be what separates the classes.

    Attributes
    ----------
    believable : bool
    level : {"good", "plain", "caution", "alarm"}
    sentence : str
    alarms : tuple of Alarm
    """

    believable: bool
    level: Level
    sentence: str
    alarms: tuple[Alarm, ...]


def source_tables(table: pd.DataFrame, case: Bools) -> tuple[SourceTable, ...]:
    """Class against each column that says where photographs come from, where there is one."""
    found = []
    for column in SOURCES:
        if column not in table or table[column].isna().all():
            continue
        known = table[column].notna().to_numpy()
        values = table[column].astype(str).to_numpy()
        levels = {
            str(v): (int((case & known & (values == v)).sum()), int((~case & known & (values == v)).sum()))
            for v in sorted(set(values[known]))
        }
        both = {v for v, (a, b) in levels.items() if a and b}
        mixed = float(np.mean([v in both for v in values[known]]))
        found.append(SourceTable(column, levels, not both, mixed, int((~known).sum())))
    return tuple(found)


def judge(
    face: Interval,
    without_face: Mapping[str, Floats],
    tables: Sequence[SourceTable],
    *,
    crossed: bool,
    least: float,
) -> Verdict:
    """The verdict.

    Parameters
    ----------
    face : Interval
        AUC of the arm that reads faces.
    without_face : mapping of str to array of float, shape (1 + B,)
        AUC of each input without a face and on resamples of the sets.
    tables : sequence of SourceTable
    crossed : bool
        As for :func:`stylegan_surv.classify.measures.auc_interval`.
    least : float
        The smallest AUC that could have been found.
    """
    alarms = find_alarms(face, without_face, crossed)
    if together := [t.column for t in tables if t.coincide]:
        text = (
            f"Class and {' and '.join(together)} coincide: no analysis of these data can separate them, whatever the "
            "AUCs."
        )
        return Verdict(False, "alarm", text, alarms)
    if alarms:
        named = "; ".join(f"{WORDS.get(a.name, a.name)}, AUC {a.estimate:.2f}" for a in alarms)
        text = f"Not believable: inputs without a face separate the classes too ({named})."
        return Verdict(False, "alarm", text, alarms)
    if face.low is None or face.estimate is None or face.low <= 0.5:
        text = (
            "No difference between the faces of the classes was found; the smallest AUC that would have been found "
            f"with a power of 80 % is {least:.2f}."
        )
        return Verdict(True, "plain", text, ())
    largest = max(without_face, key=lambda n: without_face[n][0], default=None)
    rest = (
        "no input without a face was tried"
        if largest is None
        else f"of the inputs without a face, {WORDS.get(largest, largest)} comes nearest, AUC "
        f"{without_face[largest][0]:.2f}"
    )
    said = "" if tables else " The table names neither site nor camera, so that they could not be compared."
    return Verdict(
        True, "good" if tables else "caution", f"The face separates the classes: {rest}.{said}", ()
    )


def find_alarms(face: Interval, without_face: Mapping[str, Floats], crossed: bool) -> tuple[Alarm, ...]:
    """Inputs whose lower Bonferroni bound is above .5 and which reach a third of the face's AUC − .5."""
    level = 1 - (1 - LEVEL) / max(len(without_face), 1)
    reach = SHARE * max((face.estimate or 0.5) - 0.5, 0.0)
    found = []
    for name, samples in without_face.items():
        bound = auc_interval(samples, crossed, level)
        if bound.low is None or bound.estimate is None:
            continue
        if bound.low > 0.5 and bound.estimate - 0.5 >= reach:
            found.append(Alarm(name, bound.estimate, bound.low))
    order = {name: k for k, name in enumerate(WITHOUT_FACE)}
    return tuple(sorted(found, key=lambda a: order.get(a.name, len(order))))
