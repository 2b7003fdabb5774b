"""What is written is whole, asked for before the work, safe in a spreadsheet, and says how far it is."""

from __future__ import annotations

import errno
import os
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_align import run

from stylegan_surv._files import check_file, check_folder, escaped, unescaped, write_csv
from stylegan_surv._table import read_table
from stylegan_surv.cli import _progress
from stylegan_surv.errors import InputError

TABLE = "patient_id,photo,time,event\na,a.jpg,1,1\nb,b.jpg,2,0\n"


# ---- places ----------------------------------------------------------------------------------------------


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new" / "deeper") == tmp_path / "new" / "deeper"
    assert check_file(tmp_path / "file.csv") == tmp_path / "file.csv"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    for check in (check_folder, check_file):
        with pytest.raises(InputError, match=rf"nothing can be written to .*{os.strerror(code)}"):
            check(tmp_path / "out")


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in ("file", "file/below/deeper", "link"):
        with pytest.raises(InputError, match="is a file; expected a folder"):
            check_folder(tmp_path / path)
    with pytest.raises(InputError, match="is a folder; expected the name of a file"):
        check_file(tmp_path)


def test_split_refuses_a_place_before_it_reads_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "file").touch()
    for out, said in (
        (tmp_path / "file" / "s.csv", "There is no folder"),
        (tmp_path, "exists already"),
        (Path("/proc") / "s.csv", "nothing can be written"),
    ):
        code, printed, err = run(monkeypatch, capfd, "split", tmp_path / "none.csv", "-o", out)
        assert (code, printed) == (2, "")
        assert said in err
        assert "There is no table" not in err
    code, _, err = run(monkeypatch, capfd, "split", tmp_path / "t.csv", "-o", tmp_path / ("x" * 300))
    assert code == 2
    assert "File name too long" in err
    assert err.count("Error:") == 1


# ---- spreadsheets ----------------------------------------------------------------------------------------

unseen = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")  # Unicode categories
texts = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=unseen), min_size=1)
marks = st.sampled_from(["=", "+", "-", "@", "'", "'="])
cells = st.one_of(texts, st.builds(lambda mark, text: mark + text, marks, texts))


@given(st.text())
def test_what_is_escaped_comes_back_and_is_no_formula(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(cells, min_size=1, max_size=5))
def test_texts_come_back_from_a_csv(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "t.csv", pd.DataFrame({"site": names, "x": -1.5}))
        lines = (Path(folder) / "t.csv").read_text().splitlines()
        found = read_table(Path(folder) / "t.csv", labels=["site"]).frame
    assert list(found["site"]) == [unicodedata.normalize("NFC", name) for name in names]
    assert list(found["x"]) == ["-1.5"] * len(names)
    assert not any(line.lstrip('"').startswith(("=", "+", "-", "@")) for line in lines)


def test_numbers_stay_numbers_and_headers_are_texts(tmp_path: Path) -> None:
    table = pd.DataFrame({"=x": [-1.5, np.nan], "b": ["@me", None], "c": [-2, 3], "d": ["-1", -1]})
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "'=x,b,c,d\n-1.5,'@me,-2,'-1\n,,3,-1\n"
    assert list(table.columns) == ["=x", "b", "c", "d"]  # the caller's table is as it was


# ---- how far it is ---------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(_progress.time, "monotonic", lambda: self.now)


def test_without_a_terminal_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with _progress.progress_bar("Aligning") as report:
        for done in range(151):
            report(done, 150)
            clock.now += 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        *(f"Aligning: {k} of 150, 1/s, {_progress._duration(150 - k)} left" for k in (30, 60, 90, 120)),
        "Aligning: 150 of 150, 1/s, 0 s left",
        "Aligning: done in 3 min",
    ]


def test_work_of_seconds_says_nothing_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with _progress.progress_bar("Aligning") as report:
        report(0, 2)
        clock.now += 29
        report(2, 2)
    assert capsys.readouterr().err == ""


def test_no_bar_before_the_first_report_and_none_that_ends_early(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with pytest.raises(InputError), _progress.progress_bar("Aligning"):
        raise InputError("an argument is wrong")
    assert capsys.readouterr().err == ""
    with _progress.progress_bar("Aligning") as report:
        report(0, 150)
        report(37, 150)  # the rest had been done before, or was not needed
    drawn = capsys.readouterr().err
    assert drawn.rfind("150/150") > drawn.rfind("37/150")


@pytest.mark.parametrize(("command", "goes_on"), [("align", True), ("fit", False)])
def test_only_what_goes_on_is_said_to_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    goes_on: bool,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"stylegan_surv.cli.{command}.command.callback", interrupt)
    words = {
        "align": [tmp_path, "-o", tmp_path / "out"],
        "fit": ["--latents", tmp_path, "--cohort", "c", "-o", "s"],
    }
    code, _, err = run(monkeypatch, capfd, command, *words[command])
    assert code == 130
    assert ("goes on where it stopped" in err) is goes_on


def test_a_mistyped_command_is_suggested(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capfd, "alin")
    assert code == 2
    assert "Did you mean 'align'?" in err
    code, _, err = run(monkeypatch, capfd, "zzzz")
    assert "Did you mean" not in err
