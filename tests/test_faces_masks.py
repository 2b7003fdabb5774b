"""Masks of a chip in both schemes of landmarks and without any, and the tone of skin that is seen through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_face import draw_face
from PIL import Image

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.audit.skin_tone import bands, by_patient
from stylegan_surv.faces import Chips, align
from stylegan_surv.faces.edits import no_clothing, other_background
from stylegan_surv.faces.masks.chip import chip_regions, points_of_chip
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.regions import REGIONS
from stylegan_surv.faces.points import DLIB68, FacePoints
from stylegan_surv.faces.tone import BANDS, skin_tone

SIDE = 128
SKIN = (205, 165, 140)


def chip(skin: tuple[int, int, int] = SKIN) -> Pixels:
    return np.asarray(draw_face(SIDE, skin))


def as_dlib68(points: FacePoints) -> FacePoints:
    """The mesh's points under dlib's numbers: every name and contour that both have."""
    xy = np.full((68, 2), np.nan)
    for name, numbers in DLIB68.contours.items():
        xy[list(numbers)] = points[name]
    for name, number in DLIB68.single.items():
        xy[number] = points[name]
    assert np.isfinite(xy).all()
    return FacePoints(xy, DLIB68)


def overlap(a: Floats, b: Floats) -> float:
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def test_masks_hardly_depend_on_the_scheme() -> None:
    points = points_of_chip(chip())
    assert points is not None
    mesh, dlib = chip_regions(chip(), points), chip_regions(chip(), as_dlib68(points))
    for kind in REGIONS:
        assert overlap(mesh[kind].weight, dlib[kind].weight) > 0.8, kind
    assert mesh["skin"].weight[int(0.48 * SIDE), int(0.385 * SIDE)] < 0.2  # an eye
    assert dlib["skin"].weight[int(0.48 * SIDE), int(0.385 * SIDE)] < 0.2
    assert dlib["skin"].weight[int(0.44 * SIDE), int(0.385 * SIDE)] < 0.5  # a brow
    assert mesh["skin"].weight[int(0.6 * SIDE), int(0.36 * SIDE)] > 0.9  # a cheek


def test_where_no_face_is_seen_the_masks_are_those_of_the_crop() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert points_of_chip(noise) is None
    found = chip_regions(noise)
    assert {region.quality for region in found.values()} == {0.0}
    assert found["face"].weight[30, 25] == 1
    assert found["background"].weight[2, 2] == 1


def test_chips_have_masks(tmp_path: Path) -> None:
    """Those of an alignment by their stored landmarks, those that were made by what the mesh sees in them."""
    (tmp_path / "photos").mkdir()
    draw_face(300).save(tmp_path / "photos" / "a.png")
    aligned = align(tmp_path / "photos", tmp_path / "chips", size=SIDE, workers=1)
    made = Chips.create(tmp_path / "made", [aligned.load("a")], ["a"])
    assert made.landmarks("a") is None
    for kind in REGIONS:
        one, other = aligned.mask("a", kind), made.mask("a", kind)
        assert one.weight.shape == (SIDE, SIDE)
        assert 0 <= one.quality <= 1
        assert overlap(one.weight, other.weight) > 0.9, kind


def test_edits_leave_the_head_alone() -> None:
    one, other = chip(), np.full((SIDE, SIDE, 3), 7, np.uint8)
    head = chip_regions(one)["head"].weight
    for edited in (other_background(one, other), no_clothing(one)):
        assert np.array_equal(edited[head == 1], one[head == 1])
    assert np.abs(other_background(one, other)[head == 0].astype(int) - 7).max() == 0
    assert np.abs(no_clothing(one)[-4:, :8].astype(int) - 128).max() <= 1


# ---- skin tone ---------------------------------------------------------------------------------------------


def shifted(pixels: Pixels, lightness: float, b: float) -> Pixels:
    """The picture with its L* and b* moved."""
    lab = to_lab(pixels / 255.0) + np.array([lightness, 0, b])
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f**3 > 216 / 24389, f**3, (116 * f - 16) * 27 / 24389)
    white = np.array([0.95047, 1.0, 1.08883])
    linear = (xyz * white) @ np.linalg.inv(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    ).T
    linear = np.clip(linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(rgb * 255).astype(np.uint8)


def tone(pixels: Pixels) -> float:
    return skin_tone(pixels, chip_regions(pixels)["skin"])["ita_deg"]


def test_the_angle_follows_a_known_shift() -> None:
    """Skin of which L* and b* are known: the angle is that of the formula, and darker skin has a smaller one."""
    base = chip((180, 140, 115))
    at = np.s_[int(0.58 * SIDE) : int(0.62 * SIDE), int(0.36 * SIDE) : int(0.40 * SIDE)]
    lightness, _, b = to_lab(base[at] / 255.0).reshape(-1, 3).mean(axis=0)
    found, expected = [], []
    for change in ((-30, 0), (-20, 0), (-10, 0), (0, 0), (12, 0), (0, 6), (0, -6), (-15, 5)):
        found.append(tone(shifted(base, *change)))
        expected.append(np.degrees(np.arctan2(lightness + change[0] - 50, b + change[1])))
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert np.abs(np.array(found) - expected).max() < 8
    assert np.all(np.diff(found[:5]) > 0)


def test_black_and_white_is_not_measurable() -> None:
    grey = np.asarray(Image.fromarray(chip()).convert("L").convert("RGB"))
    assert np.isnan(tone(grey))


def test_bands_are_ordered_and_small_ones_merged() -> None:
    angle = np.repeat([-60.0, 0.0, 20.0, 35.0, 50.0, 70.0], 30)
    everyone = np.ones(len(angle), bool)
    names = bands(angle, everyone, 20)
    assert [names[30 * k] for k in range(6)] == [f"{k + 1} {name}" for k, name in enumerate(BANDS)]
    few = everyone & ~np.isin(np.arange(len(angle)), range(5, 30))  # five events among the darkest
    merged = bands(angle, few, 20)
    assert merged[0] == merged[30] == "1–2 dark to brown"
    assert len(set(merged)) == 5
    assert list(bands(np.array([np.nan, 20.0]), np.ones(2, bool), 20)) == [
        "missing",
        "1–6 dark to very light",
    ]


def test_without_skin_tone_nothing_of_it_is_stored(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    draw_face(200).save(tmp_path / "photos" / "a.png")
    without = align(tmp_path / "photos", tmp_path / "without", size=64, workers=1, skin_tone=False)
    assert without.table[["ita_deg", "skin_quality"]].isna().all(axis=None)
    usual = align(tmp_path / "photos", tmp_path / "usual", size=64, workers=1)
    assert usual.table["ita_deg"].between(0, 60).all()


@pytest.mark.parametrize("scheme", [None, "dlib68"])
def test_a_manifest_without_scheme_holds_68_points(tmp_path: Path, scheme: str | None) -> None:
    chips = Chips.create(tmp_path, [chip()], ["a"])
    chips.table["landmarks"] = [list(np.arange(136.0))]
    chips.table["scheme"] = [scheme]
    points = chips.landmarks("a")
    assert points is not None
    assert points.scheme is DLIB68


def test_a_patient_has_the_median_of_the_photographs(tmp_path: Path) -> None:
    chips = Chips.create(tmp_path, [chip()] * 4, ["a1", "a2", "a3", "b"])
    owners = pd.DataFrame({"photo_id": ["a1", "a2", "a3", "b"], "patient_id": ["a", "a", "a", "b"]})
    assert by_patient(chips, owners, ["a", "b"]) is None  # made without alignment: nothing was measured
    chips.table["ita_deg"] = [10.0, 30.0, 80.0, np.nan]
    found = by_patient(chips, owners, ["b", "a", "c"])
    assert found is not None
    np.testing.assert_array_equal(found, [np.nan, 30.0, np.nan])
