"""The aligned chip of 150 pixels that the face recogniser was trained on, from named landmarks.

dlib lays the landmarks over a mean face by the best similarity (Umeyama, IEEE PAMI 13(4), 1991) and cuts the square
around it. Its own points come from a shape predictor; any that mean the same places do, so that no model of dlib's is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError

SIDE = 150  # of the chip, pixels
PADDING = 0.25  # around the mean face, of its side: what the recogniser was trained with
# Mean face of dlib's get_face_chip_details: eye corners and the base of the nose of its five-point model, the others
# of its mean of the 68 points. Left and right in the picture, shares of the face's side, from the upper left.
MEAN_FACE: Mapping[str, tuple[float, float]] = {
    "left_eye_outer": (0.1205750620789, 0.2137274526848),
    "left_eye_inner": (0.3340850613712, 0.2290642403242),
    "right_eye_inner": (0.6460604764104, 0.2289674387677),
    "right_eye_outer": (0.8595674595992, 0.2134981538014),
    "nose_base": (0.4901123135679, 0.6277975316475),
    "left_ala": (0.36688, 0.587326),
    "right_ala": (0.613373, 0.587326),
    "left_mouth_corner": (0.254149, 0.780233),
    "right_mouth_corner": (0.726104, 0.780233),
}
# The mesh's points in the same frame: medians over 203 synthetic faces laid by dlib's five points.
MESH_MEAN_FACE: Mapping[str, tuple[float, float]] = {
    "left_eye_outer": (0.1066, 0.2117),
    "left_eye_inner": (0.3387, 0.2259),
    "right_eye_inner": (0.6361, 0.2272),
    "right_eye_outer": (0.8731, 0.2108),
    "nose_base": (0.4864, 0.6045),
}
FIVE = ("left_eye_outer", "left_eye_inner", "right_eye_inner", "right_eye_outer", "nose_base")
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # dlib's filter before it halves a picture
HALVED = (1.25, 0.75)  # by which dlib moves a halved point; its filter's own shift is (1, 1)


@dataclass(frozen=True)
class Placement:
    """Where a chip lies in its picture.

    Attributes
    ----------
    centre : tuple of float
        Of the chip, x and y in the picture's pixels; pixel (0, 0) covers [0, 1] × [0, 1].
    angle : float
        By which the chip's upper edge is turned, radians; positive turns clockwise as seen in the picture.
    scale : float
        Pixels of the picture per pixel of the chip.
    """

    centre: tuple[float, float]
    angle: float
    scale: float

    def matrix(self) -> Floats:
        """The map [2, 3] of the chip's points to the picture's, both in pixels."""
        cosine, sine = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        origin = np.array(self.centre) - turn @ (SIDE / 2, SIDE / 2)
        return np.concatenate([turn, origin[:, None]], axis=1)

    def to_chip(self, points: Floats) -> Floats:
        """Points [k, 2] of the picture in the chip's pixels."""
        matrix = self.matrix()
        moved: Floats = np.linalg.solve(matrix[:, :2], (np.asarray(points, float) - matrix[:, 2]).T).T
        return moved


def placement(
    landmarks: Mapping[str, tuple[float, float] | Floats],
    mean_face: Mapping[str, tuple[float, float]] = MEAN_FACE,
) -> Placement:
    """Placement of the chip from named landmarks.

    Parameters
    ----------
    landmarks : mapping of str to (float, float)
        x and y in the picture's pixels; pixel (0, 0) covers [0, 1] × [0, 1]. Two or more names of ``mean_face``; others
        are not looked at. The names in ``FIVE`` are what dlib takes.
    mean_face : mapping of str to (float, float)
        Where the landmarks lie in the mean face, from 0 to 1; dlib's by default. A mesh brings its own.

    Returns
    -------
    Placement

    Raises
    ------
    InputError
        If fewer than two known landmarks are there, one is not finite, or all of them coincide.
    """
    names = [name for name in mean_face if name in landmarks]
    if len(names) < 2:
        raise InputError(
            f"{len(names)} landmarks of the mean face are given ({', '.join(sorted(landmarks)) or 'none'}); "
            f"two or more are expected of {', '.join(mean_face)}"
        )
    picture = np.array([landmarks[name] for name in names], float)
    chip = (np.array([mean_face[name] for name in names]) + PADDING) / (1 + 2 * PADDING) * SIDE
    if not np.isfinite(picture).all() or np.ptp(picture, axis=0).max() == 0:
        raise InputError(
            f"the landmarks {', '.join(names)} are not finite or lie on one point: find them anew"
        )
    matrix, offset = similarity(chip, picture)
    x, y = matrix @ (SIDE / 2, SIDE / 2) + offset
    return Placement(
        (float(x), float(y)), math.atan2(matrix[1, 0], matrix[0, 0]), float(np.hypot(*matrix[:, 0]))
    )


def similarity(source: Floats, target: Floats) -> tuple[Floats, Floats]:
    """The scaled rotation [2, 2] and shift [2] that bring points [k, 2] nearest to others in least squares.

    In the plane and without reflection, Umeyama's solution is a division of complex numbers.

    Examples
    --------
    >>> matrix, shift = similarity(np.array([[0, 0], [1, 0]]), np.array([[3, 1], [3, 3]]))
    >>> matrix.round(6).tolist(), shift.round(6).tolist()
    ([[0.0, -2.0], [2.0, 0.0]], [3.0, 1.0])
    """
    a, b = (np.asarray(points, float) @ (1, 1j) for points in (source, target))
    turn = np.vdot(a - a.mean(), b - b.mean()) / np.vdot(a - a.mean(), a - a.mean())
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag], [turn.imag, turn.real]]), np.array([shift.real, shift.imag])


def cut(images: Tensor, place: Placement) -> Tensor:
    """The face recogniser's chips out of images that all have the face in the same place.

    As dlib cuts them: halved until less than two pixels fall on one, then linear between four; black beyond the image.

    Parameters
    ----------
    images : Tensor, shape (n, 3, h, w)
        RGB in [−1, 1]. Gradients flow to them.
    place : Placement

    Returns
    -------
    Tensor, shape (n, 3, 150, 150)
        RGB in [−1, 1].
    """
    side, halvings = place.scale * SIDE, 0
    while (side + 1) / 2 > SIDE:  # a box of dlib's has its last pixel inside, and keeps it when halved
        side, halvings = (side + 1) / 2, halvings + 1
    part, low = _around(images + 1, place, halvings)
    centre = np.array(place.centre) - 0.5 - low  # from here on pixel (0, 0) has its centre at (0, 0)
    for _ in range(halvings):
        part, centre = _halved(part), centre / 2 - HALVED
    step = (side - 1) / (SIDE - 1)
    x, y = np.meshgrid(*[np.arange(SIDE) - (SIDE - 1) / 2] * 2)
    turn = step * np.exp(1j * place.angle)
    at = (x + 1j * y) * turn + complex(*centre)
    height, width = part.shape[2:]
    grid = np.stack([(2 * at.real + 1) / width - 1, (2 * at.imag + 1) / height - 1], axis=-1)
    where = torch.from_numpy(grid).to(part).expand(len(part), -1, -1, -1)
    return F.grid_sample(part, where, mode="bilinear", align_corners=False) - 1


def _around(images: Tensor, place: Placement, halvings: int) -> tuple[Tensor, Floats]:
    """The part of the images that the chip and its filters see, and its first pixel."""
    reach = 2.0
    for _ in range(halvings):
        reach = 2 * reach + 2
    half = (place.scale * SIDE - 1) / 2
    extent = half * (abs(math.cos(place.angle)) + abs(math.sin(place.angle))) + reach
    centre = np.array(place.centre) - 0.5
    last = np.array([images.shape[3], images.shape[2]]) - 1
    low = np.floor(np.clip(centre - extent, 0, last) + 0.5).astype(int)
    high = np.floor(np.clip(centre + extent, 0, last) + 0.5).astype(int)
    return images[:, :, low[1] : high[1] + 1, low[0] : high[0] + 1], low


def _halved(images: Tensor) -> Tensor:
    """Every second pixel of images that a binomial filter has smoothed; two at the edges are lost."""
    if min(images.shape[2:]) < len(BINOMIAL):
        return images.new_zeros(*images.shape[:2], 1, 1)
    line = images.new_tensor(BINOMIAL)
    kernel = torch.outer(line, line).expand(images.shape[1], 1, -1, -1)
    return F.conv2d(images, kernel, stride=2, groups=images.shape[1])
