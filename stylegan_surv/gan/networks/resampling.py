"""Pictures made smaller by the filter that chips are made smaller by: Lanczos, as Pillow computes it.

An encoder of 64 px that reads a larger picture must see what it was trained on, and gradients must pass.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

LOBES = 3  # of Lanczos's window (Duchon 1979)


@cache
def lanczos_matrix(inputs: int, outputs: int) -> Tensor:
    """Return the matrix [outputs, inputs] that makes a row of pixels smaller; its rows sum to 1, float32."""
    scale = inputs / outputs
    centre = (torch.arange(outputs, dtype=torch.float64) + 0.5) * scale
    at = (torch.arange(inputs, dtype=torch.float64) + 0.5 - centre[:, None]) / scale
    weight = torch.where(at.abs() < LOBES, torch.sinc(at) * torch.sinc(at / LOBES), 0.0)
    return (weight / weight.sum(dim=1, keepdim=True)).float()


def reduced(images: Tensor, size: int) -> Tensor:
    """Make images [n, c, h, h] smaller by a Lanczos filter; at their own size they are returned as they are.

    Parameters
    ----------
    images : Tensor, shape (n, c, h, h)
    size : int
        The new side in pixels, at most h.

    Returns
    -------
    Tensor [n, c, size, size]
        Differentiable in ``images``; not clipped, so that values pass the range of the input by the filter's lobes.

    Raises
    ------
    ValueError
        If the images are not square, or smaller than ``size``.
    """
    h, w = images.shape[2:]
    if h != w or h < size:
        raise ValueError(f"images have sides {h} and {w}; expected squares of {size} or more")
    if h == size:
        return images
    matrix = lanczos_matrix(h, size).to(images)
    return matrix @ images @ matrix.T
