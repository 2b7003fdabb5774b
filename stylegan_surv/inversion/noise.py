"""Noise maps as parameters: one vector per photograph, put into the generator without touching it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from stylegan_surv.gan import Generator

SMALLEST = 8  # px; the regulariser halves maps down to this size (Karras et al. 2020, appendix D)


class NoiseMaps:
    """The generator's noise maps, side by side in vectors [n, total]."""

    def __init__(self, generator: Generator) -> None:
        self.synthesis = generator.synthesis
        names = [name for name, _ in generator.synthesis.named_buffers() if name.endswith("noise_const")]
        self.shapes = {name: tuple(generator.synthesis.get_buffer(name).shape) for name in names}
        self.total = sum(h * w for h, w in self.shapes.values())

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Maps [n, 1, h, w] by the name of their buffer."""
        sizes = [h * w for h, w in self.shapes.values()]
        parts = flat.split(sizes, dim=1)
        return {name: part.view(-1, 1, *shape) for (name, shape), part in zip(self.shapes.items(), parts)}

    def own(self) -> Tensor:
        """The maps that the generator was trained with, [total]."""
        return torch.cat([self.synthesis.get_buffer(name).flatten() for name in self.shapes])

    def draw(self, w_plus: Tensor, flat: Tensor) -> Tensor:
        """Images of latents [n, num_ws, w_dim], each with its own maps [n, total]."""
        images: Tensor = functional_call(self.synthesis, self.split(flat), (w_plus,))
        return images

    def normalise(self, flat: Tensor) -> Tensor:
        """Every map to mean 0 and variance 1."""
        maps = [part.flatten(1) for part in self.split(flat).values()]
        centred = [part - part.mean(dim=1, keepdim=True) for part in maps]
        return torch.cat([part * part.square().mean(dim=1, keepdim=True).rsqrt() for part in centred], dim=1)

    def correlation(self, flat: Tensor) -> Tensor:
        """Squared lag-1 autocorrelations in x and y [n], summed over maps and their halvings down to 8 px.

        Noise that carries a picture is correlated with its neighbour; this is what keeps it noise.
        """
        total = flat.new_zeros(len(flat))
        for part in self.split(flat).values():
            level = part
            while True:
                for axis in (2, 3):
                    total = total + (level * level.roll(1, axis)).mean(dim=(1, 2, 3)).square()
                if level.shape[-1] <= SMALLEST:
                    break
                level = F.avg_pool2d(level, 2) * 2  # keeps the variance of white noise
        return total
