"""What is linear in w of an encoder's offsets belongs into the generator: then w alone draws it, and so do samples.

An encoder that is trained after its generator can answer the generator's faults with offsets that are much the same
function of w for every photograph. Samples have no offsets, and show the faults. With w_plus[l] ≈ w·M[l] + b[l], the
layer's style is still an affine function of w: M and b go into the affine layers, and the encoder gives what is left.
No image that encoder and generator make together changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stylegan_surv.gan.networks import Encoder, FullyConnected, Generator, resolutions


@dataclass(frozen=True)
class LinearOffsets:
    """w_plus[l] ≈ w·matrix[l] + bias[l].

    Attributes
    ----------
    matrix : Tensor, shape (num_ws, w_dim, w_dim)
        In float64.
    bias : Tensor, shape (num_ws, w_dim)
        In float64.
    explained : float
        Share of the offsets' mean square that this is.
    """

    matrix: Tensor
    bias: Tensor
    explained: float

    @classmethod
    @torch.no_grad()
    def of(cls, w: Tensor, offsets: Tensor, ridge: float) -> LinearOffsets:
        """Regress offsets [n, num_ws, w_dim] on w [n, w_dim]; ``ridge`` is added to w's variances."""
        w, offsets = w.double(), offsets.double()
        mean, around = w.mean(dim=0), w - w.mean(dim=0)
        size = w.shape[1]
        eye = torch.eye(size, dtype=w.dtype, device=w.device)
        covariance = around.T @ around / len(w) + ridge * eye
        slopes = torch.linalg.solve(covariance, around.T @ offsets.flatten(1) / len(w))
        level = offsets.mean(dim=0)
        left = offsets - level - (around @ slopes).view_as(offsets)
        matrix = slopes.view(size, -1, size).transpose(0, 1)
        bias = level - torch.einsum("i,lij->lj", mean, matrix)
        total = float(offsets.square().sum())
        return cls(eye + matrix, bias, 1 - float(left.square().sum()) / total if total else 0.0)

    @torch.no_grad()
    def fold(self, generator: Generator) -> None:
        """Change the generator: from w it draws what it drew from w·matrix[l] + bias[l]."""
        for layer, affine in _affine_layers(generator):
            weight = affine.weight.double()
            affine.bias.add_((weight @ self.bias[layer]) / weight.shape[1] ** 0.5)
            affine.weight.copy_(weight @ self.matrix[layer].T)

    @torch.no_grad()
    def unfold(self, encoder: Encoder) -> None:
        """Change the encoder's offsets: with the folded generator they draw what they drew before."""
        out, size = encoder.b4.out, encoder.shape.w_dim
        w_weight, w_bias = out.weight[:size].double(), out.bias[:size].double()
        for layer, (matrix, bias) in enumerate(zip(self.matrix, self.bias)):
            rows = slice(size * (1 + layer), size * (2 + layer))
            weight = torch.linalg.solve(matrix.T, out.weight[rows].double() + w_weight)
            level = torch.linalg.solve(matrix.T, out.bias[rows].double() + w_bias - bias)
            out.weight[rows] = (weight - w_weight).to(out.weight.dtype)
            out.bias[rows] = (level - w_bias).to(out.bias.dtype)


def _affine_layers(generator: Generator) -> Iterator[tuple[int, FullyConnected]]:
    """Every affine layer with the number of its style."""
    for k, res in enumerate(resolutions(generator.config.resolution)):
        block = generator.synthesis.get_submodule(f"b{res}")
        names = ("conv1", "torgb") if k == 0 else ("conv0", "conv1", "torgb")
        first = max(0, 2 * k - 1)
        for at, name in enumerate(names):
            if hasattr(block, name):
                affine = block.get_submodule(f"{name}.affine")
                assert isinstance(affine, FullyConnected)
                yield first + at, affine
