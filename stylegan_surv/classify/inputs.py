"""What a photograph tells besides the face, as numbers: what a classifier could read instead of it.

The inputs of ``WITHOUT_FACE`` hold no part of a face: where they separate the classes, the camera, the wall or the file
does. Those of ``WITH_BOTH`` hold face and camera at once, and cannot say which of the two it was.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from stylegan_surv._types import Bools, Floats, Pixels
from stylegan_surv.faces.formats import recognise
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.points import FacePoints

WITHOUT_FACE = ("background", "file", "resolution", "framing", "residue")
WITH_BOTH = ("thumbnail", "colour", "silhouette", "patches")
THUMB = 8  # side of the thumbnail and of the silhouette, pixels
PATCHES = 10  # per side of the chip, before their order is lost
SURELY = 0.98  # share of background from which a pixel counts as background
LEAST_WALL = 64  # pixels of background that are needed to measure it
COARSE = 128  # long side at which the background's colour is taken, so that sharpness does not enter
BLOCK = 8  # of JPEG, pixels
EXIF_SUB = 0x8769  # tag of the EXIF sub-directory
QUANTILES = (0.1, 0.5, 0.9)


def file_inputs(path: Path, width: int, height: int) -> Floats:
    """What the file itself tells: format, size, compression tables, presence of EXIF and of a colour profile."""
    data = path.read_bytes()
    tables = np.zeros((2, 64))
    with Image.open(io.BytesIO(data), formats=recognise(path).decoders) as image:
        kind = image.format or ""
        for k, table in list(getattr(image, "quantization", {}).items())[:2]:
            tables[min(k, 1)] = table
        exif = image.getexif()
        counts = [len(exif), len(exif.get_ifd(EXIF_SUB)), float("icc_profile" in image.info)]
        layers = [layer[1] * layer[2] for layer in getattr(image, "layer", [])][:3]
        progressive = float(bool(image.info.get("progressive", False)))
    kinds = [float(kind == name) for name in ("JPEG", "PNG", "TIFF", "WEBP", "HEIF")]
    sampling = float(layers[0] / layers[-1]) if layers else 0.0
    rate = np.log(len(data)), np.log(len(data) / (width * height))
    return np.array([*kinds, *rate, *counts, sampling, progressive, *np.log1p(tables).ravel()])


def resolution_inputs(width: int, height: int) -> Floats:
    """Size and shape of the picture."""
    return np.array([np.log(width), np.log(height), width / height, float(width > height)])


def framing_inputs(points: FacePoints, width: int, height: int) -> Floats:
    """Where the head lies in the picture and how large and how turned it is."""
    x, y = (points.left_eye + points.right_eye) / 2
    size = points.inter_eye / np.sqrt(width * height)
    return np.array([x / width, y / height, np.log(size), points.roll_deg, abs(points.roll_deg)])


def background_inputs(rgb: Floats, wall: Floats) -> Floats:
    """Colour of the wall, its spread and its slope, at a coarse resolution."""
    factor = max(1, round(max(wall.shape) / COARSE))
    rgb, wall = _shrunk(rgb, factor), _shrunk(wall[..., None], factor)[..., 0]
    sure = wall > SURELY
    if sure.sum() < LEAST_WALL:
        return np.zeros(3 * (2 + len(QUANTILES)) + 7)
    lab = to_lab(rgb)[sure]
    rows, columns = np.nonzero(sure)
    at = np.stack([rows / wall.shape[0], columns / wall.shape[1]], axis=1)
    slope = np.linalg.lstsq(np.column_stack([np.ones(len(at)), at]), lab, rcond=None)[0][1:]
    parts = [lab.mean(axis=0), lab.std(axis=0), slope.ravel(), np.quantile(lab, QUANTILES, axis=0).ravel()]
    return np.concatenate([*parts, [sure.mean()]])


def residue_inputs(rgb: Floats, wall: Floats) -> Floats:
    """Noise, sharpening and JPEG blocks outside the head, at the picture's own resolution up to 1,024 px a side."""
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    sure = wall > SURELY
    if sure.sum() < LEAST_WALL:
        return np.zeros(8)
    found = []
    for sigma in (0.6, 1.2, 2.4):  # bands of detail, pixels
        band = (luma - gaussian_filter(luma, sigma))[sure]
        found.append(np.log(band.std() + 1e-5))
    edges = np.abs(laplace(luma))
    strongest = np.log(np.quantile(edges[sure], 0.99) + 1e-5)
    overshoot = float(np.mean((edges[sure] - edges[sure].mean()) ** 3) / (edges[sure].std() + 1e-5) ** 3)
    ratio = found[0] - found[2]
    return np.array([*found, ratio, strongest, np.clip(overshoot, 0, 50), *_blockiness(luma, sure)])


def _blockiness(luma: Floats, sure: Bools) -> tuple[float, float]:
    """Steps across the lines of the 8-pixel grid over steps elsewhere, in log, along rows and columns."""
    found = []
    for axis in (0, 1):
        step = np.abs(np.diff(luma, axis=axis))
        inside = np.take(sure, range(1, luma.shape[axis]), axis) * np.take(
            sure, range(luma.shape[axis] - 1), axis
        )
        line = np.arange(step.shape[axis]) % BLOCK == BLOCK - 1
        on = np.expand_dims(line, 1 - axis) & (inside > 0)
        off = np.expand_dims(~line, 1 - axis) & (inside > 0)
        few = min(on.sum(), off.sum()) < BLOCK
        found.append(0.0 if few else float(np.log((step[on].mean() + 1e-4) / (step[off].mean() + 1e-4))))
    return found[0], found[1]


def both_inputs(rgb: Floats, head: Floats, chip: Pixels) -> Mapping[str, Floats]:
    """Inputs that hold face and camera: thumbnail of the photograph, colour and outline of the head, patches."""
    picture = Image.fromarray(np.asarray(np.round(rgb * 255), np.uint8))
    thumb = np.asarray(picture.resize((THUMB, THUMB), Image.Resampling.BOX), float).ravel() / 255
    lab = to_lab(rgb)
    weight = head[..., None] / max(head.sum(), 1e-9)
    mean = (lab * weight).sum(axis=(0, 1))
    spread = np.sqrt(((lab - mean) ** 2 * weight).sum(axis=(0, 1)))
    outline = Image.fromarray(np.asarray(head, np.float32)).resize((THUMB, THUMB), Image.Resampling.BOX)
    return {
        "thumbnail": thumb,
        "colour": np.concatenate([mean, spread]),
        "silhouette": np.asarray(outline, float).ravel(),
        "patches": _patches(chip),
    }


def _patches(chip: Pixels) -> Floats:
    """Quantiles over patches of their mean colour and contrast: what is left when their order is shuffled."""
    side = len(chip) // PATCHES
    cut = chip[: side * PATCHES, : side * PATCHES].reshape(PATCHES, side, PATCHES, side, 3) / 255.0
    means, spreads = cut.mean(axis=(1, 3)).reshape(-1, 3), cut.std(axis=(1, 3)).reshape(-1, 3)
    found: Floats = np.quantile(np.concatenate([means, spreads], axis=1), QUANTILES, axis=0).ravel()
    return found


def _shrunk(values: Floats, factor: int) -> Floats:
    """Means over squares of ``factor`` pixels; what is left over at the edges is dropped."""
    height, width = (n // factor for n in values.shape[:2])
    cut = values[: height * factor, : width * factor]
    return np.asarray(cut.reshape(height, factor, width, factor, -1).mean(axis=(1, 3)))
