"""The mesh on photographs: from a rough box to 468 points in the photograph's pixels, and a probability of a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.mesh.networks.mesh import SIDE, FaceMesh
from stylegan_surv.faces.mesh.sampling import cut, from_crop
from stylegan_surv.faces.mesh.short_range import FoundBox, find_boxes, tiles, whole_picture
from stylegan_surv.faces.points import MESH468, FacePoints

MIN_SCORE = (
    0.5  # probability of a face below which the points are none, as in MediaPipe's face_landmark graph
)
READ_BOXES = 3  # best boxes per turn in which the mesh is read
WIDER = 1.5  # crop over box, as the network was trained (MediaPipe's face_landmark graph)
EYES_ROLL = ("left_eye_outer", "right_eye_outer")  # the line that becomes level


@dataclass(frozen=True)
class MeshFace:
    """One face of a picture.

    Attributes
    ----------
    points : FacePoints
        468 points in pixels of the picture.
    depth : array of float, shape (468,)
        In pixels of the picture, smaller towards the camera.
    score : float
        Probability that the last crop showed a face, 0 … 1.
    square : Square
        The crop that the points were read from.
    box_score : float
        Of the detector's box that led here, 0 … 1; 1 if the crop was given.
    """

    points: FacePoints
    depth: Floats
    score: float
    square: Square
    box_score: float = 1.0

    @property
    def believed(self) -> float:
        """Score of the mesh times score of the box: the better sign of an upright face than either alone."""
        return self.score * self.box_score

    @property
    def roll_deg(self) -> float:
        """Turn of the head within the picture, degrees; positive is clockwise as seen."""
        return self.points.roll_deg


@lru_cache(maxsize=1)
def mesh_network() -> FaceMesh:
    """The network on the CPU, loaded once per process."""
    return FaceMesh().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def find_faces(picture: Tensor, quarter_turns: Sequence[int] = (0,)) -> list[MeshFace]:
    """Faces of a picture with their points: the best per quarter turn, most believed first.

    The whole picture is searched first, then, if the mesh sees a face in no turn, a wider square (for a face that fills
    the picture) and overlapping tiles (for small faces). Heads may be rolled by about 45° from a quarter turn.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    quarter_turns : sequence of int
        Which turns of the picture to search, clockwise; 0 is the picture as it is.

    Returns
    -------
    list of MeshFace
        At most one per turn; empty if no face was found. Coordinates are those of the picture as it is.
    """
    height, width = picture.shape[1:]
    whole = [[whole_picture(height, width, turn)] for turn in quarter_turns]
    closer = [tiles(height, width, turn) for turn in quarter_turns]
    best: dict[int, MeshFace] = {}  # by turn
    for searched in (whole, closer):
        found = iter(find_boxes(picture, [square for group in searched for square in group]))
        per_turn = [[box for _ in group for box in next(found)] for group in searched]
        boxes = [(k, box) for k, group in enumerate(per_turn) for box in _foremost(group)]
        faces = read_mesh(picture, [square_of_box(box) for _, box in boxes])
        for (k, box), face in zip(boxes, faces):
            scored = replace(face, box_score=box.score)
            if k not in best or scored.believed > best[k].believed:
                best[k] = scored
        if any(face.score >= MIN_SCORE for face in best.values()):
            break
    return sorted(best.values(), key=lambda face: -face.believed)


def _foremost(boxes: list[FoundBox]) -> list[FoundBox]:
    return sorted(boxes, key=lambda box: -box.score)[:READ_BOXES]


def read_mesh(picture: Tensor, squares: Sequence[Square], *, again: int = 1) -> list[MeshFace]:
    """Points of the faces within squares of one picture, all squares in one batch.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    squares : sequence of Square
        Roughly upright and 1.5 times as wide as the face; see `square_of_box`.
    again : int
        How often the crop is laid anew by the mesh's own points and read again.

    Returns
    -------
    list of MeshFace
        One per square, whatever its score.
    """
    faces = _read(picture, squares)
    for _ in range(again):
        faces = _read(picture, [square_of_points(face.points) for face in faces])
    return faces


def _read(picture: Tensor, squares: Sequence[Square]) -> list[MeshFace]:
    if not squares:
        return []
    with torch.no_grad():
        crops = cut(picture, squares, SIDE)
        points, logits = mesh_network().to(crops.device)(crops)
    found = points.double().cpu().numpy()
    scores = logits.double().sigmoid().cpu().numpy()
    return [
        MeshFace(
            points=FacePoints(from_crop(xyz[:, :2], square, SIDE), MESH468),
            depth=xyz[:, 2] * square.side / SIDE,
            score=float(score),
            square=square,
        )
        for xyz, score, square in zip(found, scores, squares)
    ]


def square_of_box(box: FoundBox) -> Square:
    """Crop of a detector's box: 1.5 times its longer side, turned so that the eyes are level."""
    axis = np.array([np.cos(box.roll), np.sin(box.roll)])
    return Square(np.asarray(box.centre, dtype=float), axis, WIDER * box.side)


def square_of_points(face: FacePoints) -> Square:
    """Crop of a face whose points are known: 1.5 times the longer side of their box along the line of the eyes.

    The box is laid along the eyes (MediaPipe takes the upright one), so that a turned photograph has the same crop.
    """
    outer_left, outer_right = (face[name] for name in EYES_ROLL)
    across = outer_right - outer_left
    axis = across / max(float(np.hypot(*across)), 1e-9)
    frame = np.stack([axis, [-axis[1], axis[0]]])  # rows: along the eyes, downwards
    laid = face.xy @ frame.T
    low, high = laid.min(axis=0), laid.max(axis=0)
    centre = np.asarray((low + high) / 2 @ frame, dtype=float)
    return Square(centre, np.asarray(axis, dtype=float), float(WIDER * (high - low).max()))
