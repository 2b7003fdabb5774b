"""What a detector does not mind is put on a list, with the reason and the names, and only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_face import draw_face
from PIL import Image, ImageFilter

from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips, align
from stylegan_surv.faces.chips import COLUMNS
from stylegan_surv.faces.review import LIMITS, Limits, in_words, kind, review, write_sheet

SIDE = 240
MIRRORED = "part of the face lies beyond the photograph and is mirrored"
RIVAL = "another face is about as large"
DRAWN = "drawn, or smoothed as no camera does"


def grainy(image: Image.Image, seed: int, sd: float = 4.0) -> Image.Image:
    """As a sensor would have it."""
    noise = np.random.default_rng(seed).normal(0, sd, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def half() -> Image.Image:
    face = draw_face(SIDE)
    return grainy(face.crop((SIDE * 2 // 5, 0, SIDE, SIDE)), 1)


def two() -> Image.Image:
    pair = Image.new("RGB", (2 * SIDE, SIDE))
    pair.paste(draw_face(SIDE, wall=(150, 120, 90)), (0, 0))
    pair.paste(draw_face(SIDE, (150, 110, 90), wall=(150, 120, 90)), (SIDE, 0))
    return grainy(pair, 2)


def bars() -> Image.Image:
    letterbox = grainy(draw_face(SIDE, (190, 150, 120), hair=(150, 120, 60)), 3)
    letterbox.paste((0, 0, 0), (0, 0, SIDE // 6, SIDE))
    letterbox.paste((0, 0, 0), (SIDE - SIDE // 6, 0, SIDE, SIDE))
    return letterbox


def dark() -> Image.Image:
    return grainy(draw_face(SIDE, hair=(210, 200, 190), wall=(30, 20, 20)), 4).point(
        lambda value: value // 10
    )


def plain(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    skin, hair, wall = (
        tuple(int(v) for v in rng.integers(lo, hi, 3)) for lo, hi in ((120, 220), (20, 90), (0, 255))
    )
    return grainy(draw_face(SIDE, skin, hair, wall), seed)


ODD: dict[str, Callable[[], Image.Image]] = {
    "half": half,
    "two": two,
    "bars": bars,
    "dark": dark,
    "blurred": lambda: grainy(
        draw_face(SIDE, wall=(230, 40, 60)).filter(ImageFilter.GaussianBlur(7)), 5, 1.0
    ),
    "cartoon": lambda: draw_face(SIDE * 4, wall=(200, 220, 120)),
    "tiny": lambda: grainy(draw_face(64, wall=(60, 90, 20)), 6),
}


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Chips:
    """Seven odd photographs, three plain ones, and one of these again under another name."""
    folder = tmp_path_factory.mktemp("reviewed")
    for name, draw in ODD.items():
        draw().save(folder / f"{name}.png")
    for seed in (11, 12, 14):
        plain(seed).save(folder / f"plain{seed}.png")
    plain(12).resize((180, 180), Image.Resampling.LANCZOS).save(folder / "again.jpg", quality=80)
    return align(folder, folder / "chips", size=128, workers=1)


def test_each_fault_is_found_and_nothing_else(chips: Chips) -> None:
    assert list(chips.failed["photo_id"]) == []
    found = review(chips)
    reasons = {name: set(rows["reason"]) for name, rows in found.groupby("photo_id")}
    expected = {
        "half": MIRRORED,
        "two": RIVAL,
        "bars": "black bars",
        "dark": "nearly black",
        "blurred": "blurred",
        "cartoon": DRAWN,
        "tiny": "few pixels",
        "plain12": "the same picture as again",
        "again": "the same picture as plain12",
    }
    for name, reason in expected.items():
        assert reason in reasons.get(name, set()), (name, reasons.get(name))
    assert reasons.keys() == expected.keys()
    for name in ("two", "bars", "cartoon", "tiny", "plain12", "again"):
        assert reasons[name] == {expected[name]}


def test_the_commonest_reason_comes_first_and_pairs_count_together(chips: Chips) -> None:
    counts = review(chips)["reason"].map(kind).value_counts(sort=False)
    assert list(counts) == sorted(counts, reverse=True)
    assert counts["the same picture as another"] == 2


def test_limits_are_exact_and_can_be_moved(tmp_path: Path) -> None:
    """A value at its limit passes, one beyond it does not; a value that was not measured passes."""
    limits = {
        "face_padded": (0.1, 0.1001), "rival": (0.7, 0.701), "bars": (0.03, 0.031), "sharpness": (0.1, 0.099),
        "brightness": (0.1, 0.09), "contrast": (0.04, 0.039), "inter_eye_px": (20, 19.9), "yaw": (-0.5, -0.51),
        "flat": (0.2, 0.21),
    }  # fmt: skip
    at, beyond = ({name: pair[i] for name, pair in limits.items()} for i in (0, 1))
    table = pd.DataFrame(
        [{"photo_id": "at", **at}, {"photo_id": "beyond", **beyond}, {"photo_id": "unknown"}]
    )
    table = table.reindex(columns=list(COLUMNS)).assign(status="ok")
    found = review(Chips(tmp_path, table))
    assert set(found["photo_id"]) == {"beyond"}
    assert len(found) == len(limits)
    brighter = Limits(brightness=(0.05, 0.92))
    assert "nearly black" not in set(review(Chips(tmp_path, table), brighter)["reason"])
    assert Limits() == LIMITS


def test_a_list_of_many_is_the_list_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = [rng.integers(0, 256, 32, dtype=np.uint8) for _ in range(40)]
    hashes[33] = hashes[5] ^ np.eye(32, dtype=np.uint8)[0]  # one bit
    table = pd.DataFrame({"photo_id": [f"p{i:02d}" for i in range(40)], "status": "ok"})
    table = table.reindex(columns=list(COLUMNS)).assign(picture_hash=[x.tobytes().hex() for x in hashes])
    whole = review(Chips(tmp_path, table))
    assert dict(zip(whole["photo_id"], whole["reason"])) == {
        "p05": "the same picture as p33",
        "p33": "the same picture as p05",
    }
    monkeypatch.setattr("stylegan_surv.faces.review.BLOCK", 7)
    pd.testing.assert_frame_equal(review(Chips(tmp_path, table)), whole)


def test_the_contact_sheet_shows_what_is_on_the_list(chips: Chips, tmp_path: Path) -> None:
    found = review(chips)
    assert write_sheet(chips, found, tmp_path / "sheet.png") == found["photo_id"].nunique()
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"), dtype=float)
    assert sheet.shape == (2 * 158, 8 * 128, 3)
    first = chips.load(found["photo_id"].iloc[0]).astype(float)
    assert np.abs(sheet[:128, :128] - first).mean() < 1
    assert np.ptp(sheet[128:158, :128]) > 200  # a caption
    assert write_sheet(chips, found.iloc[:0], tmp_path / "none.jpg") == 0
    with pytest.raises(InputError, match=r"expected a file that ends in \.png"):
        write_sheet(chips, found, tmp_path / "sheet.tiff")


def test_strict_fails_what_is_on_the_list_and_forgets_it_without(tmp_path: Path) -> None:
    two().save(tmp_path / "two.png")
    plain(11).save(tmp_path / "plain.png")
    out, sheet = tmp_path / "chips", tmp_path / "sheet.png"
    strict = align(tmp_path, out, size=64, workers=1, strict=True, sheet=sheet)
    assert strict.failed[["photo_id", "error"]].to_numpy().tolist() == [["two", f"to be looked at: {RIVAL}"]]
    assert sheet.is_file()
    assert not (out / "two.png").exists()
    sheet.unlink()
    lenient = align(tmp_path, out, size=64, workers=1)
    assert list(lenient.ok["photo_id"]) == ["plain", "two"]
    assert in_words(review(lenient)) == {"two": RIVAL}
    assert (out / "two.png").is_file()


def test_small_bystanders_are_counted(tmp_path: Path) -> None:
    """Beside a face that fills the picture stand others, too small for the scale at which it was found."""
    scene = Image.new("RGB", (1600, 900), (120, 130, 140))
    scene.paste(draw_face(800), (700, 50))
    for k in range(2):
        scene.paste(draw_face(240, (150, 110, 90)), (20 + 330 * k, 350))
    grainy(scene, 7).save(tmp_path / "scene.png")
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert chips.table["n_faces"].item() == 3
    assert chips.table["rival"].item() == pytest.approx(240 / 800, rel=0.2)
    assert RIVAL not in set(review(chips)["reason"])
