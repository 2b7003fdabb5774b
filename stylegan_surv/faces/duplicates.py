"""Pictures that occur twice, and people who occur twice.

One patient under two numbers, or a training picture among the test patients, makes a study too good by an unknown
amount. A perceptual hash recognises the same *picture*, a face-recognition embedding the same *person*.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from stylegan_surv._files import sha256, whole
from stylegan_surv._types import Floats, Pixels, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.detect import FaceFinder

RECOGNITION, KEEP_EVERY = "_recognition.parquet", 100
HASH_SIDE, HASH_PX = 16, 64  # the 16 × 16 lowest frequencies of the chip at 64 px
BITS = HASH_SIDE**2 - 1
SAME_PICTURE = 0.15  # share of differing bits
SAME_PERSON = 0.4  # distance of embeddings; dlib's own 0.6 takes too many strangers in a cohort for one
HOG_BOX = (0.26, 0.32, 0.77, 0.83)  # what HOG frames in an FFHQ crop: left, top, right, bottom


def perceptual_hash(chip: Pixels) -> str:
    """Signs of the 255 lowest DCT coefficients of a chip against their median, as 64 hexadecimal digits.

    It survives rescaling, compression, greying and changes of brightness; not mirroring, nor another crop. Shorter
    hashes are not enough: aligned faces resemble one another.
    """
    grey = Image.fromarray(chip).convert("L")
    kind = Image.Resampling.BOX if grey.width > HASH_PX else Image.Resampling.BICUBIC
    pixels = np.asarray(grey.resize((HASH_PX, HASH_PX), kind), dtype=float)
    low = dctn(pixels, norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes().hex()


def hash_distances(first: Sequence[str], second: Sequence[str]) -> Floats:
    """Share of differing bits of perceptual hashes, ``[len(first), len(second)]``."""
    x, y = (
        np.array([_bits(text) for text in side], np.float32).reshape(-1, BITS + 1) for side in (first, second)
    )
    differing: Floats = np.divide(x @ (1 - y).T + (1 - x) @ y.T, BITS, dtype=np.float32)
    return differing


def _bits(text: str) -> Pixels:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


def face_embedding(chip: Pixels) -> Floats:
    """dlib's 128-d face-recognition embedding of an aligned chip, ``[128]``; about 0.1 s."""
    import dlib

    image = Image.fromarray(chip)
    left, top, right, bottom = (share * image.width for share in HOG_BOX)
    points = _finder().landmarks(image, (left, top, right, bottom))
    parts = [dlib.point(round(float(x)), round(float(y))) for x, y in points]
    box = dlib.rectangle(int(left), int(top), int(right), int(bottom))
    shape = dlib.full_object_detection(box, parts)
    return np.array(_recogniser().compute_face_descriptor(np.ascontiguousarray(chip), shape))


def face_embeddings(chips: Chips, photo_ids: Sequence[str], progress: Progress | None = None) -> Floats:
    """`face_embedding` of several chips, ``[n, 128]``.

    They are kept beside the chips, in ``_recognition.parquet``, so that the next study of them need not wait: like the
    chips themselves they identify people.
    """
    file = chips.folder / RECOGNITION
    kept = _read_kept(file)
    keys = [sha256(chips.path(photo_id)) for photo_id in photo_ids]
    fresh = 0
    for k, (photo_id, key) in enumerate(zip(photo_ids, keys)):
        if key not in kept:
            kept[key] = face_embedding(chips.load(photo_id)).astype(np.float32)
            fresh += 1
        if fresh and (fresh % KEEP_EVERY == 0 or k == len(keys) - 1):
            _keep(file, kept)
            fresh = 0
        if progress:
            progress(k + 1, len(keys))
    return np.array([kept[key] for key in keys], np.float32).reshape(-1, 128)


def _read_kept(file: Path) -> dict[str, Floats]:
    try:
        table = pd.read_parquet(file)
        return {str(k): np.asarray(v, np.float32) for k, v in zip(table["chip_sha256"], table["embedding"])}
    except (OSError, ValueError, KeyError):  # none yet, or damaged: computed anew
        return {}


def _keep(file: Path, kept: dict[str, Floats]) -> None:
    table = pd.DataFrame(
        {"chip_sha256": list(kept), "embedding": [list(map(float, v)) for v in kept.values()]}
    )
    with suppress(InputError), whole(file) as partial:  # a folder that may only be read
        table.to_parquet(partial, index=False)


def same_picture(chips: Chips, limit: float = SAME_PICTURE) -> pd.DataFrame:
    """Pairs of chips that show the same picture: ``photo_id, other_id, distance``, nearest first."""
    ids = list(chips.ok["photo_id"])
    hashes = [perceptual_hash(chips.load(photo_id)) for photo_id in ids]
    return _pairs(ids, hash_distances(hashes, hashes), limit)


def same_person(chips: Chips, limit: float = SAME_PERSON, progress: Progress | None = None) -> pd.DataFrame:
    """Pairs of chips that seem to show one person: ``photo_id, other_id, distance``, nearest first.

    To be looked at by someone who may see the photographs: siblings and blurred pictures come out as well.
    """
    ids = list(chips.ok["photo_id"])
    return alike(ids, face_embeddings(chips, ids, progress), limit)


def alike(ids: Sequence[str], embedded: Floats, limit: float = SAME_PERSON) -> pd.DataFrame:
    """As `same_person`, from face embeddings ``[n, 128]`` that are there already."""
    x = np.asarray(embedded, float).reshape(-1, 128)
    square = (x**2).sum(axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * x @ x.T, 0))
    return _pairs(ids, distance, limit)


def _pairs(ids: Sequence[str], distance: Floats, limit: float) -> pd.DataFrame:
    first, second = np.nonzero(np.triu(distance <= limit, k=1))
    rows = [(ids[int(i)], ids[int(j)], float(distance[i, j])) for i, j in zip(first, second)]
    table = pd.DataFrame(rows, columns=["photo_id", "other_id", "distance"])
    return table.sort_values(["distance", "photo_id", "other_id"], ignore_index=True)


@lru_cache(maxsize=1)
def _finder() -> FaceFinder:
    return FaceFinder("hog")


@lru_cache(maxsize=1)
def _recogniser() -> Any:
    import dlib
    from face_recognition_models import face_recognition_model_location

    return dlib.face_recognition_model_v1(face_recognition_model_location())
