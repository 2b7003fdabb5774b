"""What the three networks are made of: TensorFlow's convolution, the residual block, the gate; their weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

DATA = Path(__file__).parents[3] / "data"


class Conv(nn.Conv2d):
    """Convolution with TensorFlow's padding "SAME": with stride 2 the odd row and column are at the end.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel : int
        Side of the square kernel.
    stride : int
        1 or 2; the sides of the input are multiples of it.
    depthwise : bool
        One filter per channel instead of a dense one.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, groups=c_in if depthwise else 1)
        total = kernel - stride  # what is missing for an output of input / stride
        self.before, self.after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        if self.before == self.after:
            return F.conv2d(x, self.weight, self.bias, self.stride, self.before, groups=self.groups)
        padded = F.pad(x, (self.before, self.after, self.before, self.after))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class Residual(nn.Module):
    """Depthwise 3 × 3, pointwise, plus a shortcut that is max-pooled and filled up with zero channels; activated.

    Parameters
    ----------
    c_in, c_out : int
        Channels, ``c_out`` ≥ ``c_in``.
    stride : int
        1 or 2.
    activation : callable
        Makes the activation module from the number of channels.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int = 1, *, activation: Callable[[int], nn.Module] = nn.PReLU
    ) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = c_out - c_in
        self.depthwise = Conv(c_in, c_in, 3, stride, depthwise=True)
        self.pointwise = Conv(c_in, c_out, 1)
        self.activation = activation(c_out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        activated: Tensor = self.activation(shortcut + self.pointwise(self.depthwise(x)))
        return activated


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018): one factor in 0 … 1 per channel, from the channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = Conv(channels, squeezed, 1)
        self.excite = Conv(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        factors: Tensor = self.excite(self.squeeze(means).relu()).sigmoid()
        return factors


def load_weights(network: nn.Module, file: str) -> None:
    """Fill a network with the bundled weights of this file by name, as float32, fixed and ready to run."""
    with safe_open(DATA / file, framework="pt") as weights:
        state = {name: weights.get_tensor(name).float() for name in weights.keys()}  # noqa: SIM118
    network.load_state_dict(state)
    network.requires_grad_(False).eval()


def read_card(file: str) -> dict[str, Any]:
    """Card of a bundled weights file: source, SHA-256 of the source, licence, input, output."""
    with safe_open(DATA / file, framework="pt") as weights:
        card: dict[str, Any] = json.loads(weights.metadata()["card"])
    return card
