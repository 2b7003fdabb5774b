"""Reading a photograph, whatever camera or scanner it comes from, as upright 8-bit sRGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from stylegan_surv.errors import InputError, Refused

MAX_PIXELS = 128_000_000  # above today's phones (108 MP); 384 MB decoded
MIN_SIDE = 16
BACKDROP = (128, 128, 128)  # mid-grey behind transparent pixels: neither a white nor a black wall
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".gif",
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
)
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what decoders raise


def load_image(path: str | Path) -> Image.Image:
    """Read a photograph as upright RGB.

    EXIF orientation is applied; embedded colour profiles are converted to sRGB, for skin colour is a finding;
    grey, CMYK, palette and 16-bit pictures become 8-bit RGB; transparency lies on mid-grey; of several frames
    the first counts.

    Raises
    ------
    InputError
        The file does not exist, is no picture, is truncated, or needs a package that is not installed.
    Refused
        The picture would unpack to more than 128 megapixels.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on size and EXIF: checked here instead
            _register_heif(path)
            with Image.open(path) as image:
                _check_size(path, *image.size)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path.name} does not exist.") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"{path.name} is a decompression bomb: {error}") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise InputError(
            f"{path.name} is {'empty' if empty else 'not a picture that can be read'}."
        ) from error
    except UNREADABLE as error:
        raise InputError(f"{path.name} is truncated or damaged: {error}") from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(
            f"{path.name} is a decompression bomb: {width} × {height} pixels; at most {MAX_PIXELS // 10**6} "
            "megapixels are accepted. Shrink the photograph if it is genuine."
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path.name} has {width} × {height} pixels; expected at least {MIN_SIDE} each way.")


def _register_heif(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in HEIF_BRANDS:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(
            f"{path.name} is a HEIC photograph; reading it needs pillow-heif: pip install 'stylegan-surv[heif]'."
        ) from error
    pillow_heif.register_heif_opener()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(image)
    if image.mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        opaque = Image.new("RGBA", image.size, (*BACKDROP, 255))
        profile = image.info.get("icc_profile")
        image = Image.alpha_composite(opaque, image).convert("RGB")
        image.info["icc_profile"] = profile
    return _to_srgb(image)


def _from_wide(image: Image.Image) -> Image.Image:
    """16-bit grey (Pillow's I;16 and I) to 8 bits; what is beyond 16 bits has no known white."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"pixels of mode {image.mode} from {values.min():g} to {values.max():g} have no known white"
        )
    grey = np.round(values / 257.0).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):  # a broken profile: the pixels as they are
            pass
    return image.convert("RGB")
