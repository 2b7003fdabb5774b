"""The person matte (MediaPipe's selfie segmentation): MobileNetV3 (Howard et al., ICCV 2019) with a gated decoder."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_surv.faces.mesh.networks.layers import Conv, Gate, load_weights

FILE = "person-matte.safetensors"
SIDE = 256  # of the picture, pixels

Activation = Literal["relu", "hardswish"]


class Bottleneck(nn.Module):
    """MobileNetV3's block: widen, filter each channel, gate, narrow; with a shortcut where the shape is kept.

    Parameters
    ----------
    c_in, wide, c_out : int
        Channels before, within and after.
    kernel, stride : int
        Of the filter.
    squeezed : int
        Channels in the gate's middle; 0 means no gate.
    activation : {"relu", "hardswish"}
        After widening and after filtering.
    """

    def __init__(
        self,
        c_in: int,
        wide: int,
        c_out: int,
        kernel: int,
        stride: int,
        squeezed: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.expand = Conv(c_in, wide, 1)
        self.depthwise = Conv(wide, wide, kernel, stride, depthwise=True)
        self.gate = Gate(wide, squeezed) if squeezed else None
        self.project = Conv(wide, c_out, 1)
        self.activation = nn.ReLU() if activation == "relu" else nn.Hardswish()
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        wide = self.activation(self.depthwise(self.activation(self.expand(x))))
        if self.gate is not None:
            wide = wide * self.gate(wide)
        narrow: Tensor = self.project(wide)
        return narrow + x if self.shortcut else narrow


class Context(nn.Module):
    """What is where (1 × 1 features), scaled by what the whole picture shows (lite R-ASPP of MobileNetV3)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.local = Conv(c_in, c_out, 1)
        self.overall = Conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        overall = self.overall(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
        features: Tensor = self.local(x).relu() * overall
        return features


class Decoder(nn.Module):
    """One step up: coarse features enlarged twice, joined with gated finer ones of the encoder, and smoothed."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.narrow = Conv(c_in, c_out, 1)
        self.gate = Gate(c_out, c_out)
        self.mix = Conv(c_out, c_out, 1)
        self.smooth = Conv(c_out, c_out, 3, depthwise=True)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        up = self.narrow(enlarged)
        mixed = self.mix(fine * self.gate(fine + up) + up).relu()
        smoothed: Tensor = mixed + self.smooth(mixed).relu()
        return smoothed


class PersonMatte(nn.Module):
    """Probability of a person at every pixel of a head-and-shoulders picture; the bundled weights are loaded.

    The module has a gradient with respect to its input; its weights are fixed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 16, 3, stride=2)  # 128 × 128
        self.to_64 = Bottleneck(16, 16, 16, 3, 2, 8, "relu")
        self.to_32 = nn.Sequential(
            Bottleneck(16, 72, 24, 3, 2, 0, "relu"),
            Bottleneck(24, 88, 24, 3, 1, 0, "relu"),
        )
        self.to_16 = nn.Sequential(
            Bottleneck(24, 96, 32, 5, 2, 24, "hardswish"),
            Bottleneck(32, 128, 32, 5, 1, 32, "hardswish"),
            Bottleneck(32, 128, 32, 5, 1, 32, "hardswish"),
            Bottleneck(32, 96, 32, 5, 1, 24, "hardswish"),
            Bottleneck(32, 96, 32, 5, 1, 24, "hardswish"),
        )
        self.context = Context(32, 128)
        self.up_32 = Decoder(128, 24)
        self.up_64 = Decoder(24, 16)
        self.up_128 = Decoder(16, 16)
        self.segment = nn.ConvTranspose2d(16, 1, 2, stride=2)
        load_weights(self, FILE)

    def forward(self, pictures: Tensor) -> Tensor:
        """Matte of a batch of pictures.

        Parameters
        ----------
        pictures : Tensor, shape (n, 3, 256, 256)
            RGB in 0 … 1.

        Returns
        -------
        Tensor, shape (n, 256, 256)
            Probability of a person, 0 … 1.
        """
        at_128 = F.hardswish(self.stem(pictures))
        at_64 = self.to_64(at_128)
        at_32 = self.to_32(at_64)
        coarse = self.context(self.to_16(at_32))
        decoded = self.up_128(self.up_64(self.up_32(coarse, at_32), at_64), at_128)
        matte: Tensor = self.segment(decoded).sigmoid().squeeze(1)
        return matte
