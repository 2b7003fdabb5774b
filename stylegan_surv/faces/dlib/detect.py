"""Finding the face: dlib's HOG detector at rising scales, its CNN detector where that finds none.

The 68-point model is licensed for non-commercial use only (iBUG 300-W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image

from stylegan_surv._types import Pixels
from stylegan_surv.faces.landmarks import Points, pose

DetectorName = Literal["hog+cnn", "hog", "cnn"]
DETECTORS: tuple[DetectorName, ...] = ("hog+cnn", "hog", "cnn")
HOG_SIDES = (480, 960, 1920)  # long side of the searched picture; HOG needs a face of 80 px
CNN_SIDE = 480  # 0.7–1.3 s per photograph on one core; the cost grows with the square
CNN_FACE = 80  # smallest face of the CNN, pixels
MAX_ENLARGE = 4.5  # beyond this a larger picture holds nothing new
SURE = 0.5  # a HOG score from which no further scale is searched
BYSTANDER_SIDE = HOG_SIDES[1]  # where faces are counted, those of which HOG is sure
SAME_FACE = 0.3  # overlap (intersection over union) of two boxes of one face
FACE_PX = 256  # width of the face in the picture that the landmarks are found in
EYE_MOUTH = (0.5, 2.5)  # plausible eye–mouth over inter-eye distance

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photograph


@dataclass(frozen=True)
class Face:
    """The best-scored face of a photograph.

    Attributes
    ----------
    score : float
        Of the detector that found it (HOG: from 0 up, 1–2 for a clear face; CNN: about 1).
    detector : str
        ``hog`` or ``cnn``.
    n_faces : int
        Number of faces found at the same scale, with those of which HOG is sure at a long side of 960 pixels.
    landmarks : array of float, shape (68, 2)
        x and y in the photograph, continuous coordinates.
    rival : float
        Width of the widest other face over this one's; 0 where there is none.
    """

    score: float
    detector: str
    n_faces: int
    landmarks: Points
    rival: float = 0.0


class NoFace(Exception):
    """A photograph in which no usable face is found; the text is the reason."""


class FaceFinder:
    """Detectors and landmark model, loaded once and only when they are needed."""

    def __init__(self, detector: DetectorName = "hog+cnn") -> None:
        self.detector = detector

    def find(self, image: Image.Image) -> Face:
        """Best-scored face of an RGB photograph with its landmarks; raises NoFace."""
        found = self._search_hog(image) if "hog" in self.detector else []
        name = "hog"
        if not found and "cnn" in self.detector:
            found, name = self._search_cnn(image), "cnn"
        if not found:
            raise NoFace("no face found")
        score, box = found[0]
        landmarks = self.landmarks(image, box)
        low, high = EYE_MOUTH
        if not low < pose(landmarks).eye_mouth < high:
            raise NoFace("face in profile or badly lit: its landmarks are not plausible")
        others = [other for _, other in found[1:]]
        if name == "hog":
            others += self._bystanders(image, [place for _, place in found])
        rival = max((_width(other) for other in others), default=0.0) / _width(box)
        return Face(score, name, 1 + len(others), landmarks, rival)

    def _search_hog(self, image: Image.Image) -> list[tuple[float, Box]]:
        """Faces, best first: at the first scale that is sure of one, else at the best-scored scale."""
        best: list[tuple[float, Box]] = []
        largest = max(*image.size, HOG_SIDES[1])
        for side in (side for side in HOG_SIDES if side <= largest):
            found = self._hog_at(image, side, 0.0)
            if found and (not best or found[0][0] > best[0][0]):
                best = found
            if best and best[0][0] >= SURE:
                break
        return best

    def _hog_at(self, image: Image.Image, side: int, threshold: float) -> list[tuple[float, Box]]:
        scaled, scale = _resized(image, side)
        boxes, scores, _ = self._hog.run(scaled, 0, threshold)
        return _sorted(zip(scores, boxes), scale)

    def _bystanders(self, image: Image.Image, known: list[Box]) -> list[Box]:
        """Faces from a twelfth of the photograph's length up that are not among the known ones."""
        if max(image.size) < BYSTANDER_SIDE:  # enlarging shows nothing new
            return []
        found = self._hog_at(image, BYSTANDER_SIDE, SURE)
        return [box for _, box in found if all(_overlap(box, other) < SAME_FACE for other in known)]

    def _search_cnn(self, image: Image.Image) -> list[tuple[float, Box]]:
        scaled, scale = _resized(image, CNN_SIDE)
        if min(scaled.shape[:2]) < CNN_FACE:  # a strip; the network refuses what is smaller than its filters
            return []
        return _sorted(((found.confidence, found.rect) for found in self._cnn(scaled, 0)), scale)

    def landmarks(self, image: Image.Image, box: Box) -> Points:
        """The 68 landmarks of the face in a box, at a scale of their own: as exact in small pictures as in large."""
        import dlib

        left, top, right, bottom = box
        width = right - left
        around = [left - width / 2, top - width / 2, right + width / 2, bottom + width / 2]
        low = np.floor(np.clip(around[:2], 0, None))
        high = np.ceil(np.minimum(around[2:], image.size))
        scale = FACE_PX / width
        target = np.maximum(np.round((high - low) * scale), 1).astype(int)
        exact = target / (high - low)
        part = image.resize(
            (int(target[0]), int(target[1])),
            Image.Resampling.BICUBIC,
            box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        )
        corners = (np.array([[left, top], [right, bottom]]) - low) * exact
        rectangle = dlib.rectangle(*(round(float(value)) for value in corners.ravel()))
        shape = self._predictor(np.asarray(part), rectangle)
        points: Points = np.array([(point.x, point.y) for point in shape.parts()], dtype=float)
        points = (points + 0.5) / exact + low
        return points

    @cached_property
    def _hog(self) -> Any:
        import dlib

        return dlib.get_frontal_face_detector()

    @cached_property
    def _cnn(self) -> Any:
        import dlib
        from face_recognition_models import cnn_face_detector_model_location

        return dlib.cnn_face_detection_model_v1(cnn_face_detector_model_location())

    @cached_property
    def _predictor(self) -> Any:
        import dlib
        from face_recognition_models import pose_predictor_model_location

        return dlib.shape_predictor(pose_predictor_model_location())


def _resized(image: Image.Image, side: int) -> tuple[Pixels, float]:
    """Picture with the long side `side` (enlarged at most 4.5 times), and its scale."""
    scale = min(side / max(image.size), MAX_ENLARGE)
    width, height = (max(round(extent * scale), 1) for extent in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)), scale


def _width(box: Box) -> float:
    return box[2] - box[0]


def _overlap(first: Box, second: Box) -> float:
    """Intersection of two boxes over their union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common)


def _sorted(found: Any, scale: float) -> list[tuple[float, Box]]:
    """(score, box) in pixels of the photograph, best score first; ties by position."""
    boxes = [
        (
            float(score),
            (box.left() / scale, box.top() / scale, (box.right() + 1) / scale, (box.bottom() + 1) / scale),
        )
        for score, box in found
    ]
    return sorted(boxes, key=lambda item: (-item[0], item[1]))
