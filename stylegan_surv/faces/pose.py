"""How a face lies in its photograph, from named landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stylegan_surv.faces.points import FacePoints

QUARTER = 90.0


@dataclass(frozen=True)
class Pose:
    """How a face lies in its photograph.

    Attributes
    ----------
    inter_eye_px : float
        Distance of the eyes' centres in pixels of the photograph.
    turned_deg : float
        Angle of the line between the eyes, −180 … 180; positive turns clockwise as seen in the picture.
    yaw : float
        Nose tip beside the middle of the eyes, along the line between them, over the inter-eye distance:
        0 is frontal, about ±0.5 a half profile; positive looks to the right of the picture.
    eye_mouth : float
        Distance from eyes to mouth over the inter-eye distance: about 1.1 when frontal, larger in profile.
    """

    inter_eye_px: float
    turned_deg: float
    yaw: float
    eye_mouth: float

    @property
    def roll_deg(self) -> float:
        """What remains of the turn beside whole quarter turns, −45 … 45."""
        return self.turned_deg - QUARTER * round(self.turned_deg / QUARTER)


def pose(face: FacePoints) -> Pose:
    """Size and attitude of a face."""
    left, right, mouth = face.left_eye, face.right_eye, face.mouth
    across = right - left
    distance = max(face.inter_eye, 1e-6)
    along = across / distance
    down = np.array([-along[1], along[0]])
    middle = (left + right) / 2
    return Pose(
        inter_eye_px=distance,
        turned_deg=face.roll_deg,
        yaw=float((face["nose_tip"] - middle) @ along / distance),
        eye_mouth=float((mouth - middle) @ down / distance),
    )
