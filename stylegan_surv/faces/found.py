"""What is found of a face in a photograph, whoever finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from stylegan_surv._types import Pixels
from stylegan_surv.faces.points import FacePoints
from stylegan_surv.faces.pose import pose

MAX_ENLARGE = 4.5  # beyond this a larger picture holds nothing new
EYE_MOUTH = (0.5, 2.5)  # plausible eye–mouth over inter-eye distance

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photograph


class NoFace(Exception):
    """A photograph in which no usable face is found; the text is the reason."""


@dataclass(frozen=True)
class Face:
    """The best-scored face of a photograph.

    Attributes
    ----------
    score : float
        Of the detector that found it. Mesh: probability of box times probability of face, 0 … 1. HOG: from 0 up,
        1–2 for a clear face. CNN with the 68 points: about 1.
    detector : str
        ``short-range``, ``cnn`` or ``hog``.
    n_faces : int
        Number of faces found.
    points : FacePoints
        In pixels of the photograph, continuous coordinates.
    rival : float
        Width of the widest other face over this one's; 0 where there is none.
    certainty : float
        By how much this attitude of the head is more believable than every other, 0 … 1; NaN where no other was
        tried.
    certain : bool
        ``False`` where two attitudes are almost equally believable, and the one nearest to upright was taken.
    """

    score: float
    detector: str
    n_faces: int
    points: FacePoints
    rival: float = 0.0
    certainty: float = float("nan")
    certain: bool = True


class Finder(Protocol):
    """What finds the face of a photograph."""

    def find(self, image: Image.Image) -> Face:
        """Best-scored face of an RGB photograph; raises :class:`NoFace`."""
        ...


def plausible(points: FacePoints) -> FacePoints:
    """The landmarks, unless eyes and mouth lie as in no face that can be used: then NoFace."""
    low, high = EYE_MOUTH
    if not low < pose(points).eye_mouth < high:
        raise NoFace("face in profile or badly lit: its landmarks are not plausible")
    return points


def resized(image: Image.Image, side: int, most: float) -> tuple[Pixels, float]:
    """A picture with the long side `side`, enlarged at most `most` times, and its scale."""
    scale = min(side / max(image.size), most)
    width, height = (max(round(extent * scale), 1) for extent in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)), scale
