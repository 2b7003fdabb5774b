"""The whole study on simulated people: from the table to the page, what a camera betrays, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from planted_faces import write_people

from stylegan_surv.classify.chips import ChipSettings, make_chip, make_chips
from stylegan_surv.classify.inputs import WITH_BOTH, WITHOUT_FACE
from stylegan_surv.classify.match import match
from stylegan_surv.classify.people import read_people
from stylegan_surv.classify.study import StudySettings, classify
from stylegan_surv.cli.classify import command
from stylegan_surv.errors import InputError
from stylegan_surv.inversion import Latents

N = 16  # of each class


def two_cameras(image, case, rng):
    """The clinic's camera compresses more."""
    return image, {"quality": 60 if case else 90}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Clearly ill cases photographed by the clinic's camera."""
    folder = tmp_path_factory.mktemp("people")
    table, _ = write_people(folder / "photos", N, 3, delta=3.0, camera=two_cameras)
    table["camera"] = np.where(np.random.default_rng(0).random(2 * N) < 0.5, "A", "B")
    table.to_csv(folder / "people.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def study(people):
    """match and train on the command line; what they printed."""
    run, said = CliRunner(), {}
    steps = {
        "match": [str(people / "people.csv"), "-o", str(people / "matched")],
        "train": [str(people / "matched"), "--photos", str(people / "photos"), "-o", str(people / "study"),
                  "--folds", "3", "--epochs", "1", "--seeds", "1", "--copies", "2"],
        "explain": [str(people / "study")],
        "averages": [str(people / "study"), "--permutations", "19"],
    }  # fmt: skip
    for name, arguments in steps.items():
        found = run.invoke(command, [name, *arguments, "--json"], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        said[name] = json.loads(found.stdout.splitlines()[-1])
    return said


def test_the_line_runs_from_table_to_page(people, study):
    assert study["match"]["cases"] == N
    assert set(study["train"]["arms"]) == {
        "network",
        "face numbers",
        "age and sex",
        *WITHOUT_FACE,
        *WITH_BOTH,
    }
    record = json.loads((people / "study" / "classify.json").read_text())
    for name in ("verdict", "arms", "flow", "balance", "subgroups", "sources", "detectable"):
        assert record[name] is not None
    assert record["flow"]["cases"] + record["flow"]["controls"] <= 2 * N
    scores = pd.read_parquet(people / "study" / "oof.parquet")
    assert scores["network"].notna().all()
    assert scores.groupby("set")["fold"].nunique().max() == 1


def test_a_camera_is_seen_in_the_file_and_decides(study):
    assert study["train"]["arms"]["file"] > 0.9
    assert study["train"]["believable"] is False
    assert "format, size and compression" in study["train"]["sentence"]


def test_the_page_says_it_first_and_holds_itself(people, study):
    page = (people / "study" / "report.html").read_text()
    first = page[page.index('<section id="verdict">') : page.index('<section id="results">')]
    assert "Not believable" in first
    assert re.search(r"AUC [01]\.\d\d \(0\.\d\d–[01]\.\d\d\)|AUC 1\.00 \(1", first)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for section in ("results", "sources", "explanation", "matching"):
        assert f'<section id="{section}">' in page
    run = CliRunner()
    again = run.invoke(command, ["report", str(people / "study"), "--prevalence", "0.05"])
    assert again.exit_code == 0
    assert "positive predictive value" in (people / "study" / "report.html").read_text()
    wrong = run.invoke(command, ["report", str(people / "study"), "--prevalence", "2"])
    assert isinstance(wrong.exception, InputError)


def test_shares_of_a_map_add_up(study):
    for rows in study["explain"]["shares"].values():
        assert sum(rows.values()) == pytest.approx(1, abs=0.02)
    assert study["explain"]["guided_distance"] > 0.1


def test_the_same_seed_gives_the_same_numbers_and_latents_are_an_arm(people, study):
    matched = match(read_people(people / "people.csv", people / "photos"))
    names = list(matched.people.table["photo_id"])
    w = np.random.default_rng(1).normal(size=(len(names), 2, 5)).astype(np.float32)
    w[matched.people.case] += 2
    latents = Latents.from_arrays(w[2:], names[2:], names[2:], {"generator": "none"})  # one pair has none
    found = classify(
        matched, people / "study", StudySettings(folds=3, network=False, resamples=50), latents=latents
    )
    assert found.arms["face numbers"].auc.estimate == study["train"]["arms"]["face numbers"]
    assert found.arms["latents"].auc.estimate > 0.9
    lacking = found.scores["photo_id"].isin(names[:2])
    assert found.scores.loc[lacking, "latents"].isna().all()
    assert found.scores.loc[~lacking, "latents"].notna().all()
    assert found.main == "face numbers"


def test_without_background_only_the_head_is_left(people):
    rows = read_people(people / "people.csv", people / "photos")
    rows.table["set"] = np.arange(2 * N) // 2
    chipset = make_chips(rows.rows(np.arange(2 * N) < 4), people / "grey", ChipSettings(fill=40))
    for one in chipset.chips:
        outside = one.chip[one.cover < 0.01].astype(int)
        assert len(outside) > 500
        assert np.abs(outside - 40).mean() < 6  # what the JPEG rings at the edge
        assert one.cover[60:90, 60:90].min() > 0.9
    with pytest.raises(InputError, match="Choose another folder"):
        make_chips(rows, people / "grey", ChipSettings())


def test_even_light_gives_one_brightness_whatever_the_exposure(people, tmp_path):
    photo = Image.open(people / "photos" / "p0000.jpg")
    photo.save(tmp_path / "as-it-is.png")
    photo.point(lambda level: round(0.7 * level)).save(tmp_path / "darker.png")
    means = {}
    for even in (False, True):
        made = [
            make_chip(tmp_path / f"{n}.png", ChipSettings(even_light=even)) for n in ("as-it-is", "darker")
        ]
        means[even] = [float((one.chip.mean(axis=2) * one.cover).sum() / one.cover.sum()) for one in made]
    assert abs(means[False][0] - means[False][1]) > 15
    assert abs(means[True][0] - means[True][1]) < 4


def test_one_photograph_under_two_names_in_both_groups_is_refused(people, tmp_path):
    rows = read_people(people / "people.csv", people / "photos")
    rows.table["set"] = np.arange(2 * N) // 2
    few = rows.rows(np.arange(2 * N) < 2)
    few.table["path"] = few.table["path"].iloc[0]
    with pytest.raises(InputError, match="one photograph, which is a case's and a control's"):
        make_chips(few, tmp_path / "chips")


def test_masks_that_fail_for_one_class_only_are_refused(people, tmp_path):
    rows = read_people(people / "people.csv", people / "photos")
    rows.table["set"] = np.arange(2 * N) // 2
    few = rows.rows(np.arange(2 * N) < 4)
    Image.new("RGB", (160, 160), (90, 90, 90)).save(tmp_path / "wall.png")
    few.table.loc[~few.case, "path"] = str(tmp_path / "wall.png")
    with pytest.raises(InputError, match="No photograph of a control gave a chip"):
        make_chips(few, tmp_path / "chips")
    few = rows.rows(np.arange(2 * N) < 4)
    few.table.loc[1, "path"] = str(tmp_path / "wall.png")
    kept = make_chips(few, tmp_path / "others")
    assert kept.failures == {"case": (0, 2), "control": (1, 2)}
    assert len(kept.people) == 2  # the set whose control failed is gone


def test_source_and_class_that_coincide_are_named(people, tmp_path):
    table = pd.read_csv(people / "people.csv").assign(
        site=lambda t: t["group"].map({"case": "ward", "control": "web"})
    )
    matched = match(read_people(table, people / "photos"))
    settings = StudySettings(folds=3, network=False, resamples=50)
    found = classify(matched, people / "study", settings)
    assert "Class and site coincide" in found.verdict.sentence
    assert not found.verdict.believable


def test_errors_of_the_command_line_say_what_to_do(tmp_path, people):
    run = CliRunner()
    found = run.invoke(
        command, ["train", str(tmp_path), "--photos", str(tmp_path), "-o", str(tmp_path / "s")]
    )
    assert isinstance(found.exception, InputError)
    assert "classify match" in found.exception.for_command_line()
    found = run.invoke(command, ["explain", str(tmp_path)])
    assert "classify train" in found.exception.for_command_line()
