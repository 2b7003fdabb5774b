"""Design matrices: patients from photographs, clinical columns learnt in the fold, strata, layer groups."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from stylegan_surv.errors import InputError
from stylegan_surv.survival.design import ClinicalDesign, layer_groups, patient_matrix, strata_from


def _cohort(photos: pd.DataFrame) -> SimpleNamespace:
    patients = photos[["patient_id"]].drop_duplicates().reset_index(drop=True)
    return SimpleNamespace(index_photos=lambda: photos, patients=patients)


def _latents(ids: list[str]) -> SimpleNamespace:
    w = np.arange(len(ids) * 6, dtype=np.float32).reshape(len(ids), 2, 3)
    return SimpleNamespace(
        ids=np.array(ids), patient_ids=np.array([name[0].upper() for name in ids]), codes=w
    )


def test_a_patient_is_the_mean_of_the_index_photographs_that_succeeded() -> None:
    photos = pd.DataFrame(
        {"photo_id": ["a1", "b1", "a2", "c1", "b2"], "patient_id": ["A", "B", "A", "C", "B"]}
    )
    latents = _latents(["b1", "a2", "later", "a1"])  # c1 and b2 failed; "later" is not an index photograph
    ids, X = patient_matrix(latents, _cohort(photos))
    assert ids.tolist() == ["A", "B"]
    flat = latents.codes.reshape(4, 6)
    np.testing.assert_array_equal(X, [(flat[1] + flat[3]) / 2, flat[0]])
    assert X.dtype == np.float32


def test_no_common_photograph_is_told() -> None:
    photos = pd.DataFrame({"photo_id": ["x"], "patient_id": ["A"]})
    with pytest.raises(
        InputError, match=r"none of the cohort's 1 index photographs .* \['x'\] against \['a'\]"
    ):
        patient_matrix(_latents(["a"]), _cohort(photos))


@pytest.mark.parametrize("num_ws", [2, 6, 10, 18])
def test_layer_groups_divide_the_columns(num_ws: int) -> None:
    groups = layer_groups(num_ws, 8)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(groups.values()))), np.arange(num_ws * 8))
    assert list(groups) == ["coarse", "middle", "fine"][: min(-(-num_ws // 4), 3)]
    assert groups["coarse"].max() < 32


def test_layer_groups_of_other_layers() -> None:
    groups = layer_groups(6, 4, {"pose": [1, 0], "none": [], "light": range(4, 6)})
    assert {name: columns.tolist() for name, columns in groups.items()} == {
        "pose": [4, 5, 6, 7, 0, 1, 2, 3],
        "light": list(range(16, 24)),
    }
    with pytest.raises(InputError, match=r"layers\['light'\]: got \[5, 6\]; expected numbers in \[0, 6\)"):
        layer_groups(6, 4, {"light": [5, 6]})


def test_strata() -> None:
    table = pd.DataFrame({"year": [1999, 2001, 2004.9, np.nan], "site": ["x", None, "y", "x"]})
    assert strata_from("year:5", table).tolist() == ["1995-2000", "2000-2005", "2000-2005", "missing"]
    assert strata_from("site", table).tolist() == ["x", "missing", "y", "x"]
    assert strata_from("site,year:10", table).tolist()[0] == "x | 1990-2000"
    with pytest.raises(InputError, match="no column 'place'"):
        strata_from("place", table)
    with pytest.raises(InputError, match="needs a number after ':'"):
        strata_from("site:5", table)
    with pytest.raises(InputError, match="must be > 0"):
        strata_from("year:0", table)


def _table(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.normal(60, 10, n),
            "sex": rng.choice(["f", "m"], n, p=[0.3, 0.7]),
            "smoker": rng.random(n) < 0.5,
            "entity": ["rare"] * 3 + ["lung"] * 20 + ["skin"] * (n - 23),
            "site": "one",
        }
    )
    table.loc[:9, "age"] = np.nan
    return table


def test_clinical_columns_become_standardised_numbers_and_indicators() -> None:
    table = _table()
    design = ClinicalDesign().fit(table)
    assert design.get_feature_names_out().tolist() == [
        "age", "age=missing", "sex=f", "smoker=" + str(not table["smoker"].mode()[0]), "entity=skin"
    ]  # fmt: skip
    X = pd.DataFrame(design.transform(table), columns=design.feature_names_out_)
    assert X["age"].mean() == pytest.approx(0)
    assert X["age"][10:].std(ddof=0) == pytest.approx(1)
    assert (X["age"][:10] == 0).all()
    assert (X["age=missing"] == ([1] * 10 + [0] * 30)).all()
    assert (X["sex=f"] == (table["sex"] == "f")).all()


def test_everything_is_learnt_from_the_training_rows() -> None:
    table = _table()
    design = ClinicalDesign().fit(table[:30])
    other = table[30:].assign(age=1000.0, sex="unheard of", entity=None, smoker=None)
    X = pd.DataFrame(design.transform(other), columns=design.feature_names_out_)
    known = table["age"][:30]
    np.testing.assert_allclose(X["age"], (1000 - known.mean()) / known.std(ddof=0))
    assert not X.drop(columns=["age"]).to_numpy().any()


def test_columns_without_information_are_left_out() -> None:
    table = _table().assign(empty=np.nan, constant=3.0)
    names = ClinicalDesign(["empty", "constant", "site"]).fit(table).feature_names_out_
    assert names == []
    with pytest.raises(InputError, match=r"no column \['stage'\]"):
        ClinicalDesign(["stage"]).fit(table)
    assert clone(ClinicalDesign(["age"], min_count=2)).get_params() == {"columns": ["age"], "min_count": 2}
