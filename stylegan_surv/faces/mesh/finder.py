"""Finding the face of a photograph by the mesh: which way is up, where the short-range detector fails the CNN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.dlib.cnn_detector import boxes_of
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.found import Box, Face, NoFace, plausible
from stylegan_surv.faces.mesh.find import MIN_SCORE, WIDER, MeshFace, read_mesh, square_of_box
from stylegan_surv.faces.mesh.sampling import as_picture, one_thread
from stylegan_surv.faces.mesh.short_range import FoundBox, find_boxes, tiles, whole_picture
from stylegan_surv.faces.mesh.upright import SURE_BOX, Upright, which_way_up

LONG_SIDE = (
    1920  # larger photographs are searched in this size; the points are then read in the photograph itself
)
NEARBY = 2.0  # of the crop's side: what of a large photograph is read again
TILED_FROM = 480  # long side from which smaller faces than the first are searched, pixels


class MeshFinder:
    """The best-scored face of a photograph, in whatever attitude, with the 468 points of the mesh."""

    def find(self, image: Image.Image) -> Face:
        """Best-scored face of an RGB photograph with its landmarks; raises NoFace."""
        with one_thread():
            shown, scale = _shrunk(image)
            picture = as_picture(np.asarray(shown))
            upright = which_way_up(picture)
            face, name = upright.face, "short-range"
            if face is None or face.score < MIN_SCORE:
                face, name = _by_cnn(shown, picture), "cnn"
            if face is None:
                raise NoFace(_reason(upright))
            others = _others(picture, face, upright.quarter_turns)
            points = face.points if scale == 1 else _again(image, face, scale).points
        searched = name == "short-range"
        return Face(
            score=face.believed,
            detector=name,
            n_faces=1 + len(others),
            points=plausible(points),
            rival=max((box.side for box in others), default=0.0) / (face.square.side / WIDER),
            certainty=upright.margin if searched else 0.0,
            certain=upright.certain if searched else abs(face.roll_deg) <= 45,
        )


def _reason(upright: Upright) -> str:
    if upright.score > MIN_SCORE:
        return "no face found that is upright, and which way is up is in doubt: turn the photograph upright"
    return "no face found"


def _shrunk(image: Image.Image) -> tuple[Image.Image, float]:
    """A photograph in the size in which it is searched, and that over its own."""
    scale = LONG_SIDE / max(image.size)
    if scale >= 1:
        return image, 1.0
    width, height = (max(round(extent * scale), 1) for extent in image.size)
    return image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0), scale


def _by_cnn(image: Image.Image, picture: Tensor) -> MeshFace | None:
    """The face of the best box of dlib's CNN in which the mesh sees one; as the photograph is, no turn is tried."""
    boxes = boxes_of(image)
    faces = read_mesh(picture, [_square(box) for _, box in boxes])
    for (score, _), face in zip(boxes, faces):
        if face.score >= MIN_SCORE:
            return replace(face, box_score=min(score, 1.0))
    return None


def _square(box: Box) -> Square:
    left, top, right, bottom = box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    return Square(middle, np.array([1.0, 0.0]), WIDER * max(right - left, bottom - top))


def _others(picture: Tensor, face: MeshFace, quarter_turns: int) -> list[FoundBox]:
    """Boxes of further faces in the same attitude, those in which the mesh sees a face too."""
    height, width = picture.shape[1:]
    squares = [whole_picture(height, width, quarter_turns)]
    if max(height, width) >= TILED_FROM:
        squares += tiles(height, width, quarter_turns)
    found = [box for boxes in find_boxes(picture, squares, min_score=SURE_BOX) for box in boxes]
    kept: list[FoundBox] = []
    known: list[tuple[Floats, float]] = [(face.square.centre, face.square.side / WIDER)]
    for box in sorted(found, key=lambda box: -box.score):
        if all(np.abs(box.centre - centre).max() > max(side, box.side) / 2 for centre, side in known):
            kept.append(box)
            known.append((box.centre, box.side))
    seen = read_mesh(picture, [square_of_box(box) for box in kept])
    return [box for box, other in zip(kept, seen) if other.score >= MIN_SCORE]


def _again(image: Image.Image, face: MeshFace, scale: float) -> MeshFace:
    """The face of a shrunken photograph, its points read in the photograph itself."""
    square = Square(face.square.centre / scale, face.square.axis, face.square.side / scale)
    low = np.clip(np.floor(square.centre - NEARBY * square.side / 2), 0, np.array(image.size) - 1)
    high = np.clip(np.ceil(square.centre + NEARBY * square.side / 2), low + 1, image.size)
    region = image.crop((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
    part = as_picture(np.asarray(region))
    found = read_mesh(part, [Square(square.centre - low, square.axis, square.side)], again=0)[0]
    return replace(found, points=found.points.moved(np.eye(2), low))
