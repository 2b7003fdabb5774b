"""Landmarks by name: where the eye corners, mouth corners, chin … stand in dlib's 68 points and in the mesh's 468.

Left and right are those of the picture. No torch, no picture: numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from stylegan_surv._types import Floats

SchemeName = Literal["dlib68", "mesh"]


@dataclass(frozen=True)
class Scheme:
    """One way of numbering landmarks.

    Attributes
    ----------
    name : str
        ``dlib68`` or ``mesh``.
    count : int
        Number of points.
    single : mapping of str to int
        Points that have a name of their own.
    contours : mapping of str to tuple of int
        Outlines: points in their order along the line.
    offsets : array of float, shape (3, 2)
        What is added to the means of left eye, right eye and mouth so that they lie where dlib's lie: along
        the line between the eyes and at right angles to it (downwards), in inter-eye distances.
    """

    name: SchemeName
    count: int
    single: Mapping[str, int]
    contours: Mapping[str, tuple[int, ...]]
    offsets: Floats


# The iBUG annotation (Sagonas et al., 300 Faces in-the-Wild, 2013).
DLIB68 = Scheme(
    name="dlib68",
    count=68,
    single=MappingProxyType(
        {
            "left_eye_outer": 36,
            "left_eye_inner": 39,
            "right_eye_inner": 42,
            "right_eye_outer": 45,
            "mouth_left": 48,
            "mouth_right": 54,
            "lip_top": 51,
            "lip_bottom": 57,
            "chin": 8,
            "left_cheekbone": 1,
            "right_cheekbone": 15,
            "left_jaw_angle": 4,
            "right_jaw_angle": 12,
            "left_ala": 31,
            "right_ala": 35,
            "nose_root": 27,
            "nose_tip": 30,
            "nose_base": 33,
            "left_brow_outer": 17,
            "left_brow_inner": 21,
            "right_brow_inner": 22,
            "right_brow_outer": 26,
        }
    ),
    contours=MappingProxyType(
        {
            "jaw": tuple(range(17)),
            "left_brow": tuple(range(17, 22)),
            "right_brow": tuple(range(22, 27)),
            "left_eye": tuple(range(36, 42)),
            "right_eye": tuple(range(42, 48)),
            "nose_bridge": tuple(range(27, 31)),
            "nostrils": tuple(range(31, 36)),
            "lips": tuple(range(48, 60)),
            "mouth_opening": tuple(range(60, 68)),
        }
    ),
    offsets=np.zeros((3, 2)),
)

# Left eye, right eye, mouth. Learnt on 460 synthetic faces (SFHQ, SFHQ-T2I), judged on 460 others:
# python -m benchmarks.mesh_crop FOLDER --learn --limit 700
MESH_TO_DLIB = np.array([[0.0008, 0.0089], [-0.0008, 0.0089], [0.0, 0.0210]])

# MediaPipe's canonical face model; its eyes and lips have the same number of points as dlib's, at the same places.
MESH468 = Scheme(
    name="mesh",
    count=468,
    single=MappingProxyType(
        {
            "left_eye_outer": 33,
            "left_eye_inner": 133,
            "right_eye_inner": 362,
            "right_eye_outer": 263,
            "mouth_left": 61,
            "mouth_right": 291,
            "lip_top": 0,
            "lip_bottom": 17,
            "chin": 152,
            "left_cheekbone": 234,
            "right_cheekbone": 454,
            "left_jaw_angle": 172,
            "right_jaw_angle": 397,
            "left_ala": 98,
            "right_ala": 327,
            "nose_root": 168,
            "nose_tip": 4,
            "nose_base": 2,
            "left_brow_outer": 70,
            "left_brow_inner": 107,
            "right_brow_inner": 336,
            "right_brow_outer": 300,
            "forehead": 10,
        }
    ),
    contours=MappingProxyType(
        {
            "jaw": (127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),
            "oval": (
                *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
                *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
            ),
            "left_brow": (70, 63, 105, 66, 107),
            "right_brow": (336, 296, 334, 293, 300),
            "left_brow_area": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
            "right_brow_area": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
            "left_eye": (33, 160, 158, 133, 153, 144),
            "right_eye": (362, 385, 387, 263, 373, 380),
            "left_eye_area": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
            "right_eye_area": (
                263,
                466,
                388,
                387,
                386,
                385,
                384,
                398,
                362,
                382,
                381,
                380,
                374,
                373,
                390,
                249,
            ),
            "nose_bridge": (168, 197, 5, 4),
            "nostrils": (98, 97, 2, 326, 327),
            "lips": (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
            "mouth_opening": (78, 82, 13, 312, 308, 317, 14, 87),
        }
    ),
    offsets=MESH_TO_DLIB,
)

SCHEMES: Mapping[str, Scheme] = MappingProxyType({"dlib68": DLIB68, "mesh": MESH468})


@dataclass(frozen=True)
class FacePoints:
    """Landmarks of one face, asked for by name.

    Attributes
    ----------
    xy : array of float, shape (count, 2)
        x and y in pixels, continuous coordinates.
    scheme : Scheme
        What the numbers mean.
    """

    xy: Floats
    scheme: Scheme

    def __post_init__(self) -> None:
        if self.xy.shape != (self.scheme.count, 2):
            raise ValueError(
                f"the landmarks have the shape {self.xy.shape}; {self.scheme.name} has ({self.scheme.count}, 2)"
            )

    def __getitem__(self, name: str) -> Floats:
        """A point ``(2,)`` or a contour ``(k, 2)`` by its name.

        >>> face = FacePoints(np.arange(136.0).reshape(68, 2), DLIB68)
        >>> face["chin"]
        array([16., 17.])
        >>> face["left_eye"].shape
        (6, 2)
        """
        if name in self.scheme.single:
            point: Floats = self.xy[self.scheme.single[name]]
            return point
        if name in self.scheme.contours:
            contour: Floats = self.xy[list(self.scheme.contours[name])]
            return contour
        raise KeyError(f"{self.scheme.name} has no landmark '{name}'")

    def __contains__(self, name: str) -> bool:
        return name in self.scheme.single or name in self.scheme.contours

    @property
    def left_eye(self) -> Floats:
        """Middle of the eye on the left of the picture, (x, y)."""
        return np.asarray(self["left_eye"].mean(axis=0))

    @property
    def right_eye(self) -> Floats:
        """Middle of the eye on the right of the picture, (x, y)."""
        return np.asarray(self["right_eye"].mean(axis=0))

    @property
    def mouth(self) -> Floats:
        """Middle between the corners of the mouth, (x, y)."""
        return np.asarray((self["mouth_left"] + self["mouth_right"]) / 2)

    @property
    def inter_eye(self) -> float:
        """Distance of the eyes' middles in pixels."""
        return float(np.hypot(*(self.right_eye - self.left_eye)))

    @property
    def roll_deg(self) -> float:
        """Angle of the line between the eyes, degrees; positive is clockwise as seen in the picture."""
        across = self.right_eye - self.left_eye
        return float(np.degrees(np.arctan2(across[1], across[0])))

    def ffhq_anchors(self) -> tuple[Floats, Floats, Floats]:
        """Left eye, right eye and mouth as the FFHQ crop defines them: as dlib's 68 points would give them.

        For the mesh, constant offsets are added, in the frame of its own eyes (``Scheme.offsets``).
        """
        left, right, mouth = self.left_eye, self.right_eye, self.mouth
        across = right - left
        frame = np.stack(
            [across, [-across[1], across[0]]]
        )  # along the eyes and downwards, inter-eye distance long
        shifts = self.scheme.offsets @ frame
        return left + shifts[0], right + shifts[1], mouth + shifts[2]

    def moved(self, matrix: Floats, shift: Floats) -> FacePoints:
        """Points under x ↦ matrix · x + shift, such as into the pixels of a chip."""
        return FacePoints(self.xy @ np.asarray(matrix).T + shift, self.scheme)
