"""On the command line every fault is one message with exit code 2 or 1, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_face import draw_face, draw_landscape
from PIL import Image
from test_faces_load import png_header

from stylegan_surv import cli


def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``stylegan-surv words…``."""
    monkeypatch.setattr("sys.argv", ["stylegan-surv", *map(str, words)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_align_all_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(
        0, 4, (160, 160, 3)
    )  # without grain it would be on the review list
    Image.fromarray(np.clip(draw_face(160) + noise, 0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    words = ["align", tmp_path, "-o", tmp_path / "chips", "--size", 64, "--workers", 1, "--json"]
    code, out, _ = run(monkeypatch, capfd, *words)
    assert code == 0
    chips = str(tmp_path / "chips")
    said = {"photos": 1, "aligned": 1, "failed": [], "review": [], "ignored": {}, "kept": 0, "sheet": None}
    assert json.loads(out) == {**said, "chips": chips}


def test_failed_photographs_are_listed_and_the_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Truncated, bomb, empty, no picture, thin and faceless photographs beside a good one."""
    draw_face(160).save(tmp_path / "good.png")
    draw_landscape().save(tmp_path / "scene.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "scene.jpg").read_bytes()[:900])
    (tmp_path / "bomb.png").write_bytes(png_header(30_000, 30_000))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.tif").write_text("no picture")
    Image.new("RGB", (200, 3)).save(tmp_path / "thin.png")
    words = ["align", tmp_path, "-o", tmp_path / "chips", "--size", 64, "--workers", 1]
    code, out, _ = run(monkeypatch, capfd, *words)
    assert code == 1
    assert "1 of 7 photographs aligned (14.3%)" in out
    for photo_id, reason in {
        "scene": "no face found",
        "cut": "cut.jpg is truncated or damaged",
        "bomb": "bomb.png is a decompression bomb",
        "empty": "empty.jpg is empty",
        "text": "text.tif is not a picture that can be read",
        "thin": "thin.png has 200 × 3 pixels",
    }.items():
        assert any(line.split()[:1] == [photo_id] and reason in line for line in out.splitlines())
    code, out, _ = run(monkeypatch, capfd, *words, "--json")
    assert code == 1
    assert json.loads(out)["aligned"] == 1
    assert len(json.loads(out)["failed"]) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["align", "{tmp}/none", "-o", "{tmp}/chips"], "There is no folder of photographs"),
        (["align", "{tmp}", "-o", "{tmp}/chips"], "holds no photographs"),
        (["align", "{tmp}", "-o", "{tmp}/chips", "--size", "4"], "expected 32 to 2048"),
        (["align", "{tmp}", "-o", "{tmp}/chips", "--landmarks", "iris"], "Invalid value for '--landmarks'"),
        (["align", "{tmp}"], "Missing option '-o'"),
        (["align", "{tmp}", "-o", "{tmp}/chips", "--cohort", "{tmp}/none.csv"], "There is no table"),
        (["split", "{tmp}/none.csv", "-o", "{tmp}/s.csv"], "There is no table"),
        (["split", "{tmp}/good.csv", "-o", "{tmp}/good.csv"], "exists already"),
        (["split", "{tmp}/good.csv", "-o", "{tmp}/no/s.csv"], "There is no folder"),
        (["split", "{tmp}/good.csv", "-o", "{tmp}/s.csv", "--sets", "a,b"], "NAME=SHARE"),
        (["split", "{tmp}/good.csv", "-o", "{tmp}/s.csv", "--sets", "a=1,b=1"], "sum to 1"),
        (["split", "{tmp}/good.csv", "-o", "{tmp}/s.csv", "--stratify", "site"], "Cannot stratify by site"),
    ],
)
def test_wrong_input_is_one_message_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    (tmp_path / "good.csv").write_text("patient_id,photo,time,event\na,a.jpg,1,1\nb,b.jpg,2,0\n")
    code, out, err = run(monkeypatch, capfd, *[word.format(tmp=tmp_path) for word in words])
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("Error:") == 1


HEAD = "patient_id,photo,time,event,entry,photo_date,origin_date,sex\n"
GOOD = "a,a.png,5,1,,2010-01-01,2010-01-01,f\n"
FAULTS = {
    "missing column": ("patient_id,photo,time\na,a.png,5\n", "has no column event"),
    "negative time": (HEAD + "a,a.png,-5,1,,,,f\n", "row 2, time: '-5'"),
    "event not 0/1": (
        HEAD + "a,a.png,5,dead,,,,f\n",
        "row 2, event: 'dead'; expected 1 (died) or 0 (censored)",
    ),
    "duplicate photo": (
        HEAD + GOOD + "b,a.png,5,1,,,,f\n",
        "row 3, photo: 'a.png'; expected each photograph once",
    ),
    "absent photo": (HEAD + "a,x.png,5,1,,,,f\n", "row 2, photo: 'x.png'; expected a file in photos"),
    "entry not before time": (
        HEAD + "a,a.png,5,1,5,,,f\n",
        "row 2, entry: '5'; expected an entry before the end",
    ),
    "rows disagree on time": (HEAD + GOOD + "a,b.png,6,1,,2010-01-01,2010-01-01,f\n", "row 3, time: '6'"),
    "rows disagree on sex": (HEAD + GOOD + "a,b.png,5,1,,2010-01-01,2010-01-01,m\n", "row 3, sex: 'm'"),
    "photo after follow-up": (
        HEAD + "a,a.png,5,1,,2016-01-01,2010-01-01,f\n",
        "row 2, photo_date: '2016-01-01'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    text, said = FAULTS[fault]
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        draw_landscape(20, 20).save(tmp_path / "photos" / name)
    (tmp_path / "table.csv").write_text(text)
    words = ["align", tmp_path / "photos", "-o", tmp_path / "chips", "--cohort", tmp_path / "table.csv"]
    code, out, err = run(monkeypatch, capfd, *words)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("Error:") == 1
    assert not (tmp_path / "chips").exists()


def test_split_writes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"p{i},{i}a.jpg,1,{i % 2}\np{i},{i}b.jpg,1,{i % 2}\n" for i in range(40))
    (tmp_path / "table.csv").write_text("patient_id,photo,time,event\n" + rows)
    words = ["split", tmp_path / "table.csv", "-o", tmp_path / "split.csv", "--seed", 1]
    code, out, _ = run(monkeypatch, capfd, *words)
    assert code == 0
    assert "finetune: 20 patients, 10 events" in out
    split = pd.read_csv(tmp_path / "split.csv")
    assert list(split.columns) == ["patient_id", "set"]
    assert split["patient_id"].nunique() == len(split) == 40
