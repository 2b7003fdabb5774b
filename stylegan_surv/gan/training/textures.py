"""Samples whose textures are those of photographs: sliced Wasserstein distances of local features.

A critic has to find the difference before the generator can mend it, and a generator that moves faster than its critic
is never told. The distance between two sets of values needs no critic: sort both (Heitz et al. 2021, "A Sliced
Wasserstein Loss for Neural Texture Synthesis"; on patches of pixels, Elnekave & Weiss 2022, arXiv 2203.11862).
Chips are aligned, so values are compared within cells of the picture: skin with skin, hair with hair.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.gan.networks import LPIPS
from stylegan_surv.gan.training.losses import quantile_distance

LEVELS = {0: 8, 1: 5, 2: 1, 4: 1}  # AlexNet's convolutions: side of a cell, in positions
PATCHES, PATCH_STRIDE, PATCH_CELL = (3, 7), 2, 8  # pixels; pixels; positions
EPS = 1e-8


def texture_distance(a: Tensor, b: Tensor, network: LPIPS, projections: int) -> Tensor:
    """Mean over features, cells and random projections of the squared Wasserstein distance, by ``b``'s variance.

    Parameters
    ----------
    a, b : Tensor, shape (n, 3, h, w), (m, 3, h, w)
        In [−1, 1]; the gradient flows to ``a``.
    network : LPIPS
        Computes the fixed features.
    projections : int
        Of every feature level; half as many random filters of each patch size.
    """
    b = b.detach()
    maps, targets = network.enlarged_features(a), network.enlarged_features(b)
    with torch.autocast(a.device.type, enabled=False):  # sorted values differ by little
        a, b = (t if t.dtype == torch.float64 else t.float() for t in (a, b))
        total = []
        for level, cell in LEVELS.items():
            pair = maps[level], targets[level]
            directions = F.normalize(a.new_empty(pair[0].shape[1], projections).normal_(), dim=0)
            x, y = (torch.einsum("nchw,ck->knhw", t.to(a.dtype), directions) for t in pair)
            total.append(_between(x, y, cell))
        for size in PATCHES:
            filters = a.new_empty(max(projections // 2, 1), a.shape[1], size, size).normal_()
            filters = filters / filters.flatten(1).norm(dim=1)[:, None, None, None]
            x, y = (F.conv2d(t, filters, stride=PATCH_STRIDE).transpose(0, 1) for t in (a, b))
            total.append(_between(x, y, PATCH_CELL))
        return torch.stack(total).mean()


def _between(x: Tensor, y: Tensor, cell: int) -> Tensor:
    """Distance of projections [k, n, h, w] and [k, m, h, w], cell by cell."""
    x, y = _cells(x, cell).sort(dim=2).values, _cells(y, cell).sort(dim=2).values
    return quantile_distance(x, y) / (y.var() + EPS)


def _cells(x: Tensor, side: int) -> Tensor:
    """[k, n, h, w] to [k, cells, values]; what does not fill a cell is left out."""
    k, n, h, w = x.shape
    side = min(side, h, w)
    rows, columns = h // side, w // side
    x = x[:, :, : rows * side, : columns * side].reshape(k, n, rows, side, columns, side)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(k, rows * columns, n * side * side)
