"""The same picture is recognised after saving and shrinking, the same person in another picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from drawn_face import draw_face
from numpy.typing import NDArray
from PIL import Image

from stylegan_surv.faces import Chips, duplicates
from stylegan_surv.faces.duplicates import (
    SAME_PICTURE,
    face_embedding,
    hash_distances,
    perceptual_hash,
    same_person,
    same_picture,
)


def saved_again(chip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrunk, brightened, compressed, enlarged."""
    small = (
        Image.fromarray(chip)
        .resize((96, 96), Image.Resampling.BICUBIC)
        .point(lambda v: min(255, int(v * 1.1)))
    )
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer).resize(chip.shape[1::-1], Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    """Three textures that share nothing."""
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(3)]


def test_hash_recognises_the_same_picture_only(pictures: list[NDArray[np.uint8]]) -> None:
    hashes = [perceptual_hash(picture) for picture in pictures]
    again = [perceptual_hash(saved_again(picture)) for picture in pictures]
    distance = hash_distances(hashes, again)
    assert np.diag(distance).max() < SAME_PICTURE
    assert distance[~np.eye(3, dtype=bool)].min() > 0.35
    assert all(len(text) == 64 for text in hashes)
    assert hash_distances([], hashes).shape == (0, 3)


def test_same_picture_names_the_pairs(tmp_path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    images = [*pictures, saved_again(pictures[1])]
    chips = Chips.create(tmp_path, images, ["a", "b", "c", "b_again"])
    pairs = same_picture(chips)
    assert pairs[["photo_id", "other_id"]].to_numpy().tolist() == [["b", "b_again"]]
    assert same_picture(chips, limit=0.0).empty


def test_same_person(tmp_path: Path) -> None:
    one = np.asarray(draw_face(128))
    other = np.asarray(draw_face(128, skin=(90, 60, 45), hair=(230, 220, 210), wall=(20, 30, 60)))
    embedding = face_embedding(one)
    assert embedding.shape == (128,)
    near, far = (np.linalg.norm(face_embedding(face) - embedding) for face in (saved_again(one), other))
    assert near < 0.35
    assert far > near
    chips = Chips.create(tmp_path, [one, other, saved_again(one)], ["a", "b", "c"])
    seen: list[tuple[int, int]] = []
    pairs = same_person(
        chips, limit=(near + far) / 2, progress=lambda done, total: seen.append((done, total))
    )
    assert pairs[["photo_id", "other_id"]].to_numpy().tolist() == [["a", "c"]]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_embeddings_are_kept_with_the_chips_and_follow_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[NDArray[np.uint8]]
) -> None:
    asked: list[float] = []

    def of(chip: NDArray[np.uint8], points: object) -> NDArray[np.float64]:
        asked.append(float(chip.mean()))
        return np.full(128, chip.mean())

    monkeypatch.setattr(duplicates, "face_embedding", of)
    chips = Chips.create(tmp_path, pictures, ["a", "b", "c"])
    first = duplicates.face_embeddings(chips, ["a", "b"])
    np.testing.assert_array_equal(duplicates.face_embeddings(chips, ["b", "a", "c"])[[1, 0]], first)
    assert len(asked) == 3
    Chips.create(tmp_path, [255 - pictures[0]], ["a"])  # another picture under the name
    assert duplicates.face_embeddings(chips, ["a"])[0, 0] != first[0, 0]
    (tmp_path / duplicates.RECOGNITION).write_bytes(b"damaged")
    np.testing.assert_array_equal(duplicates.face_embeddings(chips, ["b"])[0], first[1])
