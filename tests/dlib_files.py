"""Writes dlib's serialised networks, so that their reader is tested without a file of dlib's."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from stylegan_surv._types import Array
from stylegan_surv.faces.dlib.cnn_detector import OVERLAP, WINDOW, CnnDetector
from stylegan_surv.faces.dlib.weights import MEAN


def integer(value: int) -> bytes:
    """Sign and number of bytes, then the magnitude."""
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value: float) -> bytes:
    """Mantissa and exponent."""
    if not math.isfinite(value):
        return integer(0) + integer(32002 if math.isnan(value) else 32000 if value > 0 else 32001)
    fraction, exponent = math.frexp(value)
    return integer(int(fraction * 2**53)) + integer(exponent - 53)


def name(text: str) -> bytes:
    """Its length, then its characters."""
    return integer(len(text)) + text.encode()


def alias(*shape: int) -> bytes:
    """A shape of four numbers."""
    return b"".join(map(integer, (1, *shape, *(1,) * (4 - len(shape)))))


def tensor(values: Array) -> bytes:
    """Four numbers of shape, then the values."""
    shape = (*values.shape, *(1,) * (4 - values.ndim)) if values.size else (0,) * 4
    return b"".join(map(integer, (2, *shape))) + values.astype("<f4").tobytes()


STATE = b"110" + tensor(np.zeros(0)) * 3


def convolution(module: nn.Conv2d) -> bytes:
    """As ``con_4``."""
    weight, bias = (p.detach().numpy().ravel() for p in (module.weight, module.bias))
    numbers = (len(bias), *module.kernel_size, *module.stride, *module.padding)
    return (
        name("con_4")
        + tensor(np.concatenate([weight, bias]))
        + b"".join(map(integer, numbers))
        + alias(*module.weight.shape)
        + alias(1, len(bias))
        + real(1.0) * 4
    )


def batch_norm(channels: int, mean: Array, variance: Array, eps: float) -> bytes:
    """As ``bn_con2`` with a factor of 1 and an offset of 0."""
    none = tensor(np.zeros(0))
    params = np.concatenate([np.ones(channels), np.zeros(channels)])
    return (
        name("bn_con2")
        + tensor(params)
        + alias(1, channels) * 2
        + none * 2
        + tensor(mean[None])
        + tensor(variance[None])
        + integer(7) * 2
        + real(1.0) * 4
        + real(eps)
    )


def detector(module: CnnDetector, mean: float = 0.0, variance: float = 1.0, eps: float = 0.0) -> bytes:
    """The whole file of a CNN detector whose batch normalisations all have these statistics."""
    layers: list[bytes] = []
    for found in module.convolutions():
        n = found.out_channels
        layers += [
            convolution(found),
            batch_norm(n, np.full(n, mean), np.full(n, variance), eps),
            name("relu_"),
        ]
    layers = layers[:-2]  # the last convolution stands alone
    head = integer(1) + name("loss_mmod_") + integer(1) + integer(WINDOW) * 2
    head += real(1.0) * 2 + real(0.5) + real(OVERLAP) + real(1.0) + real(0.5) + real(1.0)
    nested = integer(2) * (len(layers) - 1) + integer(3)
    pixels = name("input_rgb_image_pyramid") + b"".join(map(real, MEAN))
    inner = layers[0] + STATE + integer(1)
    return head + nested + pixels + inner + b"".join(layer + STATE for layer in layers[1:])
