"""Every fault of a clinical table is found, all are reported together, and time zero is what it should be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan_surv._photos import photo_ids
from stylegan_surv.cohort import read_cohort, read_split, split_cohort
from stylegan_surv.errors import InputError

GOOD = """patient_id,photo,time,event,age,sex,stage
007,a.jpg,2.5,1,61.5,f,II
008,b.jpg,4,0,,m,III
009,c.jpg,1.25,1,48,f,
"""


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "clinical.csv"
    path.write_text(text, encoding="utf-8")
    return path


def message(tmp_path: Path, text: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_cohort(csv(tmp_path, text), **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_reads_types_and_order(tmp_path: Path) -> None:
    cohort = read_cohort(csv(tmp_path, GOOD), time_origin="diagnosis")
    assert list(cohort.patients["patient_id"]) == ["007", "008", "009"]  # identifiers stay text
    assert cohort.covariates == ["age", "sex", "stage"]
    assert cohort.patients["event"].dtype == bool
    assert cohort.patients["time"].tolist() == [2.5, 4.0, 1.25]
    assert np.isnan(cohort.patients["age"][1])
    assert cohort.patients["stage"][2] is None
    assert (cohort.patients["entry"] == 0).all()
    assert len(cohort) == 3
    assert len(cohort.flags) == 1
    assert "no date" in cohort.flags[0]


def test_a_cohorts_own_table_reads_back() -> None:
    cohort = read_cohort(pd.read_csv(io.StringIO(DATED), dtype=str), time_origin="diagnosis")
    again = read_cohort(cohort.table, time_origin="diagnosis")
    pd.testing.assert_frame_equal(again.table, cohort.table)
    pd.testing.assert_frame_equal(again.patients, cohort.patients)
    assert again.flags == cohort.flags


def test_csv_parquet_frame_and_semicolons_agree(tmp_path: Path) -> None:
    first = read_cohort(csv(tmp_path, GOOD))
    frame = pd.read_csv(tmp_path / "clinical.csv", dtype={"patient_id": str})
    frame.to_parquet(tmp_path / "clinical.parquet")
    german = "\n".join(
        line.replace(",", ";").replace(".5", ",5").replace(".25", ",25") for line in GOOD.split("\n")
    )
    (tmp_path / "german.csv").write_text("\ufeff" + german, encoding="utf-8")
    for table in (frame, tmp_path / "clinical.parquet", tmp_path / "german.csv"):
        pd.testing.assert_frame_equal(read_cohort(table).table, first.table)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("010,d.jpg,-3,1,,,", "row 5, time: '-3'; expected years of follow-up, a number above 0"),
        ("010,d.jpg,0,1,,,", "row 5, time: '0'"),
        ("010,d.jpg,inf,1,,,", "row 5, time: 'inf'"),
        ("010,d.jpg,two,1,,,", "row 5, time: 'two'"),
        ("010,d.jpg,,1,,,", "row 5, time: nothing"),
        ("010,d.jpg,3,2,,,", "row 5, event: '2'; expected 1 (died) or 0 (censored)"),
        ("010,d.jpg,3,dead,,,", "row 5, event: 'dead'"),
        ("010,d.jpg,3,,,,", "row 5, event: nothing"),
        ("010,a.jpg,3,1,,,", "row 5, photo: 'a.jpg'; expected each photograph once"),
        (",d.jpg,3,1,,,", "row 5, patient_id: nothing"),
        ("010,,3,1,,,", "row 5, photo: nothing"),
        ("010,d.jpg,3,1,4O,,", "row 5, age: '4O'; expected a number"),
        ("007,d.jpg,3,1,61.5,f,II", "row 5, time: '3'; expected '2.5' as in the other rows of patient 007"),
        ("007,d.jpg,2.5,0,61.5,f,II", "row 5, event: '0'"),
        ("007,d.jpg,2.5,1,61.5,m,II", "row 5, sex: 'm'; expected 'f' as in the other rows of patient 007"),
    ],
)
def test_a_fault_is_named_with_row_column_value(tmp_path: Path, line: str, said: str) -> None:
    text = message(tmp_path, GOOD + line + "\n")
    assert said in text
    assert "1 fault" in text


def test_all_faults_together_in_order_and_cut(tmp_path: Path) -> None:
    text = message(tmp_path, GOOD + "010,d.jpg,-1,3,,,\n011,e.jpg,x,1,old,,\n")
    assert "4 faults" in text
    assert [part.split(",")[0] for part in text.split("\n")[1:]] == [
        "  row 5",
        "  row 5",
        "  row 6",
        "  row 6",
    ]
    many = GOOD + "".join(f"p{i},x{i}.jpg,-1,1,,,\n" for i in range(50))
    text = message(tmp_path, many)
    assert "50 faults" in text
    assert text.endswith("and 30 more")


def test_photographs_must_exist(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "b.JPG"):
        (photos / name).touch()
    text = message(tmp_path, GOOD, photos=photos)
    assert "row 3, photo: 'b.jpg'; expected a file in photos (there is b.JPG)" in text
    assert "row 4, photo: 'c.jpg'" in text
    assert "2 faults" in text
    cohort = read_cohort(tmp_path / "clinical.csv", photos, check_photos=False)
    assert cohort.table["path"][0] == str(photos.resolve() / "a.jpg")
    with pytest.raises(InputError, match="no folder"):
        read_cohort(tmp_path / "clinical.csv", tmp_path / "nowhere")


def test_a_chips_folder_knows_the_original_names(tmp_path: Path) -> None:
    manifest = pd.DataFrame({"photo_id": ["a_jpg", "b"], "source_name": ["a.jpg", "b.jpg"]})
    manifest.to_parquet(tmp_path / "_chips.parquet")
    text = message(tmp_path, GOOD, photos=tmp_path)
    assert "row 4, photo: 'c.jpg'; expected a photograph that was aligned into" in text
    assert "1 fault" in text
    cohort = read_cohort(csv(tmp_path, GOOD.rsplit("009", 1)[0]), tmp_path)
    assert list(cohort.table["photo_id"]) == ["a_jpg", "b"]


def test_a_photograph_without_chip_does_not_pass_for_one_of_another_folder(tmp_path: Path) -> None:
    names = {
        "photo_id": ["IMG_0", "IMG_1", "q"],
        "source_name": ["site1/IMG_0.jpg", "site1/IMG_1.jpg", "q.png"],
    }
    pd.DataFrame(names).to_parquet(tmp_path / "_chips.parquet")
    table = "patient_id,photo,time,event\n001,site2/IMG_0.jpg,1,1\n002,site1/IMG_1.jpg,2,0\n003,q.jpg,2,0\n"
    (tmp_path / "table.csv").write_text(table)
    cohort = read_cohort(tmp_path / "table.csv", tmp_path, check_photos=False)
    assert list(cohort.table["photo_id"]) == ["IMG_0-unaligned", "IMG_1", "q-unaligned"]
    text = message(
        tmp_path, "patient_id,photo,time,event\n001,,1,1\n002,site1/IMG_1.jpg,2,0\n", photos=tmp_path
    )
    assert "row 2, photo: nothing" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("patient_id,photo,time,event\n", "no rows"),
        ("patient,photo,time,event\n1,a,1,1\n", "has no column patient_id; it has patient, photo"),
        ("patient_id,photo,time,event,time\n1,a,1,1,2\n", "'time' more than once"),
        ("patient_id,photo,time,event\n1,a,1,1\n2,b,1,1,,5\n", "row 3: 6 fields where the header has 4"),
    ],
)
def test_a_table_that_is_no_cohort(tmp_path: Path, text: str, said: str) -> None:
    assert said in message(tmp_path, text)


def test_names_can_be_mapped(tmp_path: Path) -> None:
    text = GOOD.replace("patient_id,photo,time,event", "pid,img,os,dead")
    columns = {"patient_id": "pid", "photo": "img", "time": "os", "event": "dead"}
    assert read_cohort(csv(tmp_path, text), columns=columns).patients["time"][0] == 2.5
    assert "no column os_time (for time)" in message(tmp_path, text, columns={"time": "os_time"})
    assert "two names" in message(tmp_path, text, columns={"time": "os", "event": "os"})


def test_time_unit_is_checked(tmp_path: Path) -> None:
    assert "expected one of days, weeks, months, years" in message(tmp_path, GOOD, time_unit="decades")


def test_not_text_and_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("patient_id,photo,time,event\nMüller,a,1,1\n".encode("latin-1"))
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    for name, said in (("latin.csv", "UTF-8"), ("x.parquet", "Parquet"), ("none.csv", "There is no table")):
        with pytest.raises(InputError, match=said):
            read_cohort(tmp_path / name)


def test_row_numbers_count_blank_and_multiline_rows(tmp_path: Path) -> None:
    text = 'patient_id,photo,time,event,note\n1,a.jpg,1,1,"two\nlines"\n\n2,b.jpg,-1,1,\n'
    assert "row 5, time: '-1'" in message(tmp_path, text)


def test_a_slip_in_a_numeric_column_is_flagged(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i}.jpg,1,1,{'x' if i == 3 else i}\n" for i in range(20))
    cohort = read_cohort(csv(tmp_path, "patient_id,photo,time,event,karnofsky\n" + rows))
    assert any("'karnofsky' is read as text because of 1 values like 'x'" in flag for flag in cohort.flags)


# ---- time zero -------------------------------------------------------------------------------------------

DATED = """patient_id,photo,time,event,photo_date,origin_date,camera
1,a.jpg,10,1,2012-01-01,2010-01-01,A
1,b.jpg,10,1,2012-01-01,2010-01-01,B
1,c.jpg,10,1,2015-01-01,2010-01-01,A
2,d.jpg,5,0,2009-06-01,2010-01-01,A
3,e.jpg,5,0,,2010-01-01,A
"""


def test_a_late_photograph_sets_the_entry_of_its_patient(tmp_path: Path) -> None:
    cohort = read_cohort(csv(tmp_path, DATED), time_origin="diagnosis")
    two_years = 730 / 365.25
    assert cohort.patients["entry"].tolist() == pytest.approx([two_years, 0, 0])
    assert cohort.table["entry"].tolist() == pytest.approx([two_years] * 3 + [0, 0])
    assert cohort.patients["n_photos"].tolist() == [3, 1, 1]
    assert any(flag.startswith("1 of 5 photographs have no date") for flag in cohort.flags)
    assert any(flag.startswith("1 of the patients enter") for flag in cohort.flags)


def test_index_photographs_are_those_of_the_earliest_date(tmp_path: Path) -> None:
    cohort = read_cohort(csv(tmp_path, DATED))
    assert cohort.index_photos()["photo"].tolist() == ["a.jpg", "b.jpg", "d.jpg", "e.jpg"]
    assert any("1 of the photographs, of later" in flag for flag in cohort.flags)


def test_undated_patients_keep_all_photographs(tmp_path: Path) -> None:
    cohort = read_cohort(csv(tmp_path, "patient_id,photo,time,event\n1,a,1,1\n1,b,1,1\n"))
    assert len(cohort.index_photos()) == 2


def test_months_and_given_entry(tmp_path: Path) -> None:
    text = "patient_id,photo,time,event,entry,photo_date,origin_date\n1,a,40,1,30,2012-01-01,2010-01-01\n"
    text += "2,b,40,1,3,2012-01-01,2010-01-01\n"
    cohort = read_cohort(csv(tmp_path, text), time_unit="months")
    assert cohort.patients["entry"].tolist() == pytest.approx([30, 730 / 365.25 * 12])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "4,f.jpg,5,1,2016-01-01,2010-01-01,A",
            "row 7, photo_date: '2016-01-01'; expected a photograph taken bef",
        ),
        (
            "4,f.jpg,5,1,01.02.2011,2010-01-01,A",
            "row 7, photo_date: '01.02.2011'; expected a date as YYYY-MM-DD",
        ),
        ("4,f.jpg,5,1,2011-02-30,2010-01-01,A", "row 7, photo_date: '2011-02-30'"),
        ("3,f.jpg,5,0,,2011-01-01,A", "row 7, origin_date: '2011-01-01'"),
    ],
)
def test_faults_of_dates(tmp_path: Path, line: str, said: str) -> None:
    assert said in message(tmp_path, DATED + line + "\n")


@pytest.mark.parametrize("entry", ["5", "7", "-1", "soon", "inf"])
def test_entry_lies_between_zero_and_time(tmp_path: Path, entry: str) -> None:
    text = message(tmp_path, f"patient_id,photo,time,event,entry\n1,a,5,1,{entry}\n")
    assert f"row 2, entry: '{entry}'" in text


def test_landmark_takes_the_latest_photograph_and_truncates(tmp_path: Path) -> None:
    cohort = read_cohort(csv(tmp_path, DATED))
    later = cohort.landmark(5.5)
    assert later.table["photo"].tolist() == ["c.jpg"]
    assert later.patients["entry"].tolist() == [5.5]
    assert later.index_photos()["photo"].tolist() == ["c.jpg"]
    assert cohort.landmark(3).table["photo"].tolist() == ["a.jpg", "b.jpg", "d.jpg"]
    with pytest.raises(InputError, match="landmark"):
        cohort.landmark(20)


# ---- names and splits ------------------------------------------------------------------------------------

names = st.lists(st.text(alphabet="aAb._/ -ü\\", min_size=1, max_size=8), unique=True, max_size=12)


@given(names)
def test_photo_ids_are_unique_files(given_names: list[str]) -> None:
    ids = photo_ids(given_names)
    assert len({name.casefold() for name in ids}) == len(given_names)
    assert all(name and name[0] not in "._" and "/" not in name and "\\" not in name for name in ids)


def big(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    patient = np.repeat([f"p{i:03d}" for i in range(n // 2)], 2)
    event = np.repeat(rng.random(n // 2) < 0.3, 2)
    age = np.repeat(rng.normal(60, 10, n // 2), 2)
    photo = [f"{i}.png" for i in range(n)]
    return pd.DataFrame({"patient_id": patient, "photo": photo, "time": 1.0, "event": event, "age": age})


def test_split_is_by_patient_balanced_and_repeatable() -> None:
    cohort = read_cohort(big())
    split = split_cohort(
        cohort, {"finetune": 0.3, "tune": 0.2, "evaluate": 0.5}, seed=3, stratify=["event", "age"]
    )
    assert split["patient_id"].is_unique
    assert split["set"].value_counts().to_dict() == {"evaluate": 100, "finetune": 60, "tune": 40}
    share = cohort.patients["event"].groupby(split["set"]).mean()
    assert share.max() - share.min() < 0.04
    shuffled = read_cohort(big().sample(frac=1, random_state=1))
    again = split_cohort(
        shuffled, {"finetune": 0.3, "tune": 0.2, "evaluate": 0.5}, seed=3, stratify=["event", "age"]
    )
    assert dict(zip(again["patient_id"], again["set"])) == dict(zip(split["patient_id"], split["set"]))
    other = split_cohort(cohort, seed=4)
    assert (other["set"] != split_cohort(cohort, seed=5)["set"]).any()


def test_split_refuses_and_reads_back(tmp_path: Path) -> None:
    cohort = read_cohort(big(20))
    for fractions in ({"a": 0.5, "b": 0.6}, {"a": 1.2, "b": -0.2}):
        with pytest.raises(InputError, match="sum to 1"):
            split_cohort(cohort, fractions)
    with pytest.raises(InputError, match="stratify by site"):
        split_cohort(cohort, stratify=["site"])
    split = split_cohort(cohort)
    split.to_csv(tmp_path / "split.csv", index=False)
    assert read_split(tmp_path / "split.csv").equals(split)
    (tmp_path / "split.csv").write_text("patient_id,set\na,x\na,y\n")
    with pytest.raises(InputError, match="row 3, patient_id: 'a'; expected each patient once"):
        read_split(tmp_path / "split.csv")


def test_subset_keeps_order() -> None:
    cohort = read_cohort(big(20))
    part = cohort.subset(["p003", "p001"])
    assert part.patients["patient_id"].tolist() == ["p001", "p003"]
    assert len(part.table) == 4
    with pytest.raises(InputError, match="Not in the cohort: nobody"):
        cohort.subset(["nobody"])
