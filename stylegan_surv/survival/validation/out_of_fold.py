"""Out-of-fold results: as a table that is saved, and as arrays with a layer per repeat, a row per patient."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stylegan_surv._files import whole
from stylegan_surv._types import Array, Floats, Ints
from stylegan_surv.errors import InputError
from stylegan_surv.survival.outcome import Outcome

_SURVIVAL = re.compile(r"S\((?P<t>[-+.\deE]+)\)")

FORMAT = 1  # of the file that OutOfFold.save writes
CHOSEN = ("model", "repeat", "fold", "parameter", "value")  # columns of OutOfFold.chosen


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for patients that the model had not seen.

    Attributes
    ----------
    frame : DataFrame
        `patient_id, repeat, fold, model, risk` and a column ``S(t)`` for every horizon. Risks of different
        folds are not comparable.
    horizons : tuple of float
    folds : DataFrame
        `patient_id, repeat, fold`; give it to `nested_cv` again for the same division (fold -1: never tested).
    chosen : DataFrame
        `model, repeat, fold, parameter, value`: hyperparameters chosen inside the fold.
    """

    frame: pd.DataFrame
    horizons: tuple[float, ...]
    folds: pd.DataFrame
    chosen: pd.DataFrame

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order asked for."""
        return list(dict.fromkeys(self.frame["model"]))

    def model(self, name: str) -> pd.DataFrame:
        """Rows of one model."""
        if name not in set(self.frame["model"]):
            raise InputError(f"model: got {name!r}; these results hold {', '.join(self.models)}.")
        return self.frame[self.frame["model"] == name].reset_index(drop=True)

    def save(self, path: str | Path) -> None:
        """One Parquet file; horizons, folds and choices travel in its metadata."""
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        kept = {
            "format": FORMAT,
            "horizons": list(self.horizons),
            "folds": self.folds.to_dict("list"),
            "chosen": self.chosen.to_dict("list"),
        }
        meta = {**(table.schema.metadata or {}), b"stylegan_surv": json.dumps(kept).encode()}
        with whole(path) as partial:
            pq.write_table(table.replace_schema_metadata(meta), partial)

    @classmethod
    def load(cls, path: str | Path) -> OutOfFold:
        """Read what `save` wrote."""
        table = pq.read_table(Path(path))
        raw = (table.schema.metadata or {}).get(b"stylegan_surv")
        if raw is None:
            raise InputError(f"{path}: not an out-of-fold file of stylegan-surv (no metadata).")
        kept = json.loads(raw)
        if kept.get("format") != FORMAT:
            raise InputError(
                f"{path}: its format is {kept.get('format')!r}, this stylegan-surv reads {FORMAT}; "
                "run the cross-validation again."
            )
        chosen = pd.DataFrame(kept["chosen"], columns=list(CHOSEN))
        return cls(table.to_pandas(), tuple(kept["horizons"]), pd.DataFrame(kept["folds"]), chosen)


@dataclass(frozen=True)
class Scores:
    """One model's out-of-fold scores.

    Attributes
    ----------
    risk : array, shape (R, n)
        Higher = worse; NaN where the patient was not scored in a repeat.
    fold : array of int, shape (R, n)
        −1 where not scored. Risks are comparable within a fold only.
    survival : array, shape (R, n, H)
        S(t) at the horizons.
    horizons : array, shape (H,)
    """

    risk: Floats
    fold: Ints
    survival: Floats
    horizons: Floats

    @property
    def has_survival(self) -> bool:
        """Whether every scored patient has a predicted curve."""
        return len(self.horizons) > 0 and bool(np.isfinite(self.survival[self.fold >= 0]).all())

    def at(self, t: float) -> Floats:
        """S(t) at one of the horizons, [R, n]."""
        k = np.flatnonzero(np.isclose(self.horizons, t, rtol=1e-5))
        if len(k) == 0:
            raise InputError(
                f"horizon {t:g}: the out-of-fold results hold S(t) at {self.horizons.tolist()} only"
            )
        return np.asarray(self.survival[:, :, k[0]])

    def cumulative_hazard(self, t: Floats, end: float = np.inf) -> Floats:
        """Λ = −log S at each patient's own time t [n], linear between the horizons: [R, n].

        Times after `end` or the last horizon are taken there: nothing is known of S(t) beyond it.
        """
        knots = np.concatenate([[0.0], self.horizons])
        hazard = -np.log(np.clip(self.survival, 1e-10, 1.0))
        hazard = np.concatenate([np.zeros((*hazard.shape[:2], 1)), hazard], axis=2)
        t = np.clip(t, 0.0, min(end, knots[-1]))
        k = np.clip(np.searchsorted(knots, t, side="right") - 1, 0, len(knots) - 2)
        share = (t - knots[k]) / (knots[k + 1] - knots[k])
        here = np.arange(len(t))
        return np.asarray(hazard[:, here, k] * (1 - share) + hazard[:, here, k + 1] * share)


def survival_columns(frame: pd.DataFrame) -> dict[str, float]:
    """Columns ``S(t)`` of an out-of-fold table with their times, in increasing time."""
    found = {str(c): float(m["t"]) for c in frame.columns if (m := _SURVIVAL.fullmatch(str(c)))}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def scores_of(frame: pd.DataFrame, outcome: Outcome) -> Scores:
    """Arrange the rows of one model by repeat and patient.

    Raises
    ------
    InputError
        A patient is scored twice in a repeat, is unknown to the outcome, or more than one model is given.
    """
    if "model" in frame and frame["model"].nunique() > 1:
        raise InputError(
            f"out-of-fold results: got the models {frame['model'].unique().tolist()}, expected one"
        )
    columns = survival_columns(frame)
    who = pd.Index(outcome.patient_id.astype(str)).get_indexer(frame["patient_id"].astype(str))
    if (who < 0).any():
        raise InputError(
            f"out-of-fold results: patient {frame['patient_id'].iloc[int(np.argmin(who))]!r} is not in the outcome"
        )
    repeat, labels = pd.factorize(frame["repeat"], sort=True)
    cell = repeat * len(outcome) + who
    if len(np.unique(cell)) < len(cell):
        raise InputError("out-of-fold results: a patient has two rows in one repeat, expected one")
    shape = (len(labels), len(outcome))

    def spread(values: Any, empty: float, dtype: type) -> Array:
        values = np.asarray(values, dtype)
        out = np.full((shape[0] * shape[1], *values.shape[1:]), empty, dtype)
        out[cell] = values
        return out.reshape(*shape, *values.shape[1:])

    fold = spread(pd.factorize(frame["fold"])[0], -1, int)
    survival = spread(frame[list(columns)].to_numpy(float), np.nan, float)
    return Scores(spread(frame["risk"], np.nan, float), fold, survival, np.array(list(columns.values())))
