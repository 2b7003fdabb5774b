"""The FFHQ crop against its formula, against exact sampling, and under motions of the photograph."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_face import draw_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylegan_surv.faces.detect import LandmarksName, finder
from stylegan_surv.faces.ffhq import Square, crop, ffhq_square
from stylegan_surv.faces.found import NoFace, plausible
from stylegan_surv.faces.points import DLIB68, FacePoints
from stylegan_surv.faces.pose import pose


def some_landmarks(turn: float = 0.0, scale: float = 40.0) -> FacePoints:
    """Landmarks of an upright face with eyes ±.5 apart and the mouth 1.1 below, turned, scaled and moved."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-0.5, 0), (0.5, 0)
    points[48], points[54], points[30] = (-0.4, 1.1), (0.4, 1.1), (0, 0.6)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return FacePoints(points @ rotation.T * scale + (100, 120), DLIB68)


def test_square_of_an_upright_face() -> None:
    square = ffhq_square(some_landmarks())
    assert square.axis == pytest.approx([1, 0])
    assert square.side == pytest.approx(max(4 * 40, 3.6 * 44))
    assert square.centre == pytest.approx([100, 120 + 0.1 * 44])
    eyes = square.to_chip(np.array([[80.0, 120.0], [120.0, 120.0]]), 256)
    assert eyes[:, 0] == pytest.approx([128 - 32, 128 + 32])
    assert eyes[:, 1] == pytest.approx([256 * (0.5 - 4.4 / 160)] * 2)


@given(st.floats(-3, 3), st.floats(5, 400))
def test_square_turns_and_grows_with_the_face(turn: float, scale: float) -> None:
    square = ffhq_square(some_landmarks(turn, scale))
    assert square.axis == pytest.approx([np.cos(turn), np.sin(turn)])
    assert square.side == pytest.approx(4 * scale)
    chip = square.points_of_chip(some_landmarks(turn, scale), 100)
    upright = ffhq_square(some_landmarks()).points_of_chip(some_landmarks(), 100)
    assert chip.xy == pytest.approx(upright.xy)


@given(st.floats(-0.7, 0.7))
def test_pose_of_a_turned_head(turn: float) -> None:
    lies = pose(some_landmarks(turn, 50))
    assert lies.turned_deg == pytest.approx(np.degrees(turn))
    assert pose(some_landmarks(turn + np.pi / 2)).roll_deg == pytest.approx(lies.roll_deg)
    assert lies.inter_eye_px == pytest.approx(50)
    assert lies.eye_mouth == pytest.approx(1.1)
    assert lies.yaw == pytest.approx(0, abs=1e-9)
    points = some_landmarks(turn, 50)
    points.xy[30] += 20 * np.array([np.cos(turn), np.sin(turn)])
    assert pose(points).yaw == pytest.approx(0.4)


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.floats(20, 150), st.sampled_from([32, 64, 100]))
def test_crop_of_a_ramp_is_the_ramp(turn: float, side: float, size: int) -> None:
    """Red is x and green is y of the photograph: each pixel of the chip must show where it came from."""
    x, y = np.meshgrid(np.arange(240), np.arange(240))
    ramp = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    square = Square(np.array([120.0, 115.0]), np.array([np.cos(turn), np.sin(turn)]), side)
    chip, padded = crop(ramp, square, size)
    at = ((np.arange(size) + 0.5) / size - 0.5) * side
    came_from = square.centre + at[None, :, None] * square.axis + at[:, None, None] * square.down
    assert np.abs(chip[..., :2] - (came_from - 0.5)).max() <= 1.25  # rounded twice
    assert padded == 0


def test_crop_is_reflected_beyond_the_edge() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 16:] = 255
    square = Square(np.array([0.0, 32.0]), np.array([1.0, 0.0]), 64)
    chip, padded = crop(Image.fromarray(half), square, 64)
    assert padded == pytest.approx(0.5)
    assert np.abs(chip.astype(int) - chip[:, ::-1].astype(int)).max() <= 1
    assert (chip[:, 20:44] < 10).all()


def test_crop_far_outside_a_small_picture() -> None:
    """The square of a face that fills its photograph is several times as large as the photograph."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    chip, padded = crop(
        Image.fromarray(pixels), Square(np.array([10.0, 10.0]), np.array([1.0, 0.0]), 100), 100
    )
    assert chip.shape == (100, 100, 3)
    assert padded == pytest.approx(0.96, abs=0.01)
    assert np.array_equal(chip[40:60, 40:60], pixels)
    assert np.array_equal(chip[20:40, 40:60], pixels[::-1])


def test_no_alias_when_shrinking() -> None:
    """A fine chequerboard becomes even grey, not stripes."""
    board = np.indices((800, 800)).sum(axis=0) % 2 * 255
    image = Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    chip, _ = crop(image, Square(np.array([400.0, 400.0]), np.array([0.96, 0.28]), 500), 64)
    assert np.abs(chip.astype(int) - 127).max() < 8


UPRIGHT = [(150, 0, 0), (400, 12, 60), (900, -15, 300), (256, 0, 700)]
LYING = [(1200, 170, 1500), (300, 90, 100)]  # HOG finds upright faces only


@pytest.mark.parametrize(
    ("landmarks", "size", "turn", "margin"),
    [("mesh", *at) for at in UPRIGHT + LYING] + [("dlib68", *at) for at in UPRIGHT],
)
def test_same_chip_from_any_photograph(landmarks: LandmarksName, size: int, turn: float, margin: int) -> None:
    """Small, large, turned and off-centre photographs of one face give the same chip."""
    if landmarks == "dlib68":
        pytest.importorskip("face_recognition_models")
    drawn = draw_face(256)
    face = finder(landmarks).find(drawn)
    reference, _ = crop(drawn, ffhq_square(face.points), 128)
    moved = draw_face(size).rotate(turn, Image.Resampling.BICUBIC, fillcolor=(120, 130, 140))
    photo = Image.new("RGB", (size + margin, size + margin // 2), (120, 130, 140))
    photo.paste(moved, (margin, margin // 3))
    found = finder(landmarks).find(photo)
    chip, _ = crop(photo, ffhq_square(found.points), 128)
    middle = np.s_[32:112, 32:96]
    assert np.abs(chip[middle].astype(float) - reference[middle]).mean() < 6
    assert pose(found.points).turned_deg == pytest.approx(-turn, abs=3)


def test_implausible_landmarks_are_no_face() -> None:
    """In full profile the eyes fall together, and the crop would be made of nothing."""
    profile = some_landmarks()
    assert plausible(profile) is profile
    profile.xy[36:48, 0] = 100 + 0.1 * (profile.xy[36:48, 0] - 100)
    with pytest.raises(NoFace, match="landmarks are not plausible"):
        plausible(profile)
