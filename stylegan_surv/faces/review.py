"""Which aligned photographs someone should look at, and why: a detector that is content is not a good photograph.

Nothing here changes a chip or a row. The limits are few, stand in one place, and are meant to be moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter

from stylegan_surv._files import check_file, whole
from stylegan_surv._types import Bools, Floats, Pixels
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.duplicates import SAME_PICTURE, hash_distances, perceptual_hash
from stylegan_surv.faces.ffhq import GRID, Square, outside
from stylegan_surv.faces.masks.outline import face_mask
from stylegan_surv.faces.points import FacePoints
from stylegan_surv.faces.quality import LUMA, REFERENCE

BLACK = 12  # a pixel of a bar, in 8-bit levels: JPEG leaves a few above 0
BAR = 0.98  # share of such pixels in a row or column of a bar
EVEN = 0.4  # SD, in 8-bit levels, of 3 × 3 pixels without grain
BLOCK = 1024  # hashes that are compared at a time
DOUBLE = "the same picture as"
DOUBLES = f"{DOUBLE} another"  # how the list calls them together
SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
CELL, CAPTION, COLUMNS, SHOWN = (
    128,
    30,
    8,
    64,
)  # of the contact sheet: pixels, pixels, chips a row, chips in all


@dataclass(frozen=True)
class Limits:
    """From where on a photograph is to be looked at.

    Attributes
    ----------
    face_padded : float
        Share of the face beyond the edge of the photograph, which mirroring has completed.
    rival : float
        Width of another face over this one's: which of the two is the patient?
    bars : float
        Share of the chip in rows and columns that are black from end to end.
    sharpness : float
        Below it the face is blurred; see :func:`~stylegan_surv.faces.quality.image_quality`.
    brightness : tuple of float
        Mean luma of the face below which it is nearly black, and above which nearly white.
    contrast : float
        SD of the face's luma below which nothing is to be seen in it.
    inter_eye_px : float
        Distance of the eyes in the photograph, pixels, below which the face holds too few.
    yaw : float
        Beyond it, to either side, the face is turned to a half profile or further.
    flat : float
        Share of the face without any grain: drawn, painted, or smoothed as no camera does.
    same_picture : float
        Share of differing bits of two perceptual hashes up to which two chips are one picture.
    """

    face_padded: float = 0.1
    rival: float = 0.7
    bars: float = 0.03
    sharpness: float = 0.1
    brightness: tuple[float, float] = (0.1, 0.92)
    contrast: float = 0.04
    inter_eye_px: float = 20.0
    yaw: float = 0.5
    flat: float = 0.2
    same_picture: float = SAME_PICTURE


LIMITS = Limits()


def grade(chip: Pixels, points: FacePoints, square: Square, size: tuple[int, int]) -> dict[str, float | str]:
    """Measure what a detector does not mind.

    Parameters
    ----------
    chip : array of uint8, shape (side, side, 3)
    points : FacePoints
        In pixels of the chip.
    square : Square
        Where in the photograph the chip was cut.
    size : tuple of int
        Width and height of the photograph.

    Returns
    -------
    dict of str to float or str
        ``face_padded``, ``bars``, ``flat`` as :class:`Limits` has them, and ``picture_hash``.
    """
    return {
        "face_padded": _face_padded(
            points.moved(np.eye(2) * GRID / len(chip), np.zeros(2)), outside(square, size)
        ),
        "bars": _bars(chip),
        "flat": _flat(chip),
        "picture_hash": perceptual_hash(chip),
    }


def _face_padded(points: FacePoints, beyond: Bools) -> float:
    """Share of the face beyond the photograph: where its landmarks are or, if that is more, where a face would be.

    Landmarks of half a face crowd into the half that is there.
    """
    masks = (face_mask(GRID, points), face_mask(GRID))
    return max(float(np.sum(mask * beyond) / np.sum(mask)) for mask in masks)


def _bars(chip: Pixels) -> float:
    black = chip.max(axis=2) < BLACK
    rows, columns = (np.mean(black.mean(axis=axis) > BAR) for axis in (1, 0))
    return float(1 - (1 - rows) * (1 - columns))


def _flat(chip: Pixels) -> float:
    """Share of the face whose 3 × 3 neighbourhoods hardly vary: no sensor is that quiet."""
    small = Image.fromarray(chip)
    if small.width > REFERENCE:
        small = small.resize((REFERENCE, REFERENCE), Image.Resampling.BOX)
    luma = np.asarray(small, dtype=float) @ LUMA
    spread = np.sqrt(np.maximum(uniform_filter(luma**2, 3) - uniform_filter(luma, 3) ** 2, 0))
    face = face_mask(len(luma))
    return float(np.sum(face * (spread < EVEN)) / np.sum(face))


def review(chips: Chips, limits: Limits = LIMITS) -> pd.DataFrame:
    """The aligned photographs that someone should look at.

    Parameters
    ----------
    chips : Chips
        Aligned from photographs; of chips that were made otherwise nothing is known.
    limits : Limits

    Returns
    -------
    DataFrame
        ``photo_id, reason, value``: a row for every reason, commonest reason first.
    """
    table = chips.ok
    ids = table["photo_id"].to_numpy()
    rows = [
        (str(ids[k]), reason, float(values[k]))
        for reason, values, beyond in _checks(table, limits)
        for k in np.flatnonzero(beyond)
    ]
    rows += _doubles(table, limits.same_picture)
    found = pd.DataFrame(rows, columns=["photo_id", "reason", "value"])
    kinds = found["reason"].map(kind)
    count = kinds.map(kinds.value_counts()).to_numpy(dtype=float)
    return found.iloc[np.argsort(-count, kind="stable")].reset_index(drop=True)


def kind(reason: str) -> str:
    """A reason without the photograph that it names."""
    return DOUBLES if reason.startswith(DOUBLE) else reason


def _checks(table: pd.DataFrame, limits: Limits) -> Iterator[tuple[str, Floats, Bools]]:
    """Reason, measured values, and which of them are beyond the limit; what was not measured passes."""
    darkest, brightest = limits.brightness
    for reason, name, low, high in (
        (
            "part of the face lies beyond the photograph and is mirrored",
            "face_padded",
            None,
            limits.face_padded,
        ),
        ("another face is about as large", "rival", None, limits.rival),
        ("black bars", "bars", None, limits.bars),
        ("blurred", "sharpness", limits.sharpness, None),
        ("nearly black", "brightness", darkest, None),
        ("nearly white", "brightness", None, brightest),
        ("without contrast", "contrast", limits.contrast, None),
        ("few pixels", "inter_eye_px", limits.inter_eye_px, None),
        ("which way is up is in doubt", "in_doubt", None, 0.5),
        ("turned aside", "yaw", -limits.yaw, limits.yaw),
        ("drawn, or smoothed as no camera does", "flat", None, limits.flat),
    ):
        values = table[name].to_numpy(dtype=float)
        yield (
            reason,
            values,
            (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high)),
        )


def _doubles(table: pd.DataFrame, limit: float) -> Iterator[tuple[str, str, float]]:
    """Both of every two chips that show one picture, each with the nearest other."""
    known = table[table["picture_hash"].notna()]
    ids, hashes = known["photo_id"].tolist(), known["picture_hash"].tolist()
    for start in range(0, len(ids), BLOCK):
        distance = hash_distances(hashes[start : start + BLOCK], hashes)
        own = np.arange(len(distance))
        distance[own, start + own] = np.inf
        for k in np.flatnonzero(distance.min(axis=1) <= limit):
            other = int(distance[k].argmin())
            yield ids[start + int(k)], f"{DOUBLE} {ids[other]}", float(distance[k, other])


def in_words(found: pd.DataFrame) -> dict[str, str]:
    """photo_id → all of its reasons, with commas between."""
    return {str(name): ", ".join(rows["reason"]) for name, rows in found.groupby("photo_id", sort=False)}


def write_sheet(chips: Chips, found: pd.DataFrame, out: str | Path) -> int:
    """Draw the chips that :func:`review` has found, with their reasons; it shows faces and stays on this machine.

    Parameters
    ----------
    chips : Chips
    found : DataFrame
        As :func:`review` returns it.
    out : str or Path
        A .png or .jpg file.

    Returns
    -------
    int
        How many chips it shows; of more than 64 the first.
    """
    reasons = in_words(found)
    names = list(reasons)[:SHOWN]
    rows = max(-(-len(names) // COLUMNS), 1)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        x, y = k % COLUMNS * CELL, k // COLUMNS * (CELL + CAPTION)
        sheet.paste(Image.fromarray(chips.load(name)).resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
        for line, text in enumerate((name, reasons[name])):
            pen.text((x + 2, y + CELL + 2 + line * CAPTION // 2), _fit(pen, text), fill="black")
    with whole(out) as partial:
        sheet.save(partial, check_sheet(out))
    return len(names)


def check_sheet(out: str | Path) -> str:
    """Pillow's name of the format of a contact sheet that can be written there."""
    suffix = Path(out).suffix.lower()
    if suffix not in SHEETS:
        raise InputError(f"{out} cannot be written; expected a file that ends in {' or '.join(SHEETS)}.")
    check_file(out)
    return SHEETS[suffix]


def _fit(pen: ImageDraw.ImageDraw, text: str) -> str:
    """As much of a caption as the cell is wide."""
    while text and pen.textlength(text) > CELL - 4:
        text = text[:-1]
    return text
