"""The two operations on their own: resample an image, then take a gradient of a gradient through both.

Run: python examples/ops.py
"""

from __future__ import annotations

import torch

import cuda_ops


def main() -> None:
    found = cuda_ops.status()
    for device in found.devices:
        print(f"{device.device}: {device.implementation} ({device.reason})")

    taps = cuda_ops.setup_filter([1, 3, 3, 1])
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    large = cuda_ops.upsample2d(images, taps)
    again = cuda_ops.downsample2d(large, taps)
    print(f"{tuple(images.shape)} -> {tuple(large.shape)} -> {tuple(again.shape)}")

    features = cuda_ops.bias_act(large, torch.zeros(3), act="lrelu", clamp=256.0)
    (gradient,) = torch.autograd.grad(features.square().sum(), images, create_graph=True)
    penalty = gradient.square().sum()  # as R1 and path length do
    penalty.backward()
    assert images.grad is not None
    print(f"norm of the second-order gradient: {images.grad.norm():.1f}")


if __name__ == "__main__":
    main()
