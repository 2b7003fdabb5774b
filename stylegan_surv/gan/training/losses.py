"""The terms of the training objective, as short pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _full(x: Tensor) -> Tensor:
    """At least single precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def real_loss(logits: Tensor) -> Tensor:
    """softplus(−logits) [n]: what a discriminator pays for real images, a generator for its own (Goodfellow 2014)."""
    return F.softplus(-_full(logits)).flatten()


def fake_loss(logits: Tensor) -> Tensor:
    """softplus(logits) [n]: what a discriminator pays for generated images."""
    return F.softplus(_full(logits)).flatten()


def hinge_real(logits: Tensor) -> Tensor:
    """relu(1 − logits), averaged over all but the first axis, [n] (Lim & Ye 2017)."""
    return F.relu(1 - _full(logits)).flatten(1).mean(dim=1)


def hinge_fake(logits: Tensor) -> Tensor:
    """relu(1 + logits), averaged over all but the first axis, [n]."""
    return F.relu(1 + _full(logits)).flatten(1).mean(dim=1)


def r1_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """‖∂D/∂x‖² [n] at real images (Mescheder et al. 2018, equation 9); the caller multiplies by γ/2."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, w_plus: Tensor) -> Tensor:
    """‖Jᵀy‖ [n] for y ~ N(0, 1)/√pixels (StyleGAN2, section 3.2); the penalty is (length − running mean)²."""
    noise = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * noise).sum(), w_plus, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 256) -> Tensor:
    """Mean squared difference of the sorted projections of two point clouds (Rabin et al. 2011).

    Parameters
    ----------
    a, b : Tensor, shape (n, d), (m, d)
        The larger is read at the quantiles of the smaller.
    projections : int
        Number of random directions.
    """
    directions = F.normalize(torch.randn(a.shape[1], projections, device=a.device, dtype=a.dtype), dim=0)
    x, y = (
        (directions.T @ points.T).sort(dim=1).values for points in (a, b)
    )  # rows sort faster than columns
    return quantile_distance(x, y)


def quantile_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of sorted values [..., n] and [..., m]; the more are read at the fewer's quantiles."""
    if x.shape[-1] > y.shape[-1]:
        x, y = y, x
    n, m = x.shape[-1], y.shape[-1]
    if n < m:
        at = (torch.arange(n, device=x.device) + 0.5) * (m / n)
        y = y[..., at.long().clamp_max(m - 1)]
    return (x - y).square().mean()
