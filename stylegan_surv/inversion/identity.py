"""Identity similarity of a photograph and its reconstruction, in dlib's 128-number face space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.gan.grading.memorisation import identity_vectors


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity [n] of the identities of FFHQ-aligned images [n, 3, h, w] in [−1, 1]; about 0.2 s a pair.

    dlib's vectors have a length of about 1.45 and point much the same way: two synthetic people have a cosine of 0.83
    (90 % within 0.76 and 0.90), one picture at 128 and at 64 px 0.995. Its limit for "the same person", a distance of
    0.6, is a cosine of 0.91.
    """
    x, y = (torch.from_numpy(identity_vectors(images.cpu())).float() for images in (a, b))
    return F.cosine_similarity(x, y, dim=1)
