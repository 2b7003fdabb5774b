"""The simulated camera is repeatable, blind unless confounded, and leaves the face where it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stylegan_surv.faces import Camera, face_mask, photograph
from stylegan_surv.faces.masks.ellipse import HEAD, ellipse
from stylegan_surv.faces.points import DLIB68, FacePoints


@pytest.fixture(scope="module")
def face() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(60, 200, (8, 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


def test_same_key_same_photograph_whatever_came_before(face: NDArray[np.uint8]) -> None:
    first = photograph(face, seed=1, index=7)
    photograph(face, seed=1, index=3)
    assert np.array_equal(first, photograph(face, seed=1, index=7))
    assert first.shape == face.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, photograph(face, seed=1, index=8))
    assert not np.array_equal(first, photograph(face, seed=2, index=7))


def test_strength_zero_is_no_camera(face: NDArray[np.uint8]) -> None:
    assert np.array_equal(photograph(face, seed=0, index=0, strength=0), face)


def test_factors_are_independent_of_each_other(face: NDArray[np.uint8]) -> None:
    """Clothing off changes only what clothing covers."""
    full = Camera(jitter=0, light=0, jpeg=0).photograph(face, seed=4, index=2)
    undressed = Camera(clothing=0, jitter=0, light=0, jpeg=0).photograph(face, seed=4, index=2)
    changed = (full != undressed).any(axis=2)
    assert changed.any()
    assert not changed[: int(0.84 * 64)].any()


def test_background_leaves_the_middle_of_the_face(face: NDArray[np.uint8]) -> None:
    photo = Camera(clothing=0, jitter=0, light=0, jpeg=0).photograph(face, seed=0, index=0)
    inside = ellipse(64, HEAD, softness=0.3) == 1
    assert np.array_equal(photo[inside], face[inside])
    assert (photo[~inside] != face[~inside]).any()


def test_jitter_moves_little(face: NDArray[np.uint8]) -> None:
    """A bright spot in the middle stays within a tenth of the side."""
    spot = np.zeros((64, 64, 3), np.uint8)
    spot[28:36, 28:36] = 255
    at = np.arange(64)
    for index in range(20):
        seen = Camera(0, 0, 0, 0, 1).photograph(spot, seed=0, index=index).astype(float).sum(axis=2)
        centre = np.array([(seen.sum(axis=axis) * at).sum() / seen.sum() for axis in (0, 1)])
        assert np.abs(centre - 31.5).max() < 6.4


def test_confounding_follows_the_given_value_only_when_asked(face: NDArray[np.uint8]) -> None:
    risk = np.random.default_rng(0).normal(size=150)
    corner = 1 - ellipse(64, HEAD)

    def wall(confound: float) -> list[float]:
        photos = [photograph(face, seed=0, index=i, confound=confound * r) for i, r in enumerate(risk)]
        return [float((photo.mean(axis=2) * corner).sum() / corner.sum()) for photo in photos]

    assert abs(np.corrcoef(wall(0.0), risk)[0, 1]) < 0.25
    assert np.corrcoef(wall(1.0), risk)[0, 1] > 0.35


def test_only_square_colour_faces() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[size, size, 3\]"):
        photograph(np.zeros((64, 48, 3), np.uint8), seed=0, index=0)


def test_face_mask_is_where_the_landmarks_are() -> None:
    default = face_mask(100)
    assert default.shape == (100, 100)
    assert default.dtype == np.float32
    assert default[47, 40] == 1  # an eye of the FFHQ crop
    assert default[75, 50] == 1  # the mouth
    assert default[5, 5] == 0
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([30 + 10 * np.cos(angle), 60 + 12 * np.sin(angle)], axis=1)
    hull = face_mask(100, FacePoints(points, DLIB68))
    assert hull[60, 30] > 0.99
    assert hull[60, 70] == pytest.approx(0, abs=1e-4)
