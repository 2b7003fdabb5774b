"""What a case-control study of faces gives, and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stylegan_surv._files import whole, write_json
from stylegan_surv._records import check_format, to_json
from stylegan_surv._types import Floats, Ints
from stylegan_surv.classify.balance import BalanceRow
from stylegan_surv.classify.measures import Operating, RocCurve
from stylegan_surv.classify.sources import SourceTable, Verdict
from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.interval import Interval

FORMAT = 1
RECORD, SCORES, PEOPLE = "classify.json", "oof.parquet", "people.parquet"
Kind = Literal["face", "baseline", "without face", "both"]


@dataclass(frozen=True, eq=False)
class Arm:
    """One way of telling the classes apart.

    Attributes
    ----------
    name : str
    kind : {"face", "baseline", "without face", "both"}
    auc : Interval
        Pairs within a fold; 95 % over matched sets.
    operating : Operating
    slope : float
        Calibration slope; NaN where it cannot be told.
    roc : RocCurve or None
        For arms that read faces, and age and sex.
    """

    name: str
    kind: Kind
    auc: Interval
    operating: Operating
    slope: float
    roc: RocCurve | None = None


@dataclass(frozen=True)
class Subgroup:
    """AUC of the main arm among some of the people; None where there are too few cases."""

    column: str
    level: str
    cases: int
    controls: int
    auc: Interval | None


@dataclass(frozen=True)
class HeldOut:
    """A source on whose people nothing was trained: AUC within each level, and their mean."""

    column: str
    levels: dict[str, Interval]
    mean: float


@dataclass(frozen=True)
class Flow:
    """Who is in the study, and who was lost.

    Attributes
    ----------
    cases, controls : int
    unmatched, outside : int
        Cases without controls, and people outside the age limits.
    failed : dict of str to (int, int)
        By class: photographs without a chip, and all.
    quality : dict of str to float
        Mean mask quality by class.
    failure_p : float
        Fisher's exact test of the failures against the class.
    """

    cases: int
    controls: int
    unmatched: int
    outside: int
    failed: dict[str, tuple[int, int]]
    quality: dict[str, float]
    failure_p: float


@dataclass(frozen=True, eq=False)
class Classification:
    """A case-control study of faces.

    Attributes
    ----------
    verdict : Verdict
    main : str
        The arm in the headline.
    arms : dict of str to Arm
    differences : dict of str to Interval
        AUC of the main arm minus that of another, on the same resamples.
    subgroups : tuple of Subgroup
    sources : tuple of SourceTable
    held_out : tuple of HeldOut
    flow : Flow
    balance : tuple of BalanceRow
    detectable : float
        Smallest AUC found with a power of 80 %.
    settings : dict
    people : DataFrame
        Those whose photographs gave chips.
    scores : DataFrame
        ``patient_id, set, fold, group`` and a column of log odds per arm; NaN for people never tested.
    """

    verdict: Verdict
    main: str
    arms: dict[str, Arm]
    differences: dict[str, Interval]
    subgroups: tuple[Subgroup, ...]
    sources: tuple[SourceTable, ...]
    held_out: tuple[HeldOut, ...]
    flow: Flow
    balance: tuple[BalanceRow, ...]
    detectable: float
    settings: dict[str, Any]
    people: pd.DataFrame
    scores: pd.DataFrame

    @property
    def fold(self) -> Ints:
        """Fold of every person; −1 for those never tested."""
        return self.scores["fold"].to_numpy(int)

    def logit(self, arm: str) -> Floats:
        """Out-of-fold log odds of an arm."""
        return self.scores[arm].to_numpy(float)

    def record(self) -> dict[str, Any]:
        """As ``classify.json`` holds it."""
        names = (
            "verdict", "main", "arms", "differences", "subgroups", "sources", "held_out", "flow", "balance",
            "detectable", "settings",
        )  # fmt: skip
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}

    def save(self, folder: str | Path) -> None:
        """Write ``classify.json``, ``oof.parquet`` and ``people.parquet``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, to_json(self.record()))
        with whole(folder / SCORES) as partial:
            self.scores.to_parquet(partial, index=False)
        with whole(folder / PEOPLE) as partial:
            self.people.to_parquet(partial, index=False)


def read_record(folder: str | Path, name: str = RECORD) -> dict[str, Any]:
    """One of the JSON files of a study.

    Raises
    ------
    InputError
        If it is not there, or of another version.
    """
    path = Path(folder) / name
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{path} cannot be read; expected the folder of a trained study.",
            command="Give the folder that `stylegan-surv classify train` has written.",
        ) from fault
    check_format(found.get("format"), FORMAT, path, "Train again.")
    return found


def read_scores(folder: str | Path) -> pd.DataFrame:
    """The out-of-fold scores of a study."""
    return pd.read_parquet(Path(folder) / SCORES)


def read_people_of(folder: str | Path) -> pd.DataFrame:
    """The people of a study, with the paths of their photographs."""
    return pd.read_parquet(Path(folder) / PEOPLE)
