"""Identity similarity of a photograph and its reconstruction, in dlib's 128-number face space."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# dlib's recogniser wants 150 px crops with a margin of a quarter around its mean shape. In the FFHQ crop that is
# always nearly the same square: its centre and side as shares of the chip's side (benchmarks/identity_crop.py).
CENTRE_X, CENTRE_Y, SIDE = 0.5, 0.58, 0.56
RECOGNISER_PX = 150


@cache
def _recogniser() -> Any:
    import dlib
    from face_recognition_models import face_recognition_model_location

    return dlib.face_recognition_model_v1(face_recognition_model_location())


def descriptors(images: Tensor) -> Tensor:
    """Descriptors [n, 128] of FFHQ-aligned images [n, 3, h, w] in [−1, 1]."""
    axis = (torch.arange(RECOGNISER_PX) + 0.5) / RECOGNISER_PX - 0.5
    x, y = ((centre + SIDE * axis) * 2 - 1 for centre in (CENTRE_X, CENTRE_Y))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(images)
    crops = F.grid_sample(images, grid.expand(len(images), -1, -1, -1), mode="bicubic", align_corners=False)
    pixels = ((crops.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    found = [np.array(_recogniser().compute_face_descriptor(np.ascontiguousarray(crop))) for crop in pixels]
    return torch.from_numpy(np.stack(found)).float()


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity [n] of identities; the same person in two photographs has about 0.9 or more."""
    return F.cosine_similarity(descriptors(a), descriptors(b), dim=1)
