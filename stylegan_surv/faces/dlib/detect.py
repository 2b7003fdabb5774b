"""Finding the face with dlib: its HOG detector at rising scales, the CNN where that finds none, and the 68 points.

The 68-point model is licensed for non-commercial use only (iBUG 300-W), so it and dlib come with the extra ``dlib68``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.cnn_detector import boxes_of
from stylegan_surv.faces.found import MAX_ENLARGE, Box, Face, NoFace, plausible, resized
from stylegan_surv.faces.points import DLIB68, FacePoints

HOG_SIDES = (480, 960, 1920)  # long side of the searched picture; HOG needs a face of 80 px
SURE = 0.5  # a HOG score from which no further scale is searched
BYSTANDER_SIDE = HOG_SIDES[1]  # where faces are counted, those of which HOG is sure
SAME_FACE = 0.3  # overlap (intersection over union) of two boxes of one face
FACE_PX = 256  # width of the face in the picture that the landmarks are found in


class DlibFinder:
    """HOG detector and landmark model, loaded once and only when they are needed."""

    def find(self, image: Image.Image) -> Face:
        """Best-scored face of an RGB photograph with its landmarks; raises NoFace."""
        found = self._search_hog(image)
        name = "hog"
        if not found:
            found, name = boxes_of(image), "cnn"
        if not found:
            raise NoFace("no face found")
        score, box = found[0]
        points = plausible(FacePoints(self.landmarks(image, box), DLIB68))
        others = [other for _, other in found[1:]]
        if name == "hog":
            others += self._bystanders(image, [place for _, place in found])
        rival = max((_width(other) for other in others), default=0.0) / _width(box)
        return Face(score, name, 1 + len(others), points, rival)

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
        scaled, scale = resized(image, side, MAX_ENLARGE)
        boxes, scores, _ = self._hog.run(scaled, 0, threshold)
        return _sorted(zip(scores, boxes), scale)

    def _bystanders(self, image: Image.Image, known: list[Box]) -> list[Box]:
        """Faces from a twelfth of the photograph's length up that are not among the known ones."""
        if max(image.size) < BYSTANDER_SIDE:  # enlarging shows nothing new
            return []
        found = self._hog_at(image, BYSTANDER_SIDE, SURE)
        return [box for _, box in found if all(_overlap(box, other) < SAME_FACE for other in known)]

    def landmarks(self, image: Image.Image, box: Box) -> Floats:
        """The 68 landmarks of the face in a box, at a scale of their own: as exact in small pictures as in large."""
        dlib, _ = check_installed()
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
        points: Floats = np.array([(point.x, point.y) for point in shape.parts()], dtype=float)
        points = (points + 0.5) / exact + low
        return points

    @cached_property
    def _hog(self) -> Any:
        return check_installed()[0].get_frontal_face_detector()

    @cached_property
    def _predictor(self) -> Any:
        dlib, models = check_installed()
        return dlib.shape_predictor(models.pose_predictor_model_location())


def check_installed() -> tuple[Any, Any]:
    """dlib and the package that carries the 68-point model; an InputError says what is missing."""
    try:
        import dlib
        import face_recognition_models
    except ImportError as error:
        raise InputError(
            "landmarks 'dlib68' need dlib and its 68-point model, which is for non-commercial use only: "
            "pip install 'stylegan-surv[dlib68]', or take landmarks 'mesh'."
        ) from error
    return dlib, face_recognition_models


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
