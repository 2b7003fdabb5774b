"""A discriminator on the fixed features of AlexNet (after Sauer et al. 2021, "Projected GANs Converge Faster").

Small convolutional heads look at several depths of a pretrained network, behind fixed random projections. They tell
real from generated long before a discriminator that learns its features from a few thousand pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_surv.gan.networks.layers import LRELU_SLOPE
from stylegan_surv.gan.networks.perceptual import ALEX_LAYERS, LPIPS

LEVELS = (0, 1, 2, 4)  # which of AlexNet's convolutions have a head
WIDTH = 64
SQUARINGS = 10  # of a matrix: its power 1024


def spectral_norm(rows: Tensor) -> Tensor:
    """Largest singular value of a matrix, to about one part in a thousand, by matrix products alone.

    Squared ``SQUARINGS`` times, rows·rowsᵀ is all but its leading eigenvectors' projection; an eigenvalue solver on
    a GPU would make the whole queue wait for it.
    """
    gram = rows @ rows.T
    power = gram / gram.trace()
    for _ in range(SQUARINGS):
        power = power @ power
        power = power / power.trace()
    return (power * gram).sum().sqrt()


class _Conv(nn.Module):
    """3 × 3 convolution whose weight is divided by its spectral norm: no state besides the weight."""

    def __init__(self, inputs: int, outputs: int, stream: torch.Generator, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3, generator=stream))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            norm = spectral_norm(self.weight.flatten(1))
        return F.conv2d(
            x, (self.weight / norm).to(x.dtype), self.bias.to(x.dtype), stride=self.stride, padding=1
        )


class _Head(nn.Module):
    mix: Tensor

    def __init__(self, channels: int, stride: int, stream: torch.Generator) -> None:
        super().__init__()
        # fixed and random: keeps the head from looking at a few telling channels alone (the paper's section 3.2)
        self.register_buffer("mix", torch.randn(WIDTH, channels, 1, 1, generator=stream))
        self.conv = _Conv(WIDTH, WIDTH, stream, stride)
        self.out = _Conv(WIDTH, 1, stream)

    def forward(self, x: Tensor) -> Tensor:
        # features have unit length over their channels, so that projections by N(0, 1) have variance 1
        x = F.conv2d(x, self.mix.to(x.dtype))
        y: Tensor = self.out(F.leaky_relu(self.conv(x), LRELU_SLOPE))
        return y.flatten(1)


class FeatureCritic(nn.Module):
    """``critic(images, network)``: for each level, logits [n, positions] of images [n, 3, h, w] in [−1, 1].

    Parameters
    ----------
    seed : int
        Of the stream that every weight and projection is drawn from.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(seed)
        self.heads = nn.ModuleList(_Head(ALEX_LAYERS[i][1], 2 if i < 2 else 1, stream) for i in LEVELS)

    def forward(self, images: Tensor, network: LPIPS) -> list[Tensor]:
        """Logits per level; ``network`` computes the fixed features and is not part of this module's state."""
        features = network.enlarged_features(images)
        return [head(features[i]) for i, head in zip(LEVELS, self.heads)]
