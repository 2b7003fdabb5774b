"""Faces as boxes with six points: the short-range detector's anchors decoded, overlapping boxes averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.mesh.networks.short_range import SIDE, ShortRangeDetector, anchor_centres
from stylegan_surv.faces.mesh.sampling import cut, from_crop

# as in MediaPipe's face_detection_short_range graph
MIN_SCORE = 0.5
SAME_FACE = 0.3  # boxes that overlap more (intersection over union) are one face
LIMIT = 100.0  # of a logit
WIDER_MARGIN = 0.25  # on each side of a picture that its face may fill
STEPS = 3  # tiles along a side of the picture; they overlap by half


@dataclass(frozen=True)
class FoundBox:
    """One face of the detector.

    Attributes
    ----------
    score : float
        0 … 1.
    centre : array of float, shape (2,)
        Of the box, in pixels of the picture.
    side : float
        Longer side of the box in pixels of the picture.
    points : array of float, shape (6, 2)
        Left eye, right eye, tip of the nose, middle of the mouth, left ear, right ear (left and right in the
        picture when the face is upright), in pixels of the picture.
    """

    score: float
    centre: Floats
    side: float
    points: Floats

    @property
    def roll(self) -> float:
        """Angle of the line between the eyes in radians; positive is clockwise as seen in the picture."""
        across = self.points[1] - self.points[0]
        return float(np.arctan2(across[1], across[0]))


@lru_cache(maxsize=1)
def detector() -> ShortRangeDetector:
    """The network on the CPU, loaded once per process."""
    return ShortRangeDetector().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def whole_picture(height: int, width: int, quarter_turns: int = 0, margin: float = 0.0) -> Square:
    """Square around a picture, its upper edge turned clockwise by quarter turns.

    Parameters
    ----------
    height, width : int
        Of the picture in pixels.
    quarter_turns : int
        A face whose head lies in that direction is upright in the crop.
    margin : float
        Added on each side, as a share of the longer side: a face that fills the picture becomes findable.
    """
    axis = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][quarter_turns % 4])
    side = max(height, width) * (1 + 2 * margin)
    return Square(np.array([width / 2, height / 2]), axis, float(side))


def tiles(height: int, width: int, quarter_turns: int = 0) -> list[Square]:
    """A square wider than the picture, then overlapping tiles of half its longer side.

    Parameters
    ----------
    height, width : int
        Of the picture in pixels.
    quarter_turns : int
        As of `whole_picture`.

    Returns
    -------
    list of Square
        The wider one first.
    """
    side = max(height, width) / 2
    axis = whole_picture(height, width, quarter_turns).axis
    across, down = (
        np.linspace(side / 2, extent - side / 2, STEPS) if extent > side else np.array([extent / 2])
        for extent in (width, height)
    )
    grid = [Square(np.array([x, y]), axis, side) for y in down for x in across]
    return [whole_picture(height, width, quarter_turns, WIDER_MARGIN), *grid]


def find_boxes(
    picture: Tensor, squares: Sequence[Square], *, min_score: float = MIN_SCORE
) -> list[list[FoundBox]]:
    """Faces within squares of one picture, all squares in one batch.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    squares : sequence of Square
        Each is searched on its own; a face should be between a fifth and the whole of its side.
    min_score : float
        0 … 1.

    Returns
    -------
    list of list of FoundBox
        Per square, best score first; coordinates are those of the picture.
    """
    with torch.no_grad():
        crops = cut(picture, squares, SIDE, beyond="zeros") * 2 - 1
        numbers, logits = detector().to(crops.device)(crops)
    found = decode(numbers.double().cpu().numpy(), logits.double().cpu().numpy(), min_score)
    return [
        [
            FoundBox(box.score, from_crop(box.centre, square, SIDE), box.side * square.side / SIDE,
                     from_crop(box.points, square, SIDE))
            for box in boxes
        ]
        for boxes, square in zip(found, squares)
    ]  # fmt: skip


def decode(numbers: Floats, logits: Floats, min_score: float = MIN_SCORE) -> list[list[FoundBox]]:
    """Boxes from the detector's numbers, in pixels of its 128 × 128 input.

    Parameters
    ----------
    numbers : array of float, shape (n, 896, 16)
    logits : array of float, shape (n, 896)
    min_score : float
        0 … 1.

    Returns
    -------
    list of list of FoundBox
        Per picture, best score first.
    """
    centres = anchor_centres().numpy()
    scores = 1 / (1 + np.exp(-np.clip(logits, -LIMIT, LIMIT)))
    results = []
    for values, score in zip(numbers, scores):
        keep = np.flatnonzero(score >= min_score)
        centre = values[keep, :2] + centres[keep]
        points = values[keep, 4:].reshape(-1, 6, 2) + centres[keep, None]
        results.append(_merged(centre, np.abs(values[keep, 2:4]), points, score[keep]))
    return results


def _merged(centre: Floats, size: Floats, points: Floats, score: Floats) -> list[FoundBox]:
    """Weighted non-maximum suppression: the best box takes the score-weighted mean of all that overlap it."""
    boxes = []
    left = np.argsort(-score, kind="stable")
    while left.size:
        best = left[0]
        same = left[_overlap(centre[best], size[best], centre[left], size[left]) > SAME_FACE]
        same = same if same.size else left[:1]  # a box of no size
        weight = score[same] / score[same].sum()
        boxes.append(
            FoundBox(
                score=float(score[best]),
                centre=weight @ centre[same],
                side=float((weight @ size[same]).max()),
                points=np.einsum("k,kpc->pc", weight, points[same]),
            )
        )
        left = left[~np.isin(left, same)]
    return boxes


def _overlap(centre: Floats, size: Floats, centres: Floats, sizes: Floats) -> Floats:
    """Intersection over union of one box with many."""
    low = np.maximum(centre - size / 2, centres - sizes / 2)
    high = np.minimum(centre + size / 2, centres + sizes / 2)
    common = np.clip(high - low, 0, None).prod(axis=-1)
    union = size.prod() + sizes.prod(axis=-1) - common
    share: Floats = common / np.maximum(union, 1e-12)
    return share
