"""LPIPS (Zhang et al., CVPR 2018): distance of two images in the feature space of AlexNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

ALEX_FILE = Path(__file__).parent.parent / "data" / "lpips-alex.safetensors"
# the network was trained on images scaled by these (per channel, for input in [-1, 1])
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# AlexNet's five convolutions: (in, out, kernel, stride, padding); max-pooling 3/2 before the second and third
ALEX_LAYERS = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
POOL_BEFORE = (1, 2)
EPS = 1e-10


class LPIPS(nn.Module):
    """LPIPS-AlexNet with the published heads (version 0.1), weights bundled in half precision.

    ``distance(a, b)`` gives [n]; images are [n, 3, h, w] in [−1, 1], h, w ≥ 32. Gradients flow to the images; the
    weights are fixed.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, p) for i, o, k, s, p in ALEX_LAYERS)
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(o)) for _, o, *_ in ALEX_LAYERS)
        self.load_state_dict({k: v.float() for k, v in load_file(ALEX_FILE).items()}, strict=False)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor) -> list[Tensor]:
        """The five activation maps, each scaled to unit length over channels."""
        x = (images - self.shift) / self.scale
        maps = []
        for i, conv in enumerate(self.convs):
            if i in POOL_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(conv(x))
            maps.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPS))
        return maps

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """Distance [n] of two feature lists; ``weight`` [n or 1, 1, h, w] ≥ 0 says where pixels count."""
        total = torch.zeros(a[0].shape[0], device=a[0].device, dtype=a[0].dtype)
        for x, y, head in zip(a, b, self.heads):
            diff = torch.einsum("nchw,c->nhw", (x - y).square(), head.to(x.dtype))
            if weight is None:
                total = total + diff.mean(dim=(1, 2))
            else:
                w = F.interpolate(weight.to(x.dtype), size=diff.shape[1:], mode="area")[:, 0]
                total = total + (diff * w).sum(dim=(1, 2)) / w.sum(dim=(1, 2)).clamp_min(EPS)
        return total

    def forward(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """LPIPS [n] of image batches in [−1, 1]."""
        return self.between(self.features(a), self.features(b), weight)
