"""The face recogniser's 128 numbers of pictures and of aligned faces."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.dlib.face_resnet import shared
from stylegan_surv.faces.dlib.recognition_chip import FIVE, MESH_MEAN_FACE, Placement, cut, placement
from stylegan_surv.faces.points import FacePoints

# Eye corners and the base of the nose in an FFHQ crop of side 1: medians over 199 aligned portraits of dlib's five
# points.
FFHQ_POINTS = {
    "left_eye_outer": (0.328, 0.477),
    "left_eye_inner": (0.426, 0.480),
    "right_eye_inner": (0.574, 0.480),
    "right_eye_outer": (0.676, 0.477),
    "nose_base": (0.500, 0.668),
}
LEAST_PX = 256  # smaller faces are enlarged to this, by cubic splines


def of_aligned(images: Tensor) -> Floats:
    """Descriptors of aligned faces; the FFHQ crop says where the face is, so that none drops out.

    Parameters
    ----------
    images : Tensor, shape (n, 3, side, side)
        RGB in [−1, 1].

    Returns
    -------
    array of float32, shape (n, 128)
        Below a Euclidean distance of 0.6 two photographs are taken for one person.
    """
    side = images.shape[3]
    if side < LEAST_PX:
        images = F.interpolate(images, (LEAST_PX, LEAST_PX), mode="bicubic", antialias=True).clamp(-1, 1)
        side = LEAST_PX
    return _described(images, placement({name: (x * side, y * side) for name, (x, y) in FFHQ_POINTS.items()}))


def of_face(image: Tensor, points: FacePoints) -> Floats:
    """Descriptor [128] of the face with these landmarks in an image [3, h, w] in [−1, 1]."""
    named = {name: points[name] for name in FIVE}
    mesh = points.scheme.name == "mesh"
    return np.asarray(
        _described(image[None], placement(named, MESH_MEAN_FACE) if mesh else placement(named))[0]
    )


def _described(images: Tensor, place: Placement) -> Floats:
    with torch.no_grad():
        found: Floats = shared(images.device)(cut(images.float(), place)).cpu().numpy()
    return found
