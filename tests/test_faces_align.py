"""Alignment keeps every name with its face, whatever fails, is killed or changes in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_face import draw_face, draw_landscape
from PIL import Image, ImageFilter

from stylegan_surv.cohort import read_cohort
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips, align, face_mask
from stylegan_surv.faces import align as align_function
from stylegan_surv.faces.chips import COLUMNS
from stylegan_surv.faces.found import NoFace
from stylegan_surv.faces.mesh.finder import MeshFinder
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.faces.mesh.upright import Upright, which_way_up
from stylegan_surv.faces.review import review

ALIGN = sys.modules[align_function.__module__]
SKINS = [(205, 165, 140), (150, 110, 90), (230, 200, 180), (110, 75, 60), (190, 150, 120), (220, 170, 130)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, of whom the second's file is cut and the fourth's shows a landscape."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "ward").mkdir()
    for i, skin in enumerate(SKINS):
        where = folder / "ward" if i >= 3 else folder
        draw_face(160 + 20 * i, skin).save(where / f"p{i}.png")
    broken = folder / "p1.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    draw_landscape().save(folder / "ward" / "p3.png")
    (folder / "notes.txt").write_text("not a photograph")
    (folder / ".hidden.png").touch()
    return folder


def skin_of(chips: Chips, photo_id: str) -> np.ndarray:
    size = chips.load(photo_id).shape[0]
    cheek = chips.load(photo_id)[int(0.60 * size) : int(0.64 * size), int(0.34 * size) : int(0.40 * size)]
    return np.asarray(cheek.reshape(-1, 3).mean(axis=0))


@pytest.fixture(scope="module")
def chips(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Chips:
    return align(photos, tmp_path_factory.mktemp("chips"), size=64, workers=1)


def test_each_name_keeps_its_face(chips: Chips) -> None:
    assert list(chips.table.columns) == list(COLUMNS)
    assert list(chips.table["photo_id"]) == [f"p{i}" for i in range(6)]
    assert chips.table["source_name"][3] == "ward/p3.png"
    assert list(chips.table["status"]) == ["ok", "failed", "ok", "failed", "ok", "ok"]
    for i in (0, 2, 4, 5):
        assert skin_of(chips, f"p{i}") == pytest.approx(np.array(SKINS[i]), abs=12)


def test_failures_say_why(chips: Chips) -> None:
    reasons = dict(zip(chips.failed["photo_id"], chips.failed["error"]))
    assert reasons["p1"].startswith("p1.png is truncated or damaged")
    assert reasons["p3"] == "no face found"
    assert chips.failed["score"].isna().all()


def test_only_chips_and_their_manifest_are_left(chips: Chips) -> None:
    names = {file.name for file in chips.folder.iterdir()}
    assert names == {"_chips.parquet", "_settings.json", "p0.png", "p2.png", "p4.png", "p5.png"}


def test_quality_columns_are_plausible(chips: Chips) -> None:
    ok = chips.ok
    assert (ok["score"] > 0.5).all()
    assert (ok["n_faces"] == 1).all()
    assert ok["roll_deg"].abs().max() < 3
    assert ok["yaw"].abs().max() < 0.1
    assert ok["inter_eye_px"].is_monotonic_increasing  # the photographs grow
    assert ok["crop_scale"].between(2, 5).all()
    assert ok.loc[ok["photo_id"] == "p2", "brightness"].item() == ok["brightness"].max()


def test_landmarks_lie_on_the_chip(chips: Chips) -> None:
    points = chips.landmarks("p2")
    assert points is not None
    left, right, mouth = points.ffhq_anchors()
    assert np.stack([left, right, mouth]) == pytest.approx(np.array([[24, 30], [40, 30], [32, 48]]), abs=3)
    assert face_mask(64, points)[int(mouth[1]), int(mouth[0])] > 0.99
    assert chips.landmarks("p3") is None
    with pytest.raises(InputError, match="no photograph 'nobody'"):
        chips.landmarks("nobody")


def test_processes_and_order_change_nothing(photos: Path, chips: Chips, tmp_path: Path) -> None:
    files = sorted(photos.rglob("p*.png"), reverse=True)
    seen: list[tuple[int, int]] = []
    other = align(
        files,
        tmp_path,
        size=64,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(7)]
    assert list(other.table["source_name"]) == [file.name for file in files]
    again = other.table.sort_values("photo_id").reset_index(drop=True)
    same = [name for name in COLUMNS if name != "source_name"]
    pd.testing.assert_frame_equal(again[same], chips.table[same])
    for photo_id in chips.ok["photo_id"]:
        assert other.path(photo_id).read_bytes() == chips.path(photo_id).read_bytes()


def test_a_landscape_in_place_of_one_photo_changes_no_other_chip(
    photos: Path, chips: Chips, tmp_path: Path
) -> None:
    for file in photos.rglob("p*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    draw_landscape(300, 300).save(tmp_path / "p2.png")
    other = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert list(other.ok["photo_id"]) == ["p0", "p4", "p5"]
    for photo_id in other.ok["photo_id"]:
        assert other.path(photo_id).read_bytes() == chips.path(photo_id).read_bytes()


# ---- going on --------------------------------------------------------------------------------------------


class Counter:
    """Counts the photographs that are really read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        load = ALIGN.load_image

        def counted(path: Path) -> Image.Image:
            self.read.append(Path(path).name)
            return load(path)

        monkeypatch.setattr(ALIGN, "load_image", counted)


def test_an_interrupted_run_goes_on(
    photos: Path, chips: Chips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(photos, tmp_path, size=64, workers=1, progress=stop)
    with pytest.raises(InputError, match="not finished"):
        Chips.open(tmp_path)
    with (tmp_path / "_journal.jsonl").open("a") as journal:
        journal.write('{"photo_id": "p5", "sta')  # killed while writing
    (tmp_path / "_99-0123456789ab.partial").touch()
    counter = Counter(monkeypatch)
    done = align(photos, tmp_path, size=64, workers=1)
    assert counter.read == ["p3.png", "p4.png", "p5.png"]
    pd.testing.assert_frame_equal(done.table, chips.table)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in chips.folder.iterdir()}


def test_only_what_has_changed_is_done_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "photos", tmp_path / "chips"
    source.mkdir()
    for i in (0, 1, 2):
        draw_face(160, SKINS[i]).save(source / f"p{i}.png")
    align(source, out, size=64, workers=1)
    draw_landscape().save(source / "p0.png")
    (source / "p1.png").unlink()
    (out / "p2.png").unlink()
    counter = Counter(monkeypatch)
    chips = align(source, out, size=64, workers=1)
    assert counter.read == ["p0.png", "p2.png"]
    assert list(chips.table["photo_id"]) == ["p0", "p2"]
    assert chips.kept == 1
    assert list(Chips.open(out).table["photo_id"]) == ["p0", "p2", "p1"]
    assert {file.name for file in out.glob("*.png")} == {"p1.png", "p2.png"}


def test_chips_of_photographs_that_are_not_given_go_when_they_are_pruned(tmp_path: Path) -> None:
    source, out = tmp_path / "photos", tmp_path / "chips"
    source.mkdir()
    for i in (0, 1):
        draw_face(160, SKINS[i]).save(source / f"p{i}.png")
    (source / "ward").mkdir()
    first = align(source, out, size=64, workers=1)
    (source / "p0.png").rename(source / "ward" / "p0.png")  # another photograph of the same stem
    both = align(source, out, size=64, workers=1)
    assert list(Chips.open(out).table["photo_id"]) == ["p1", "p0-2", "p0"]
    assert both.path("p0-2").read_bytes() == first.path("p0").read_bytes()
    pruned = align(source, out, size=64, workers=1, prune=True)
    assert pruned.kept == 0
    assert list(Chips.open(out).table["source_name"]) == ["p1.png", "ward/p0.png"]
    assert len(list(out.glob("*.png"))) == 2


def test_a_killed_process_loses_nothing(photos: Path, chips: Chips, tmp_path: Path) -> None:
    """SIGKILL in the middle of a run; the next run gives what one run would have given."""
    code = (
        "import sys, time; from stylegan_surv.faces import align\n"
        f"align({str(photos)!r}, {str(tmp_path)!r}, size=64, workers=1,"
        " progress=lambda done, total: time.sleep(0.3))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    journal = tmp_path / "_journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count("\n") >= 2):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "_chips.parquet").exists()
    done = align(photos, tmp_path, size=64, workers=1)
    pd.testing.assert_frame_equal(done.table, chips.table)


# ---- which face ------------------------------------------------------------------------------------------


def test_the_best_scored_face_wins(tmp_path: Path) -> None:
    blurred = draw_face(300, (90, 60, 45)).filter(ImageFilter.GaussianBlur(5))
    two = Image.new("RGB", (700, 300), (120, 130, 140))
    two.paste(blurred, (0, 0))
    two.paste(draw_face(300, (205, 165, 140)), (400, 0))
    two.save(tmp_path / "two.png")
    two.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert list(chips.table["n_faces"]) == [2, 2]
    for photo_id in ("two", "mirrored"):
        assert skin_of(chips, photo_id) == pytest.approx(np.array((205, 165, 140)), abs=12)


def test_the_cnn_is_asked_where_hog_finds_none(tmp_path: Path) -> None:
    pytest.importorskip("face_recognition_models")
    half = np.array(draw_face(200))
    half[:, 100:] = (120, 130, 140)
    Image.fromarray(half).save(tmp_path / "half.png")
    draw_face(200).save(tmp_path / "whole.png")
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1, landmarks="dlib68")
    assert list(chips.table["detector"]) == ["cnn", "hog"]
    assert set(chips.table["scheme"]) == {"dlib68"}
    points = chips.landmarks("whole")
    assert points is not None
    assert points.xy.shape == (68, 2)


def test_the_cnn_is_asked_where_the_short_range_detector_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_face(200)
    usual = MeshFinder().find(drawn)
    nothing = Upright(0.0, 0, 0.0, 0.0, 0.0, False, "nothing", None)
    monkeypatch.setattr("stylegan_surv.faces.mesh.finder.which_way_up", lambda picture: nothing)
    found = MeshFinder().find(drawn)
    assert (usual.detector, found.detector) == ("short-range", "cnn")
    assert np.hypot(*(usual.points.xy - found.points.xy).T).max() < 0.05 * usual.points.inter_eye
    with pytest.raises(NoFace, match="no face found"):
        MeshFinder().find(draw_landscape())


def test_a_head_that_lies_becomes_an_upright_chip(tmp_path: Path) -> None:
    """Four quarter turns and a tilt of one photograph give one chip, and the row says by how much it was turned."""
    drawn = draw_face(240)
    canvas = Image.new("RGB", (360, 360), (120, 130, 140))
    canvas.paste(drawn, (60, 60))
    turns = (0, 40, 90, 180, 270)
    for turn in turns:
        canvas.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=(120, 130, 140)).save(
            tmp_path / f"{turn}.png"
        )
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    rows = chips.table.set_index("photo_id")
    for turn in turns:
        assert abs((rows.loc[str(turn), "turned_deg"] - turn + 180) % 360 - 180) < 5
        assert abs(rows.loc[str(turn), "roll_deg"]) <= 45
        assert np.abs(chips.load(str(turn)).astype(float) - chips.load("0")).mean() < 8
    assert rows["certainty"].min() > 0.05
    assert not rows["in_doubt"].any()


def test_doubt_is_on_the_review_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_face(200).save(tmp_path / "a.png")
    clear = which_way_up(as_picture(np.asarray(draw_face(200))))
    monkeypatch.setattr(
        "stylegan_surv.faces.mesh.finder.which_way_up",
        lambda picture: replace(clear, certain=False, margin=0.01),
    )
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert "which way is up is in doubt" in set(review(chips)["reason"])


@pytest.mark.parametrize("shape", [(16, 3000), (3000, 16), (16, 16), (80, 3000)])
def test_odd_shapes_have_no_face(tmp_path: Path, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "strip.png")
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert list(chips.failed["error"]) == ["no face found"]


def test_a_failure_inside_the_detector_is_a_failed_row(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("\n\nError detected\nin line 1")

    monkeypatch.setattr(MeshFinder, "find", broken)
    chips = align([photos / "p0.png"], tmp_path, size=64, workers=1)
    assert list(chips.failed["error"]) == ["the detector failed: Error detected in line 1"]


# ---- what is refused -------------------------------------------------------------------------------------


def test_a_cohort_is_aligned_by_its_photographs(photos: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"patient_id": ["b", "a"], "photo": ["ward/p4.png", "p0.png"], "time": 1.0, "event": 1}
    )
    chips = align(read_cohort(frame, photos), tmp_path / "chips", size=64, workers=1)
    assert list(chips.table["photo_id"]) == ["p4", "p0"]
    assert read_cohort(frame, chips.folder).table["photo_id"].tolist() == ["p4", "p0"]
    with pytest.raises(InputError, match="does not know where its photographs are"):
        align(read_cohort(frame), tmp_path / "other")
    with pytest.raises(InputError, match="aligned already"):
        align(read_cohort(frame, chips.folder), tmp_path / "other")


def test_a_photograph_that_vanished_is_a_failed_row(photos: Path, tmp_path: Path) -> None:
    chips = align([photos / "p0.png", photos / "gone.png"], tmp_path, size=64, workers=1)
    assert list(chips.failed["error"]) == ["gone.png does not exist."]


def test_made_chips_do_not_mix_with_aligned_ones(chips: Chips) -> None:
    with pytest.raises(InputError, match="choose another folder"):
        Chips.create(chips.folder, np.zeros((1, 8, 8, 3), np.uint8), ["a"])


def test_refusals(photos: Path, chips: Chips, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    created = Chips.create(tmp_path / "created", np.zeros((1, 8, 8, 3), np.uint8), ["a"])
    for arguments, said in (
        ({"photos": tmp_path / "none", "out": tmp_path}, "There is no folder of photographs"),
        ({"photos": tmp_path / "empty", "out": tmp_path}, "holds no photographs"),
        ({"photos": [], "out": tmp_path}, "No photographs were given"),
        ({"photos": photos, "out": photos}, "folder of their own"),
        ({"photos": chips.folder, "out": tmp_path}, "aligned already"),
        ({"photos": photos, "out": chips.folder, "size": 128}, "Choose another folder"),
        ({"photos": photos, "out": created.folder}, "choose another folder"),
        ({"photos": photos, "out": tmp_path, "size": 8}, "expected 32 to 2048"),
        ({"photos": photos, "out": tmp_path, "landmarks": "iris"}, "expected one of mesh, dlib68"),
        ({"photos": photos, "out": tmp_path, "workers": 0}, "expected at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            align(**arguments)  # type: ignore[arg-type]
