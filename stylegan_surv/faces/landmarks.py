"""The 68 iBUG landmarks, and the pose and distances that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stylegan_surv._types import Floats

JAW, NOSE_TIP = slice(0, 17), 30
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)  # left and right in the picture
MOUTH_LEFT, MOUTH_RIGHT = 48, 54

Points: TypeAlias = Floats  # [68, 2], x and y in pixels


@dataclass(frozen=True)
class Pose:
    """How a face lies in its photograph.

    Attributes
    ----------
    inter_eye_px : float
        Distance of the eyes' centres in pixels of the photograph.
    roll_deg : float
        Angle of the line between the eyes; positive turns clockwise as seen in the picture.
    yaw : float
        Nose tip beside the middle of the eyes, along the line between them, over the inter-eye distance:
        0 is frontal, about ±0.5 a half profile; positive looks to the right of the picture.
    eye_mouth : float
        Distance from eyes to mouth over the inter-eye distance: about 1.1 when frontal, larger in profile.
    """

    inter_eye_px: float
    roll_deg: float
    yaw: float
    eye_mouth: float


def anchors(points: Points) -> tuple[Points, Points, Points]:
    """Left eye, right eye and mouth, each as (x, y): means of landmarks 36–41, 42–47 and of 48 and 54."""
    mouth = (points[MOUTH_LEFT] + points[MOUTH_RIGHT]) / 2
    return points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0), mouth


def pose(points: Points) -> Pose:
    """Size and attitude of a face from its landmarks ``[68, 2]``."""
    left, right, mouth = anchors(points)
    across = right - left
    distance = max(float(np.hypot(*across)), 1e-6)
    along = across / distance
    down = np.array([-along[1], along[0]])
    middle = (left + right) / 2
    return Pose(
        inter_eye_px=distance,
        roll_deg=float(np.degrees(np.arctan2(across[1], across[0]))),
        yaw=float((points[NOSE_TIP] - middle) @ along / distance),
        eye_mouth=float((mouth - middle) @ down / distance),
    )
