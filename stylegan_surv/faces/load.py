"""Reading a photograph, whatever camera or scanner it comes from, as upright 8-bit sRGB."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from stylegan_surv._files import as_text
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces.formats import Kind, recognise, recognise_stream

MAX_PIXELS = 128_000_000  # above today's phones (108 MP); 384 MB decoded
MIN_SIDE = 16
BACKDROP = (128, 128, 128)  # mid-grey behind transparent pixels: neither a white nor a black wall
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {  # EXIF orientation → what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(path: str | Path) -> Image.Image:
    """Read a photograph as upright RGB; the one loader of every stage.

    EXIF orientation is applied; embedded colour profiles are converted to sRGB, for skin colour is a finding;
    grey, CMYK, palette and 16-bit pictures become 8-bit RGB; transparency lies on mid-grey; of several frames
    the first counts. What the file is follows from its content: JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000, AVIF,
    PPM, TGA, and HEIC with pillow-heif.

    Raises
    ------
    InputError
        The file does not exist or cannot be read, is no picture, is truncated, or needs a package that is not
        installed.
    Refused
        The picture would unpack to more than 128 megapixels.
    """
    path = Path(path)
    name = as_text(path.name)
    return _loaded(path, name, lambda: _decoders(path, name))


def load_bytes(data: bytes, name: str = "The photograph") -> Image.Image:
    """Read a photograph that is in memory, as `load_image` reads a file; nothing is written to a disk.

    Parameters
    ----------
    data : bytes
        Content of the file.
    name : str
        What messages call it.

    Raises
    ------
    InputError, Refused
        As `load_image`.
    """
    file = io.BytesIO(data)
    return _loaded(file, name, lambda: _checked(recognise_stream(file), name, len(data)))


def _loaded(source: Path | BinaryIO, name: str, decoders: Callable[[], tuple[str, ...]]) -> Image.Image:
    """The picture, with every fault as a message."""
    try:
        formats = decoders()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on size and EXIF: checked here instead
            with Image.open(source, formats=formats) as image:
                _check_size(name, *image.size)
                image.load()
                return _to_rgb(_upright(image))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist.") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"{name} is a decompression bomb: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture that can be read.") from error
    except MemoryError as error:
        raise InputError(f"{name} needs more memory than there is.") from error
    except OSError as error:
        if error.errno is None:  # a decoder's
            raise InputError(f"{name} is truncated or damaged: {error}") from error
        raise InputError(f"{name} cannot be read: {error.strerror}.") from error
    except Exception as error:  # decoders of damaged files raise whatever their arithmetic does
        raise InputError(f"{name} is truncated or damaged: {str(error) or type(error).__name__}") from error


def _decoders(path: Path, name: str) -> tuple[str, ...]:
    """The decoders that may open a file, registered with Pillow."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is not a file; expected a photograph.")
    return _checked(recognise(path), name, status.st_size)


def _checked(kind: Kind, name: str, size: int) -> tuple[str, ...]:
    """The decoders of a kind, or a message on what it is instead."""
    if kind.foreign:
        raise InputError(f"{name} is {kind.foreign}, which is not opened; export it as PNG or JPEG.")
    if not kind.decoders:
        raise InputError(f"{name} is {'not a picture that can be read' if size else 'empty'}.")
    if "HEIF" in kind.decoders:
        _register_heif(name)
    return kind.decoders


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(
            f"{name} is a decompression bomb: {width} × {height} pixels; at most {MAX_PIXELS // 10**6} "
            "megapixels are accepted. Shrink the photograph if it is genuine."
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name} has {width} × {height} pixels; expected at least {MIN_SIDE} each way.")


def _register_heif(name: str) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(
            f"{name} is a HEIC photograph; reading it needs pillow-heif: pip install 'stylegan-surv[heif]'."
        ) from error
    pillow_heif.register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; where EXIF is damaged, as it is: the picture is good."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow reads EXIF as TIFF, and a damaged one raises whatever its arithmetic does
        turn = None
    return image if turn is None else image.transpose(turn)


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
