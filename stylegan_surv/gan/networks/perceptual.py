"""LPIPS (Zhang et al., CVPR 2018): distance of two images in the feature space of AlexNet or VGG16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from cuda_ops.convolution import relu_conv2d
from stylegan_surv.gan.networks.auxiliary import fetched

ALEX_FILE = Path(__file__).parents[2] / "data" / "lpips-alex.safetensors"
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
VGG_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_LAYERS = tuple((i, o, 3, 1, 1) for i, o in pairwise(VGG_WIDTHS))
EPS = 1e-10


@dataclass(frozen=True)
class Backbone:
    """Convolutions (in, out, kernel, stride, padding); which have a max-pooling before them; whose output counts."""

    layers: tuple[tuple[int, int, int, int, int], ...]
    pool_before: tuple[int, ...]
    pool: tuple[int, int]  # kernel, stride
    taps: tuple[int, ...]


BACKBONES = {
    "alex": Backbone(ALEX_LAYERS, (1, 2), (3, 2), (0, 1, 2, 3, 4)),
    "vgg": Backbone(VGG_LAYERS, (2, 4, 7, 10), (2, 2), (1, 3, 6, 9, 12)),
}


class LPIPS(nn.Module):
    """LPIPS with the published heads (version 0.1).

    ``distance(a, b)`` gives [n]; images are [n, 3, h, w] in [−1, 1], h, w ≥ 32. Gradients flow to the images; the
    weights are fixed.

    Parameters
    ----------
    net : {"alex", "vgg"}
        ``alex`` (bundled, in half precision) or ``vgg`` (after ``stylegan-surv fetch-weights lpips-vgg``; about
        nine times slower).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Literal["alex", "vgg"] = "alex") -> None:
        super().__init__()
        self.backbone = BACKBONES[net]
        layers = self.backbone.layers
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, p) for i, o, k, s, p in layers)
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(layers[i][1])) for i in self.backbone.taps)
        file = ALEX_FILE if net == "alex" else fetched("lpips-vgg")
        self.load_state_dict({k: v.float() for k, v in load_file(file).items()}, strict=False)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor) -> list[Tensor]:
        """The five activation maps, each scaled to unit length over channels."""
        x = (images - self.shift) / self.scale
        maps = []
        for i, (conv, (*_, stride, padding)) in enumerate(zip(self.convs, self.backbone.layers)):
            if i in self.backbone.pool_before:
                x = F.max_pool2d(x, *self.backbone.pool)
            weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
            x = relu_conv2d(x, weight, bias, stride=stride, padding=padding)
            if i in self.backbone.taps:
                y = x.float() if x.dtype == torch.float16 else x  # whose squares do not fit into fp16
                maps.append(y / (y.square().sum(dim=1, keepdim=True).sqrt() + EPS))
        return maps

    def enlarged_features(self, images: Tensor) -> list[Tensor]:
        """The activation maps of images at twice their size: finer, for small ones."""
        return self.features(F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False))

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
