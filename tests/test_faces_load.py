"""Every kind of photograph arrives as upright 8-bit RGB; broken and oversized ones are refused by name."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces import load_image


@pytest.fixture
def picture() -> Image.Image:
    """Dark at the upper left, bright at the lower right, red to the right, 40 × 30."""
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    return Image.fromarray(np.stack([6 * x, 8 * y, 3 * (x + y)], axis=-1).astype(np.uint8))


def difference(image: Image.Image, expected: Image.Image) -> float:
    assert image.mode == "RGB"
    assert image.size == expected.size
    return float(
        np.abs(np.asarray(image, dtype=float) - np.asarray(expected.convert("RGB"), dtype=float)).max()
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, picture: Image.Image, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = picture.transpose(undo[orientation]) if orientation > 1 else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert difference(load_image(tmp_path / "x.png"), picture) == 0


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK", "RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_modes(tmp_path: Path, picture: Image.Image, mode: str, suffix: str) -> None:
    if mode == "CMYK" and suffix == ".png":
        pytest.skip("PNG has no CMYK")
    stored = picture.convert(mode)
    stored.save(tmp_path / f"x{suffix}")
    assert difference(load_image(tmp_path / f"x{suffix}"), stored) <= 1


def test_cmyk_jpeg(tmp_path: Path, picture: Image.Image) -> None:
    picture.convert("CMYK").save(tmp_path / "x.jpg", quality=98)
    assert difference(load_image(tmp_path / "x.jpg"), picture) < 25


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    for suffix in (".png", ".tif"):
        Image.fromarray(np.tile(ramp, (20, 1))).save(tmp_path / f"x{suffix}")
        loaded = np.asarray(load_image(tmp_path / f"x{suffix}"))
        assert np.abs(loaded[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_float_pictures_have_no_known_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=r"x\.tif .* no known white"):
        load_image(tmp_path / "x.tif")


def test_transparency_lies_on_grey(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:, 10:] = (200, 100, 50, 255)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "p.gif", transparency=0)
    loaded = np.asarray(load_image(tmp_path / "x.png"))
    assert (loaded[:, :10] == 128).all()
    assert (loaded[:, 10:] == (200, 100, 50)).all()


def test_colour_profiles_become_srgb(tmp_path: Path) -> None:
    """The same numbers mean another colour under another profile: here one whose red and blue are swapped."""
    grey = Image.new("RGB", (20, 20), (120, 100, 90))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey.save(tmp_path / "srgb.png", icc_profile=srgb)
    assert difference(load_image(tmp_path / "srgb.png"), grey) <= 1
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    grey.save(tmp_path / "swapped.png", icc_profile=swapped)
    assert difference(load_image(tmp_path / "swapped.png"), Image.new("RGB", (20, 20), (90, 100, 120))) <= 2
    grey.save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert difference(load_image(tmp_path / "broken.png"), grey) == 0


def test_heic(tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    smooth = picture.resize((160, 120), Image.Resampling.BICUBIC)
    pillow_heif.from_pillow(smooth).save(tmp_path / "x.heic", quality=95)
    assert difference(load_image(tmp_path / "x.heic"), smooth) < 40
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"x\.heic is a HEIC photograph.*pip install"):
        load_image(tmp_path / "x.heic")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    path = tmp_path / f"broken{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"broken{suffix} is (truncated|not a picture)"):
        load_image(path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [12_000, 60_000])  # below and above Pillow's own limit
def test_decompression_bombs_are_refused_by_name(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(Refused, match=r"bomb\.png is a decompression bomb"):
        load_image(tmp_path / "bomb.png")


def test_other_broken_input(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.new("RGB", (40, 4)).save(tmp_path / "thin.png")
    for name, said in (
        ("empty.jpg", "is empty"),
        ("text.jpg", "is not a picture that can be read"),
        ("thin.png", "40 × 4 pixels"),
        ("none.jpg", "does not exist"),
    ):
        with pytest.raises(InputError, match=f"{name}.*{said}"):
            load_image(tmp_path / name)
