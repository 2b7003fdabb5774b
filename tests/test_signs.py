"""Painted signs: nothing at dose 0, undone by the opposite dose, where and how a clinician looks for them."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from drawn_face import draw_face
from PIL import Image

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.errors import InputError
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.mesh.find import MeshFace
from stylegan_surv.faces.points import FacePoints
from stylegan_surv.signs import SIGNS, Manner, paint, plan_painting
from stylegan_surv.signs.face import SIDES, framed_mesh
from stylegan_surv.signs.optics import HAEMOGLOBIN, from_density, to_density
from stylegan_surv.signs.warp import Push, pixel_centres, walk

FAIR, DARK = (215, 175, 155), (92, 62, 50)
TONES = {"fair": FAIR, "dark": DARK}


@cache
def face(skin: tuple[int, int, int], size: int = 256) -> tuple[Pixels, MeshFace]:
    picture = np.asarray(draw_face(size, skin))
    return picture, framed_mesh(picture)


def lab(picture: Pixels, box: tuple[float, float, float, float]) -> Floats:
    """Mean L*a*b* of a box (left, top, right, bottom, shares of the side)."""
    side = len(picture)
    left, top, right, bottom = (round(edge * side) for edge in box)
    mean: Floats = to_lab(picture[top:bottom, left:right] / 255.0).mean(axis=(0, 1))
    return mean


CHEEKS, WALL, SHADOW = (0.36, 0.60, 0.42, 0.66), (0.02, 0.1, 0.12, 0.6), (0.35, 0.515, 0.42, 0.545)


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("size", [64, 256])
def test_dose_zero_is_the_picture_bit_for_bit(name: str, size: int) -> None:
    picture, mesh = face(FAIR, size)
    np.testing.assert_array_equal(paint(picture, mesh, {name: 0.0}), picture)
    np.testing.assert_array_equal(paint(picture, mesh, {}), picture)


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("tone", TONES)
def test_a_sign_changes_the_face_and_leaves_the_wall(name: str, tone: str) -> None:
    picture, mesh = face(TONES[tone])
    for dose in (-3, 3):
        change = np.abs(paint(picture, mesh, {name: dose}).astype(int) - picture).max(axis=-1)
        assert change.max() > 4
        assert change[:, : len(picture) // 12].max() <= 1
        assert change[: len(picture) // 40].max() <= 1


@pytest.mark.parametrize("name", SIGNS)
def test_the_sham_gives_the_face_back(name: str) -> None:
    """Dose 2, then −2: what is left is what two resamplings take from a sharp picture, and no more than a level."""
    picture, mesh = face(FAIR)
    rgb = picture / 255.0
    painting = plan_painting(rgb, mesh, {name: 2.0})
    left = np.abs(painting.undone(painting.painted(rgb)) - rgb) * 255
    assert left.mean() < 0.35
    assert np.abs(painting.painted(rgb) - rgb).max() * 255 > 2


@pytest.mark.parametrize("tone", TONES)
def test_pallor_takes_the_red_from_every_skin(tone: str) -> None:
    picture, mesh = face(TONES[tone])
    before, pale = (lab(p, CHEEKS) for p in (picture, paint(picture, mesh, {"pallor": 2})))
    red = lab(paint(picture, mesh, {"pallor": -2}), CHEEKS)
    assert pale[1] < before[1] - 1 < before[1] + 1 < red[1]


def test_pallor_is_the_same_loss_of_haemoglobin_on_every_skin() -> None:
    """The ratio of linear light, which no tone enters."""
    lost = []
    for skin in TONES.values():
        picture, mesh = face(skin)
        side = len(picture)
        where = (slice(round(0.62 * side), round(0.64 * side)), slice(round(0.38 * side), round(0.40 * side)))
        density = plan_painting(picture / 255.0, mesh, {"pallor": 1}).density
        assert density is not None
        lost.append(density[where].mean(axis=(0, 1)))
    np.testing.assert_allclose(lost[0], lost[1], rtol=0.02)
    np.testing.assert_allclose(
        lost[0] / np.linalg.norm(lost[0]), -HAEMOGLOBIN / np.linalg.norm(HAEMOGLOBIN), atol=1e-6
    )


def test_jaundice_is_yellow_and_shadow_is_dark_below_the_eyes() -> None:
    picture, mesh = face(FAIR)
    assert lab(paint(picture, mesh, {"jaundice": 2}), CHEEKS)[2] > lab(picture, CHEEKS)[2] + 5
    shaded = paint(picture, mesh, {"shadow": 2})
    assert lab(shaded, SHADOW)[0] < lab(picture, SHADOW)[0] - 3
    np.testing.assert_allclose(
        lab(shaded, (0.46, 0.66, 0.54, 0.69)), lab(picture, (0.46, 0.66, 0.54, 0.69)), atol=0.2
    )


def measured(picture: Pixels) -> dict[str, float]:
    """Shape as the mesh reads it anew, in eye distances."""
    points = framed_mesh(picture).points
    width = np.hypot(*(points["right_jaw_angle"] - points["left_jaw_angle"])) / points.inter_eye
    tilt = (points["mouth_right"] - points["mouth_left"])[1] / points.inter_eye
    return {"jaw": float(width), "tilt": float(tilt)}


def test_wasting_and_moon_change_the_width_of_the_jaw() -> None:
    picture, mesh = face(FAIR)
    thin, plain, full = (measured(paint(picture, mesh, {"wasting": d}))["jaw"] for d in (2, 0, -2))
    assert thin < plain - 0.03 < plain + 0.03 < full
    assert measured(paint(picture, mesh, {"moon": 2}))["jaw"] > plain + 0.03


def test_the_mouth_droops_on_the_persons_side() -> None:
    picture, mesh = face(FAIR)
    left, right = (measured(paint(picture, mesh, {"droop": 3}, Manner(side=s)))["tilt"] for s in SIDES)
    plain = measured(picture)["tilt"]
    assert left < plain - 0.01 < plain + 0.01 < right


def test_a_walk_leads_back_and_never_folds() -> None:
    pushes = [
        Push(np.array([20.0, 30.0]), np.array([4.0, -2.0]), 9.0),
        Push(np.array([40.0, 30.0]), np.array([-5.0, 1.0]), 8.0),
    ]
    grid = pixel_centres(64, 64)
    there = walk(grid, pushes, 1.0)
    np.testing.assert_allclose(walk(there, pushes, -1.0), grid, atol=5e-3)
    dx, dy = there[:, 1:] - there[:, :-1], there[1:] - there[:-1]
    assert (dx[:-1, :, 0] * dy[:, :-1, 1] - dx[:-1, :, 1] * dy[:, :-1, 0] > 0).all()


def test_density_there_and_back() -> None:
    rgb = np.linspace(0.02, 1, 300).reshape(-1, 1, 3)
    np.testing.assert_allclose(from_density(to_density(rgb)), rgb, atol=1e-9)


def test_everybody_is_resampled_alike() -> None:
    """With a shift, a face without signs loses as much sharpness as one whose change is elsewhere."""
    picture, mesh = face(FAIR)
    shift = np.array([0.4, -0.3])
    plain, painted = (paint(picture, mesh, {"droop": d}, shift=shift) for d in (0.0, 2.0))
    top = slice(0, round(0.3 * len(picture)))
    np.testing.assert_allclose(plain[top].astype(int), painted[top].astype(int), atol=2)
    assert (plain != picture).any()


def test_unknown_signs_and_numbers_are_refused() -> None:
    picture, mesh = face(FAIR)
    with pytest.raises(InputError, match="unknown sign 'fever'"):
        paint(picture, mesh, {"fever": 1.0})
    with pytest.raises(InputError, match="expected finite"):
        paint(picture, mesh, {"pallor": float("nan")})


def test_no_two_people_show_a_sign_alike() -> None:
    picture, mesh = face(FAIR)
    rng = np.random.default_rng(0)
    first, second = (
        paint(picture, mesh, {"wasting": 2.0, "pallor": 2.0}, Manner.drawn(rng)) for _ in range(2)
    )
    assert np.abs(first.astype(int) - second).max() > 8


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_is_the_same_at_every_resolution(name: str) -> None:
    """Painted large and then shrunk, or shrunk and then painted by the same points."""
    large, mesh = face(FAIR, 512)
    small = np.asarray(Image.fromarray(large).resize((128, 128), Image.Resampling.BOX))
    points = FacePoints(mesh.points.xy / 4, mesh.points.scheme)
    square = Square(mesh.square.centre / 4, mesh.square.axis, mesh.square.side / 4)
    shrunk = Image.fromarray(paint(large, mesh, {name: 2.0})).resize((128, 128), Image.Resampling.BOX)
    painted = paint(small, replace(mesh, points=points, square=square), {name: 2.0})
    assert np.abs(np.asarray(shrunk).astype(int) - painted).mean() < 0.6


ALLOWED = {
    "stylegan_surv._types", "stylegan_surv.errors", "stylegan_surv.faces.dlib.detect",
    "stylegan_surv.faces.dlib.cnn_detector",
    "stylegan_surv.faces.found", "stylegan_surv.faces.points", "stylegan_surv.faces.pose",
}  # fmt: skip


def test_instruments_share_no_code_with_the_painter() -> None:
    """They may see pictures through dlib's points alone: no mesh, no region, nothing of the signs."""
    root = Path(__file__).parents[1]
    for path in ("benchmarks/sign_instruments.py", "stylegan_surv/faces/dlib/detect.py"):
        nodes = ast.walk(ast.parse((root / path).read_text(encoding="utf-8")))
        used = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        ours = {name for name in used if name.startswith(("stylegan_surv", "benchmarks"))}
        assert ours <= ALLOWED
