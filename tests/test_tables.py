"""A table means the same however it was saved, and what can be read in two ways is refused with both readings."""

from __future__ import annotations

import gzip
import io
import itertools
import tempfile
import unicodedata
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan_surv._table import read_table
from stylegan_surv.cohort import read_cohort, read_split
from stylegan_surv.errors import InputError

HEAD = ("patient_id", "photo", "time", "event", "age")


def write(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_of(separator: str, *times: str, ages: tuple[str, ...] = ()) -> str:
    """One patient per time, of the ages given, in a file with that separator."""
    rows = itertools.zip_longest(times, ages, fillvalue="")
    lines = [(str(i), f"{i}.png", time, "1", age) for i, (time, age) in enumerate(rows)]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in line] for line in (HEAD, *lines)]
    return "\n".join(separator.join(line) for line in quoted) + "\n"


def times_in(tmp_path: Path, text: str, **options: object) -> list[float]:
    return list(read_cohort(write(tmp_path, text), **options).table["time"])  # type: ignore[arg-type]


def refusal(table: Path | pd.DataFrame, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_cohort(table, **options)  # type: ignore[arg-type]
    return str(caught.value)


# ---- decimal marks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "cells", "expected"),
    [
        (";", ("1.234", "987,5"), [1234, 987.5]),
        ("\t", ("1,234", "987.5"), [1234, 987.5]),
        (",", ("1,234", "987.5"), [1234, 987.5]),
        (",", ("1.234", "987"), [1.234, 987]),
        (";", ("2.500.000", "3"), [2_500_000, 3]),
        (";", ("1.234,5", "12"), [1234.5, 12]),
        (";", ("0.123", "1.234"), [0.123, 1.234]),
        (";", ("1 234,5", "12"), [1234.5, 12]),
        ("\t", ("1’234.5", "1'234"), [1234.5, 1234]),
        (",", ("1e3", "2.5e-1"), [1000, 0.25]),
    ],
)
def test_one_rule_for_all_numbers_of_a_file(
    tmp_path: Path, separator: str, cells: tuple[str, ...], expected: list[float]
) -> None:
    assert times_in(tmp_path, table_of(separator, *cells)) == expected


def test_another_column_may_say_which_mark_is_the_decimal_one(tmp_path: Path) -> None:
    assert times_in(tmp_path, table_of(";", "1.234", "987", ages=("61,5", "48"))) == [1234, 987]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_two_ways_in_one_file_are_refused_with_both_readings(tmp_path: Path, separator: str) -> None:
    text = refusal(write(tmp_path, table_of(separator, "12.5", "987,5")))
    assert "row 2, time '12.5' has a decimal point, row 3, time '987,5' a decimal comma" in text
    assert "With a decimal point they are 12.5 and no number" in text
    assert "with a decimal comma no number and 987.5" in text


@pytest.mark.parametrize(
    ("separator", "cell"), [(";", "1.234"), (";", "1,234"), ("\t", "1,234"), (",", "1,234")]
)
def test_what_nothing_decides_is_refused_with_both_readings(
    tmp_path: Path, separator: str, cell: str
) -> None:
    text = refusal(write(tmp_path, table_of(separator, cell, "987")))
    assert f"row 2, time '{cell}'" in text
    assert "1.234" in text
    assert "1234" in text


def test_names_dates_and_labels_say_nothing_of_marks(tmp_path: Path) -> None:
    head = "patient_id;photo;time;event;site;photo_date;origin_date;when\n"
    rows = (
        "1.5;1.png;2,5;1;3.1;2010-01-01;2010-01-01;01.02.2011\n2.5;2.png;3,5;1;3.2;2010-01-01;2010-01-01;\n"
    )
    cohort = read_cohort(write(tmp_path, head + rows))
    assert list(cohort.patients["patient_id"]) == ["1.5", "2.5"]
    assert list(cohort.patients["site"]) == ["3.1", "3.2"]
    assert list(cohort.patients["time"]) == [2.5, 3.5]


def test_numbers_of_a_frame_need_no_rule() -> None:
    frame = pd.DataFrame(
        {"patient_id": [1, 2], "photo": ["a", "b"], "time": [1.234, 2.0], "event": 1, "x": ["9,5", 7]}
    )
    cohort = read_cohort(frame)
    assert list(cohort.table["time"]) == [1.234, 2.0]
    assert list(cohort.table["x"]) == [9.5, 7.0]


numbers = st.lists(
    st.floats(0.01, 99_999_999, allow_nan=False).map(lambda x: float(f"{x:.2f}")).filter(bool),
    min_size=1,
    max_size=6,
)


@given(
    numbers, st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", ".")]), st.booleans()
)
def test_what_was_written_is_read(values: list[float], style: tuple[str, str], thousands: bool) -> None:
    """Any numbers with two decimals, with and without marks between thousands, in every kind of file."""
    separator, decimal = style
    point = str.maketrans({".": decimal, ",": "." if decimal == "," else ","})
    cells = [format(value, ",.2f" if thousands else ".2f").translate(point) for value in values]
    lines = [f'"{cell}"' for cell in cells]
    text = "x" + separator + "y\n" + "".join(f"{line}{separator}1\n" for line in lines)
    raw = read_table_text(text)
    assert [float(cell) for cell in raw["x"]] == values


def read_table_text(text: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        return read_table(write(Path(folder), text)).frame


@given(st.text(alphabet="0123456789.,-+ e';\t\"\n=NA", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        assert list(read_table_text("patient_id,photo\n" + text))[:2] == ["patient_id", "photo"]


# ---- identifiers -----------------------------------------------------------------------------------------


def test_a_patient_has_one_name_in_every_source(tmp_path: Path) -> None:
    rows = [("123", "a.png"), ("123.0", "b.png"), (" 123 ", "c.png"), ("0123", "d.png")]
    text = "patient_id,photo,time,event\n" + "".join(f"{patient},{photo},1,1\n" for patient, photo in rows)
    frame = pd.DataFrame(
        {"patient_id": [123, 123.0, "123.0", "0123"], "photo": list("abcd"), "time": 1, "event": 1}
    )
    floats = pd.DataFrame({"patient_id": [123.0, np.float32(7)], "photo": ["a", "b"], "time": 1, "event": 1})
    floats.to_parquet(tmp_path / "t.parquet")
    assert set(read_cohort(write(tmp_path, text)).table["patient_id"]) == {"123", "0123"}
    assert set(read_cohort(frame).table["patient_id"]) == {"123", "0123"}
    for source in (floats, tmp_path / "t.parquet"):
        assert list(read_cohort(source).table["patient_id"]) == ["123", "7"]
    assert list(read_split(write(tmp_path, "patient_id,set\n123.0,a\n"))["patient_id"]) == ["123"]


@pytest.mark.parametrize("mark", ["NA", "null", "nan", ".", "None", "#N/A", "-", "n/a", "NaT", "–", "?"])
def test_a_mark_for_a_missing_value_is_no_patient(tmp_path: Path, mark: str) -> None:
    said = f"patient_id: '{mark}'; expected a value; this stands for a missing one"
    assert f"row 2, {said}" in refusal(write(tmp_path, f"patient_id,photo,time,event\n{mark},a.png,1,1\n"))
    assert f"row 0, {said}" in refusal(
        pd.DataFrame({"patient_id": [mark], "photo": "a", "time": 1, "event": 1})
    )
    with pytest.raises(InputError, match="stands for a missing one"):
        read_split(write(tmp_path, f"patient_id,set\n{mark},a\n"))


def test_a_covariate_may_be_called_none(tmp_path: Path) -> None:
    text = "patient_id,photo,time,event,therapy,oestrogen\n1,a,1,1,none,-\n2,b,1,1,NA,+\n"
    cohort = read_cohort(write(tmp_path, text))
    assert list(cohort.table["therapy"]) == ["none", None]
    assert list(cohort.table["oestrogen"]) == ["-", "+"]


@pytest.mark.parametrize("name", ["=1+1", "+49", "-3", "@me"])
def test_a_patient_that_a_spreadsheet_takes_for_a_formula_is_refused(tmp_path: Path, name: str) -> None:
    text = refusal(write(tmp_path, f"patient_id,photo,time,event\n{name},a.png,1,1\n"))
    assert f"row 2, patient_id: '{name}'; expected a name that does not begin with" in text


@pytest.mark.parametrize(
    ("name", "shown"), [("a\u200bb", r"a\u200bb"), ("a\x00b", r"a\x00b"), ("a\u202eb", r"a\u202eb")]
)
def test_characters_that_nobody_sees_are_refused(tmp_path: Path, name: str, shown: str) -> None:
    text = refusal(write(tmp_path, f"patient_id,photo,time,event\n{name},{name}.png,1,1\n"))
    assert f"patient_id: '{shown}'; expected visible characters" in text
    assert f"photo: '{shown}.png'; expected visible characters" in text


# ---- what a table looks like -----------------------------------------------------------------------------

PLAIN = "patient_id,photo,time,event,age\n1,a.png,1.5,1,60\n2,b.png,2.5,0,70\n"


@pytest.mark.parametrize(
    "text",
    [
        ",patient_id,photo,time,event,age\n0,1,a.png,1.5,1,60\n1,2,b.png,2.5,0,70\n",
        "Unnamed: 0,patient_id,photo,time,event,age\n1,1,a.png,1.5,1,60\n2,2,b.png,2.5,0,70\n",
        "patient_id,photo,time,event,age,\n1,a.png,1.5,1,60,\n2,b.png,2.5,0,70,\n",
        "patient_id,photo,time,event,age\n1,a.png,1.5,1,60,,\n2,b.png,2.5,0,70,\n",
        "sep=;\npatient_id;photo;time;event;age\n1;a.png;1,5;1;60\n2;b.png;2,5;0;70\n",
        "SEP=,\r\n" + PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
    ],
)
def test_what_programs_add_to_a_table_changes_nothing(tmp_path: Path, text: str) -> None:
    expected = read_cohort(write(tmp_path, PLAIN, "plain.csv"))
    cohort = read_cohort(write(tmp_path, text))
    assert cohort.covariates == ["age"]
    pd.testing.assert_frame_equal(cohort.table, expected.table)


def test_utf16_as_excel_writes_it(tmp_path: Path) -> None:
    table = read_cohort(write(tmp_path, PLAIN.replace(",", "\t").encode("utf-16"), "t.txt")).table
    pd.testing.assert_frame_equal(table, read_cohort(write(tmp_path, PLAIN)).table)


def test_a_column_without_name_that_says_something_is_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, "patient_id,photo,time,event,\n1,a,1,1,5\n2,b,1,1,9\n"))
    assert "column 5 has no name in the header" in text


def test_rows_are_counted_as_in_the_file_after_a_separator_line(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, "sep=;\npatient_id;photo;time;event\n1;a;-1;1\n"))
    assert "row 3, time: '-1'" in text


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as parts:
        for name, text in files.items():
            parts.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.csv.gz", gzip.compress(PLAIN.encode(), mtime=0), "compressed by gzip"),
        ("t.csv", gzip.compress(PLAIN.encode(), mtime=0), "compressed by gzip"),
        ("t.xlsx", archive(notes="x"), "a ZIP archive and no Excel workbook"),
        ("t.xlsx", archive(**{"xl/workbook.xml": "<a"}), "a damaged Excel workbook"),
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Excel file"),
        ("t.xls", b"<html><table></table></html>", "a web page or XML"),
        ("t.csv", b"%PDF-1.7", "a PDF document"),
        ("t.csv", "patient_id\nM\xfcller\n".encode("latin-1"), "is not UTF-8"),
        (
            "t.csv",
            b'patient_id,photo,time,event\n1,"' + b"x" * 140_000,
            "row 2: a cell is longer than 100000 characters",
        ),
        ("t.parquet", b"PAR1", "not a readable Parquet file"),
        ("t.csv", b"PAR1....PAR1", "not a readable Parquet file"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    text = refusal(write(tmp_path, data, name))
    assert said in text
    assert name in text


def workbook(tmp_path: Path, *sheets: list[list[object]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    return tmp_path / "t.xlsx"


def test_a_workbook_is_read_as_the_same_table_in_csv(tmp_path: Path) -> None:
    day = pd.Timestamp("2010-03-01").to_pydatetime()
    head = ["patient_id", "photo", "time", "event", "age", "sex", "photo_date", "origin_date"]
    rows = [[7, "a.png", 1.234, True, "61,5", "f", day, day], [8.0, "b.png", 2, 0, None, "NA", day, None]]
    book = workbook(tmp_path, [[None], head, *rows], [])
    text = "".join(
        [",".join(head), "\n7,a.png,1.234,1,61.5,f,2010-03-01,2010-03-01", "\n8,b.png,2,0,,,2010-03-01,\n"]
    )
    expected = read_cohort(write(tmp_path, text)).table
    pd.testing.assert_frame_equal(read_cohort(book).table, expected)
    book.rename(tmp_path / "called.csv")  # what it is follows from its content
    pd.testing.assert_frame_equal(read_cohort(tmp_path / "called.csv").table, expected)


def test_faults_of_a_workbook_are_counted_as_its_rows(tmp_path: Path) -> None:
    head = ["patient_id", "photo", "time", "event"]
    assert "row 4, time: '-1'" in refusal(workbook(tmp_path, [[None], head, [None], [1, "a", -1, 1]]))
    two = [head, [1, "a", 1, 1]]
    assert "2 sheets with data" in refusal(workbook(tmp_path, two, two))
    assert "is empty" in refusal(workbook(tmp_path, []))


def test_a_parquet_folder_is_a_table(tmp_path: Path) -> None:
    expected = read_cohort(write(tmp_path, PLAIN)).table
    parts = tmp_path / "parts"
    parts.mkdir()
    frame = pd.read_csv(tmp_path / "t.csv")
    for k in range(2):
        frame.iloc[[k]].to_parquet(parts / f"{k}.parquet")
    pd.testing.assert_frame_equal(read_cohort(parts).table, expected)
    (tmp_path / "empty").mkdir()
    assert "is a folder without Parquet files" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "America/New_York", "Asia/Tokyo"])
def test_a_time_zone_moves_no_day(tmp_path: Path, zone: str) -> None:
    days = pd.to_datetime(["2012-01-01", "2010-01-01"])
    frame = pd.DataFrame({"patient_id": ["1", "2"], "photo": ["a", "b"], "time": 9.0, "event": 1})
    plain = frame.assign(photo_date=days, origin_date=days)
    zoned = frame.assign(photo_date=days.tz_localize(zone), origin_date=days.tz_localize(zone))
    zoned.to_parquet(tmp_path / "t.parquet")
    late = frame.assign(photo_date=days.strftime("%Y-%m-%dT23:59:59+01:00"), origin_date=days)
    expected = read_cohort(plain).table
    for source in (zoned, tmp_path / "t.parquet", late):
        pd.testing.assert_frame_equal(read_cohort(source).table, expected)


# ---- photographs -----------------------------------------------------------------------------------------


def photographs(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    return tmp_path / "photos"


def of_photos(tmp_path: Path, *names: str) -> Path:
    rows = "".join(f"p{i},{name},1,1\n" for i, name in enumerate(names))
    return write(tmp_path, "patient_id,photo,time,event\n" + rows)


@pytest.mark.parametrize("other", ["./b.jpg", "x/../b.jpg", ".//b.jpg", "{photos}/b.jpg"])
def test_one_photograph_has_one_name(tmp_path: Path, other: str) -> None:
    folder = photographs(tmp_path, "b.jpg")
    other = other.format(photos=folder)
    assert read_cohort(of_photos(tmp_path, other), folder).table["photo"].item() == "b.jpg"
    text = refusal(of_photos(tmp_path, "b.jpg", other), photos=folder)
    assert f"row 3, photo: '{other}'; expected each photograph once" in text


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "x/../../secret.jpg", "..", "{photos}/../secret.jpg"]
)
def test_no_photograph_lies_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = photographs(tmp_path, "b.jpg")
    (tmp_path / "secret.jpg").touch()
    name = name.format(photos=folder)
    text = refusal(of_photos(tmp_path, name), photos=folder)
    assert (
        f"row 2, photo: '{name}'; expected a name relative to the folder of photographs, and inside it"
        in text
    )


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    """What macOS unpacks and what Windows types look alike and are other bytes."""
    mac, windows = (unicodedata.normalize(form, "Müller é.jpg") for form in ("NFD", "NFC"))
    folder = photographs(tmp_path, f"ward/{mac}")
    for name in (mac, windows):
        table = read_cohort(of_photos(tmp_path, f"ward/{name}"), folder).table
        assert table["photo"].item() == f"ward/{windows}"
        assert Path(table["path"].item()).is_file()
        assert table["photo_id"].item() == "Müller_é"
    assert "row 3, photo" in refusal(of_photos(tmp_path, f"ward/{mac}", f"ward/{windows}"), photos=folder)
    ids = pd.DataFrame({"patient_id": [mac, windows], "photo": ["a", "b"], "time": 1, "event": 1})
    assert len(read_cohort(ids)) == 1


def test_a_missing_photograph_is_told_with_the_other_faults(tmp_path: Path) -> None:
    """`embed` takes it for a failed row, but a table that is sent back is sent back with all of its faults."""
    folder = photographs(tmp_path, "a.jpg")
    text = "patient_id,photo,time,event\n1,a.jpg,1,1\n2,gone.jpg,1,1\n"
    assert len(read_cohort(write(tmp_path, text), folder, check_photos=False)) == 2
    text = refusal(write(tmp_path, text + "3,a.jpg,-1,2\n"), photos=folder, check_photos=False)
    assert "row 3, photo: 'gone.jpg'; expected a file in photos" in text
    assert "4 faults" in text
