"""The chips folder: complete files, one row per photograph, clear words when it is something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import COLUMNS, Chips
from stylegan_surv.faces.quality import image_quality


def test_created_chips_read_back(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    chips = Chips.create(tmp_path / "chips", images, ["a", "b", "c"], source="camera")
    assert list(chips.table.columns) == list(COLUMNS)
    assert list(chips.ok["photo_id"]) == ["a", "b", "c"]
    assert chips.failed.empty
    assert chips.landmarks("a") is None
    assert len(chips) == 3
    assert np.array_equal(chips.load("b"), images[1])
    assert sorted(file.name for file in chips.folder.iterdir()) == [
        "_chips.parquet",
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run align"):
        Chips.open(tmp_path)
    (tmp_path / "_chips.parquet").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        Chips.open(tmp_path)


def test_a_missing_chip_is_named(tmp_path: Path) -> None:
    chips = Chips.create(tmp_path, np.zeros((1, 8, 8, 3), np.uint8), ["a"])
    chips.path("a").unlink()
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        chips.load("a")


def test_quality_orders_pictures_as_the_eye_does() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)
    smooth = np.broadcast_to(np.linspace(60, 200, 128).astype(np.uint8)[:, None, None], (128, 128, 3))
    crisp, blurred = image_quality(noise), image_quality(np.ascontiguousarray(smooth))
    assert crisp["sharpness"] > 10 * blurred["sharpness"]
    assert blurred["grey"] is True
    assert crisp["grey"] is False
    dark = image_quality((noise // 4).astype(np.uint8))
    assert dark["brightness"] == pytest.approx(crisp["brightness"] / 4, rel=0.05)
    warm = noise.copy()
    warm[..., 2] //= 4
    assert image_quality(warm)["warmth"] > 0.2 > abs(crisp["warmth"])
