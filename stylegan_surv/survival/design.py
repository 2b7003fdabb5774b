"""Design matrices: the photograph's latents of a patient, and the clinical columns beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError


def patient_matrix(latents: Any, cohort: Any) -> tuple[Array, Array]:
    """One row of W+ per patient: the mean over the photographs of the index date that were embedded.

    Parameters
    ----------
    latents : Latents
        Successful photographs: `ids` (photo), `patient_ids`, `codes` of shape (photos, layers, w_dim).
    cohort : Cohort
        `patients` (table with `patient_id`) gives the order of the rows, `index_photos()` the photographs.

    Returns
    -------
    patient_ids : array of str, shape (n,)
        Patients of the cohort with at least one embedded index photograph, in the cohort's order.
    X : array of float32, shape (n, num_ws * w_dim)
    """
    photos = cohort.index_photos()
    row = pd.Series(np.arange(len(latents.ids)), index=np.asarray(latents.ids).astype(str))
    photo_id = photos["photo_id"].astype(str)
    found = photo_id.isin(row.index).to_numpy()
    if not found.any():
        raise InputError(
            f"latents: none of the cohort's {len(photos)} index photographs is among the {len(row)} embedded ones "
            f"(for example {photo_id.iloc[:3].tolist()} against {row.index[:3].tolist()}). "
            "Embed the photographs of this cohort."
        )
    rows = row.loc[photo_id[found]].to_numpy()
    owner = photos["patient_id"].astype(str).to_numpy()[found]
    stored = np.asarray(latents.patient_ids).astype(str)[rows]
    alone = photo_id[found].to_numpy()  # without a table a photograph is its own patient
    other = np.flatnonzero((stored != owner) & (stored != alone))
    if len(other):
        first = other[0]
        raise InputError(
            f"latents: {len(other)} photographs belong to other patients than in the table "
            f"({alone[first]}: {stored[first]!r}, not {owner[first]!r}). If they are the same "
            "photographs, run `embed` again with this table: latents are kept, names are set right."
        )
    order = cohort.patients["patient_id"].astype(str).to_numpy()
    patients = order[np.isin(order, owner)]
    position = pd.Series(np.arange(len(patients)), index=patients)
    known = np.isin(owner, patients)
    rows, target = rows[known], position.loc[owner[known]].to_numpy()

    codes = np.asarray(latents.codes)
    X = np.zeros((len(patients), codes[0].size), np.float32)
    np.add.at(X, target, codes.reshape(len(codes), -1)[rows])
    X /= np.bincount(target, minlength=len(patients)).astype(np.float32)[:, None]
    return patients, X


def layer_groups(
    num_ws: int, w_dim: int, layers: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Array]:
    """Columns of the flattened W+ that belong to groups of layers, for `CoxRidge(penalty_groups=...)`.

    Parameters
    ----------
    num_ws, w_dim : int
    layers : dict of str to layer numbers, optional
        By default coarse, middle and fine: layers 0-3 (to 8 px), 4-7 (to 32 px) and 8-, as Karras et al. (2019),
        section 3, divide them (pose and face shape; features and hair; colours and micro-structure). A generator
        too small to have all three leaves a group out.

    Examples
    --------
    >>> layer_groups(6, 2, {"first": [0], "last two": [4, 5]})
    {'first': array([0, 1]), 'last two': array([ 8,  9, 10, 11])}
    """
    columns = np.arange(num_ws * w_dim).reshape(num_ws, w_dim)
    if layers is None:
        thirds = {"coarse": range(4), "middle": range(4, 8), "fine": range(8, num_ws)}
        layers = {name: [i for i in third if i < num_ws] for name, third in thirds.items()}
    for name, members in layers.items():
        if len(members) and not 0 <= min(members) <= max(members) < num_ws:
            raise InputError(
                f"layers[{name!r}]: got {list(members)}; expected numbers in [0, {num_ws}), the layers of W+."
            )
    return {name: columns[list(members)].ravel() for name, members in layers.items() if len(members)}


def strata_from(spec: str | Sequence[str], frame: pd.DataFrame) -> Array:
    """Stratum of each row: ``"site"`` takes a column's levels, ``"entry_year:5"`` bins of width 5.

    Several specifications are crossed. Missing values are a level of their own, "missing".

    Examples
    --------
    >>> strata_from("year:5", pd.DataFrame({"year": [1999, 2001, 2004.0]})).tolist()
    ['1995-2000', '2000-2005', '2000-2005']
    """
    if isinstance(spec, str):
        spec = [part for part in spec.split(",") if part]
    parts = [_one_stratum(part.strip(), frame) for part in spec]
    if not parts:
        raise InputError('strata: empty specification; expected for example "site" or "entry_year:5".')
    joined = parts[0]
    for part in parts[1:]:
        joined = np.char.add(np.char.add(joined, " | "), part)
    return joined


def _one_stratum(spec: str, frame: pd.DataFrame) -> Array:
    name, _, width = spec.partition(":")
    if name not in frame:
        raise InputError(f"strata: no column {name!r} in the table; it has {list(frame.columns)}.")
    column = frame[name]
    if not width:
        return column.astype(object).where(column.notna(), "missing").astype(str).to_numpy(str)
    try:
        step = float(width)
        values = pd.to_numeric(column).to_numpy(float)
    except (TypeError, ValueError):
        raise InputError(
            f"strata: {spec!r} needs a number after ':' and a numeric column {name!r}."
        ) from None
    if not step > 0:
        raise InputError(f"strata: the width in {spec!r} must be > 0.")
    low = np.floor(values / step) * step
    return np.array(["missing" if np.isnan(a) else f"{a:g}-{a + step:g}" for a in low])


class ClinicalDesign(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Clinical columns of a DataFrame as numbers; every quantity is learnt from the rows given to `fit`.

    Numeric columns are imputed by the mean and standardised; text, category and boolean columns become one
    indicator per level that was seen at least `min_count` times (rarer, missing and unseen levels: all zero).
    A column with missing values gets a further indicator ``<column>=missing``.

    Parameters
    ----------
    columns : list of str, optional
        Which columns to use; all of them by default.
    min_count : int
        Levels seen less often than this in the fold do not get a coefficient.

    Attributes
    ----------
    feature_names_out_ : list of str
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry

    def __init__(self, columns: Sequence[str] | None = None, min_count: int = 5) -> None:
        self.columns = columns
        self.min_count = min_count

    def fit(self, X: pd.DataFrame, y: object = None) -> ClinicalDesign:
        columns = list(self.columns) if self.columns is not None else list(X.columns)
        absent = [c for c in columns if c not in X]
        if absent:
            raise InputError(f"clinical: no column {absent} in the table; it has {list(X.columns)}.")
        self.plan_: list[tuple[str, str, Any]] = []
        for name in columns:
            column = X[name]
            if _is_numeric(column):
                values = _numbers(column)
                if not np.isfinite(values).any():
                    continue  # nothing known in this fold
                mean, sd = float(np.nanmean(values)), float(np.nanstd(values))
                if sd > 1e-12 * max(1.0, abs(mean)):
                    self.plan_.append(("number", name, (mean, sd)))
            else:
                counts = column.dropna().astype(str).value_counts()
                levels = sorted(counts.index[counts >= self.min_count])
                reference = counts.idxmax() if len(counts) else None
                self.plan_ += [("level", name, level) for level in levels if level != reference]
            if self.min_count <= int(column.isna().sum()) <= len(column) - self.min_count:
                self.plan_.append(("missing", name, None))
        self.n_features_in_ = len(columns)
        self.feature_names_out_ = [_feature_name(*step) for step in self.plan_]
        return self

    def transform(self, X: pd.DataFrame) -> Array:
        """float64 array, shape (n, len(feature_names_out_))."""
        check_is_fitted(self, "plan_")
        out = np.zeros((len(X), len(self.plan_)))
        for j, (kind, name, value) in enumerate(self.plan_):
            if kind == "number":
                mean, sd = value
                out[:, j] = np.nan_to_num((_numbers(X[name]) - mean) / sd, nan=0.0)
            elif kind == "missing":
                out[:, j] = X[name].isna()
            else:
                out[:, j] = X[name].astype(object).where(X[name].notna(), None).astype(str) == value
        return out

    def get_feature_names_out(self, input_features: object = None) -> Array:
        check_is_fitted(self, "plan_")
        return np.array(self.feature_names_out_, dtype=object)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _numbers(column: pd.Series) -> Array:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _feature_name(kind: str, name: str, value: object) -> str:
    return {"number": name, "level": f"{name}={value}", "missing": f"{name}=missing"}[kind]
