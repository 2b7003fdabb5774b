"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


def ema_decay(batch: int, half_life: float, seen: float | None = None, ramp: float = 0.05) -> float:
    """The factor by which the average keeps its old value in one step.

    Parameters
    ----------
    batch : int
        Images of this step.
    half_life : float
        Images after which half of an old value is gone.
    seen : float, optional
        Images since training began from scratch: the half-life is at most ``ramp·seen`` (StyleGAN2's ramp-up).
        Leave it out when fine-tuning: a ramp from nothing would throw the loaded average away.
    """
    if seen is not None:
        half_life = min(half_life, ramp * seen)
    return float(0.5 ** (batch / max(half_life, 1e-8)))


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move ``average`` towards ``net``; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    torch._foreach_copy_(list(average.buffers()), list(net.buffers()))
