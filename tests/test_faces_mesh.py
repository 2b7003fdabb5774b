"""Detector, mesh, attitude and masks on a drawn face whose geometry is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_face import draw_face, draw_landscape
from PIL import Image

from stylegan_surv._types import Pixels
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.regions import REGIONS, find_regions, skin_colour
from stylegan_surv.faces.mesh.find import MeshFace, find_faces, mesh_network, square_of_points
from stylegan_surv.faces.mesh.sampling import as_picture, cut, from_crop, spread
from stylegan_surv.faces.mesh.short_range import decode
from stylegan_surv.faces.mesh.upright import Upright, which_way_up
from stylegan_surv.faces.points import FacePoints

WALL = (120, 130, 140)


def photo(turn: float = 0.0, size: int = 256, margin: int = 128) -> Pixels:
    """The drawn face on a wall, turned clockwise."""
    canvas = Image.new("RGB", (size + 2 * margin,) * 2, WALL)
    canvas.paste(draw_face(size), (margin, margin))
    return np.asarray(canvas.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=WALL))


@pytest.fixture(scope="module")
def face() -> MeshFace:
    return find_faces(as_picture(photo()))[0]


# ---- sampling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [40.0, 100.0, 260.0])
def test_cut_shows_where_it_came_from(side: float) -> None:
    """Red is x and green is y of the picture."""
    at = (torch.arange(300) + 0.5) / 300
    ramp = torch.stack([at.expand(300, 300), at[:, None].expand(300, 300), torch.zeros(300, 300)])
    square = Square(np.array([150.0, 140.0]), np.array([0.96, 0.28]), side)
    crop = cut(ramp, [square], 64)[0].numpy()
    grid = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1)
    inside = np.s_[16:-16, 16:-16]  # the largest square reaches beyond the picture
    assert np.abs(crop[:2].transpose(1, 2, 0) * 300 - from_crop(grid, square, 64))[inside].max() < 0.1


def test_cut_and_spread_are_inverse() -> None:
    picture = as_picture(photo())
    height, width = picture.shape[1:]
    square = Square(np.array([250.0, 260.0]), np.array([0.6, 0.8]), 200.0)
    back = spread(cut(picture, [square], 400)[0], square, height, width)
    inside = spread(torch.ones(1, 8, 8), square, height, width)[0] > 0
    assert float(inside.float().mean()) == pytest.approx(200**2 / (height * width), rel=0.02)
    assert float((back - picture)[:, inside].abs().mean()) < 0.01
    assert float(back[:, ~inside].abs().max()) == 0


def test_gradient_reaches_the_picture() -> None:
    """From the points of the mesh through the crop to the pixels."""
    picture = as_picture(photo()).requires_grad_()
    square = find_faces(picture.detach())[0].square
    points, logit = mesh_network()(cut(picture, [square], 192))
    (gradient,) = torch.autograd.grad(points[0, 4].sum() + logit.sum(), picture)
    assert torch.isfinite(gradient).all()
    assert float(gradient[:, 200:300, 200:300].abs().sum()) > float(gradient[:, :100].abs().sum())


# ---- detector ----------------------------------------------------------------------------------------------


def test_decoding_of_one_anchor_and_its_overlapping_neighbours() -> None:
    """Two anchors that say the same box are one face with their weighted mean; a far one is another."""
    numbers, logits = np.zeros((1, 896, 16)), np.full((1, 896), -100.0)
    numbers[0, 0] = [10, 20, 30, 40, *range(12)]  # anchor 0 at (4, 4)
    numbers[0, 2] = [2, 20, 30, 40, *range(12)]  # anchor 2 at (12, 4): the same centre
    numbers[0, 895] = [0, 0, 20, 20, *range(12)]  # at (120, 120)
    logits[0, [0, 2, 895]] = [3.0, 3.0, 2.0]
    first, second = decode(numbers, logits)[0]
    assert first.score == pytest.approx(1 / (1 + np.exp(-3)))
    assert first.centre == pytest.approx([14, 24])
    assert first.side == 40
    assert first.points[0] == pytest.approx([8, 5])  # mean of (4, 5) and (12, 5)
    assert second.centre == pytest.approx([120, 120])
    assert decode(numbers, logits, min_score=0.99) == [[]]


def test_small_faces_and_faces_that_fill_the_picture() -> None:
    """What the search of the whole picture does not see, tiles and the wider square do."""
    canvas = Image.new("RGB", (900, 700), WALL)
    canvas.paste(draw_face(150), (60, 400))
    small = find_faces(as_picture(np.asarray(canvas)))
    assert small
    assert small[0].points["nose_tip"] == pytest.approx([60 + 75, 400 + 0.6 * 150], abs=12)
    close = draw_face(256).crop((60, 60, 196, 226))
    assert find_faces(as_picture(np.asarray(close)))[0].score > 0.9
    assert find_faces(as_picture(np.asarray(draw_landscape())), range(4)) == []


# ---- mesh and attitude -------------------------------------------------------------------------------------


def test_points_lie_on_the_drawn_face(face: MeshFace) -> None:
    at = 128 + 256 * np.array([[0.385, 0.48], [0.615, 0.48], [0.5, 0.735]])
    found = np.stack([face.points.left_eye, face.points.right_eye, face.points.mouth])
    assert np.hypot(*(found - at).T).max() < 0.04 * 256
    assert face.score > 0.9


@pytest.mark.parametrize("turn", [0, 30, -60, 90, 135, 180, 270])
def test_which_way_is_up(face: MeshFace, turn: float) -> None:
    found = which_way_up(as_picture(photo(turn)))
    assert found.certain, found.reason
    assert abs((found.turned_deg - turn + 180) % 360 - 180) < 5
    whole = found.quarter_turns * 90 + found.roll_deg
    assert (whole - found.turned_deg) % 360 == pytest.approx(0, abs=1e-6)
    assert found.face is not None
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = face.points.moved(matrix, np.array([256, 256]) - matrix @ (256, 256))
    assert np.hypot(*(turned.xy - found.face.points.xy).T).mean() < 0.04 * 256


def test_in_doubt_the_photograph_stays_as_it_is(face: MeshFace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing found, and two attitudes that are equally believable."""
    nothing = which_way_up(as_picture(np.asarray(draw_landscape())))
    assert (nothing.turned_deg, nothing.certain, nothing.face) == (0.0, False, None)
    assert "no face" in nothing.reason
    moved = face.points.moved(np.array([[0.0, -1], [1, 0]]), np.zeros(2))
    twin = MeshFace(FacePoints(moved.xy, moved.scheme), face.depth, face.score, face.square, face.box_score)
    monkeypatch.setattr("stylegan_surv.faces.mesh.upright.SURE_BOX", 2.0)
    monkeypatch.setattr("stylegan_surv.faces.mesh.upright.find_faces", lambda *_: [twin, face])
    doubtful: Upright = which_way_up(torch.zeros(3, 8, 8))
    assert (doubtful.turned_deg, doubtful.quarter_turns, doubtful.certain) == (0.0, 0, False)
    assert doubtful.face is face
    assert "as it is" in doubtful.reason


def test_crop_of_points_turns_with_the_face(face: MeshFace) -> None:
    matrix = 2 * np.array([[0.8, -0.6], [0.6, 0.8]])
    square, moved = (
        square_of_points(face.points),
        square_of_points(face.points.moved(matrix, np.array([5, 7]))),
    )
    assert moved.side == pytest.approx(2 * square.side)
    assert moved.corners() == pytest.approx(square.corners() @ matrix.T + (5, 7))


# ---- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [0, 90, 200])
def test_masks_of_the_drawn_face(turn: float) -> None:
    """Known places are in and out of each part, however the photograph is turned."""
    picture = as_picture(photo(turn))
    found = find_regions(picture, find_faces(picture, range(4))[0].points)
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def at(kind: str, x: float, y: float) -> float:
        place = matrix @ ((np.array([x, y]) - 0.5) * 256) + 256
        column, row = np.floor(place).astype(int)
        return float(found[kind].weight[row, column])  # type: ignore[index]

    cheek, eye, mouth, hair, wall = (0.4, 0.62), (0.385, 0.48), (0.5, 0.735), (0.5, 0.12), (0.05, 0.1)
    for kind, inside, outside in [
        ("face", [cheek, eye, mouth], [hair, wall]),
        ("head", [cheek, eye, mouth, hair], [wall]),
        ("person", [cheek, eye, mouth, hair], [wall]),
        ("background", [wall], [cheek, eye, mouth, hair]),
        ("skin", [cheek], [eye, mouth, hair, wall]),
    ]:
        assert min(at(kind, *place) for place in inside) > 0.6, kind
        assert max(at(kind, *place) for place in outside) < 0.4, kind
    assert found.keys() == set(REGIONS)
    for region in found.values():
        assert region.weight.shape == picture.shape[1:]
        assert region.weight.min() >= 0
        assert region.weight.max() <= 1
        assert 0.5 < region.quality <= 1
    assert np.all(found["head"].weight <= found["person"].weight + 1e-6)
    assert np.all(found["skin"].weight <= found["face"].weight + 1e-6)


def test_quality_falls_where_nothing_is_sure(face: MeshFace) -> None:
    """The same points on noise: hull and matte do not agree."""
    clear = find_regions(as_picture(photo()), face.points)
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    blind = find_regions(as_picture(noise), face.points)
    for kind in ("face", "head", "skin"):
        assert blind[kind].quality < clear[kind].quality - 0.2


def test_colour_tells_beard_and_glasses_from_skin() -> None:
    rgb = np.full((20, 20, 3), (0.8, 0.6, 0.5)) + np.random.default_rng(0).normal(0, 0.01, (20, 20, 3))
    rgb[15:, :] = 0.15
    weight = skin_colour(rgb, np.ones((20, 20)))
    assert weight[:14].min() > 0.9
    assert weight[15:].max() == 0
    assert skin_colour(rgb, np.zeros((20, 20))).max() == 0


def test_lab_of_known_colours() -> None:
    """Bruce Lindbloom's calculator, sRGB under D65."""
    red, grey = to_lab(np.array([[1.0, 0, 0], [0.5, 0.5, 0.5]]))
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert grey == pytest.approx([53.39, 0, 0], abs=0.01)


def test_a_head_that_lies_needs_a_good_score(face: MeshFace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weak score is enough for a head that is upright, not for one that lies."""
    weak = replace(face, box_score=0.5)
    monkeypatch.setattr("stylegan_surv.faces.mesh.upright.find_faces", lambda *_: [weak])
    assert which_way_up(torch.zeros(3, 8, 8)).certain
    turned = face.points.moved(np.array([[0.0, -1], [1, 0]]), np.zeros(2))
    lying = replace(weak, points=turned)
    monkeypatch.setattr("stylegan_surv.faces.mesh.upright.find_faces", lambda *_: [lying])
    found = which_way_up(torch.zeros(3, 8, 8))
    assert (found.certain, found.face) == (False, None)
    assert "as it is" in found.reason
