"""Between pixels (uint8, channels last) and the networks' images (float32 in [−1, 1], channels first)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Pixels


def quantised(images: Tensor) -> Tensor:
    """Images [..., 3, h, w] in [−1, 1] as levels 0 … 255 of the same shape, uint8."""
    levels: Tensor = images.detach().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return levels


def to_pixels(images: Tensor) -> Pixels:
    """Images [..., 3, h, w] in [−1, 1] as pixels [..., h, w, 3]."""
    pixels: Pixels = quantised(images).movedim(-3, -1).contiguous().cpu().numpy()
    return pixels


def to_images(pixels: Pixels | Tensor) -> Tensor:
    """Pixels [..., h, w, 3] of 0 … 255 as images [..., 3, h, w] in [−1, 1], float32."""
    levels = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    images: Tensor = levels.movedim(-1, -3).float().div(127.5).sub(1)
    return images
