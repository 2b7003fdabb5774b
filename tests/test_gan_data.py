"""Training reads chips with the package's own loader, and says what it leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training import blobs

from stylegan_surv.faces import load_image
from stylegan_surv.gan.data import MIN_CHIPS, read_chips

SIDE = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = blobs(MIN_CHIPS, SIDE)
    for name, pixels in zip(images.ids, images.pixels):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_sixteen_bits_orientation_and_every_format_are_read_as_everywhere(folder: Path) -> None:
    grey = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 40 % 65536).astype(np.uint16)
    Image.fromarray(grey).save(folder / "deep.png")
    ramp = np.zeros((SIDE, SIDE, 3), np.uint8)
    ramp[: SIDE // 2] = 255  # white above black
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(ramp).save(folder / "turned.jpg", quality=95, exif=exif)
    for suffix in ("tif", "bmp", "gif", "webp"):
        Image.fromarray(ramp).save(folder / f"of-{suffix}.{suffix}")
    found = read_chips(folder, SIDE)
    pixels = dict(zip(found.ids, found.pixels))
    assert pixels["deep"].mean() == pytest.approx(grey.mean() / 257, abs=0.5)
    assert pixels["turned"][-1].min() > 240
    assert pixels["turned"][0].max() < 15
    for path in folder.iterdir():
        assert (pixels[path.stem] == np.asarray(load_image(path))).all()
    assert not found.skipped


def test_what_is_left_out_is_said(folder: Path) -> None:
    (folder / "more").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(folder / "more" / "x.png")
    (folder / "notes.txt").write_text("names of patients")
    (folder / "_chips.parquet").write_bytes(b"a manifest")
    (folder / ".hidden.png").write_bytes(b"")
    skipped = dict(read_chips(folder, SIDE).skipped)
    assert skipped.keys() == {"more", "notes.txt"}
    assert "1 pictures in it that were not read" in skipped["more"]
    assert "ignored: .txt" in skipped["notes.txt"]
