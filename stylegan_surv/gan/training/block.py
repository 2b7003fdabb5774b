"""A generator with one block more: twice the resolution, and nothing below it changes.

Codes keep their meaning: the lower blocks and the mapping are those of the base, bit for bit, so that a code's first
``base.num_ws`` rows draw the picture that they drew. Of the new block's styles the first is the base's last row; the
two rows that are added belong to detail alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stylegan_surv.errors import InputError
from stylegan_surv.gan.networks import (
    Encoder,
    Generator,
    SynthesisBlock,
    resolutions,
)
from stylegan_surv.gan.training.codes import Codes

ADDED = 2  # styles of a further block
MARGIN = 4  # pixels of the base around a window: the block's convolutions and filters see 3
MEMORY = 64  # pictures drawn at a time


def grown(base: Generator, channels: int | None, seed: int) -> Generator:
    """Add a block to a generator; as long as it is untrained, it draws the base's picture, enlarged.

    Parameters
    ----------
    base : Generator
        Of architecture ``skip``; its tensors are copied.
    channels : int or None
        Feature maps of the new block; None follows the base's rule.
    seed : int
        Of the new block's weights.

    Raises
    ------
    InputError
        If the base is of another architecture, whose top block alone draws the picture.
    """
    config = base.config
    if config.architecture != "skip" or config.top_channels is not None:
        raise InputError(
            f"the generator has architecture {config.architecture!r} and a top_channels of {config.top_channels}; "
            "expected 'skip' and none: others cannot be grown"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(replace(config, resolution=2 * config.resolution, top_channels=channels))
    block = top_block(generator)
    torch.nn.init.zeros_(block.torgb.weight)
    missing, unexpected = generator.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(f"synthesis.b{block.res}.") for name in missing)
    return generator.requires_grad_(False)


def widened(encoder: Encoder) -> Encoder:
    """The encoder for a generator that has grown: it reads what it read, and the added styles are w itself.

    Raises
    ------
    InputError
        If the encoder's last layer has another size than its shape says.
    """
    shape = encoder.shape
    wide = Encoder(replace(shape, num_ws=shape.num_ws + ADDED))
    state, rows = encoder.state_dict(), wide.state_dict()
    for name in ("b4.out.weight", "b4.out.bias"):
        level = torch.zeros_like(rows[name])
        level[: len(state[name])] = state[name]
        state[name] = level
    wide.load_state_dict(state)
    return wide.eval().requires_grad_(False)


def top_block(generator: Generator) -> SynthesisBlock:
    """The block of the highest resolution."""
    block = generator.synthesis.get_submodule(f"b{generator.config.resolution}")
    assert isinstance(block, SynthesisBlock)
    return block


def styles_of(codes: Codes) -> Tensor:
    """The new block's styles [n, 3, w_dim]: the last row of codes for the base, then w twice."""
    return torch.cat([codes.w_plus[:, -1:], codes.w[:, None].expand(-1, ADDED, -1)], dim=1)


@dataclass(frozen=True)
class Below:
    """What the new block gets: feature maps, the base's picture, and its styles.

    Attributes
    ----------
    x : Tensor, shape (n, channels, h, w)
    image : Tensor, shape (n, 3, h, w)
    styles : Tensor, shape (n, 3, w_dim)
    """

    x: Tensor
    image: Tensor
    styles: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Below:
        return Below(self.x[index], self.image[index], self.styles[index])

    def window(self, top: int, left: int, side: int) -> Below:
        """The same within a window of the base's pixels."""
        rows, columns = slice(top, top + side), slice(left, left + side)
        return Below(self.x[:, :, rows, columns], self.image[:, :, rows, columns], self.styles)


@torch.no_grad()
def below(generator: Generator, codes: Codes, dtype: torch.dtype) -> Below:
    """Draw codes with a base; feature maps and pictures are kept in ``dtype``."""
    maps, pictures = [], []
    for part in codes.w_plus.split(MEMORY):
        x: Tensor | None = None
        image: Tensor | None = None
        for k, res in enumerate(resolutions(generator.config.resolution)):
            ws = part[:, :2] if k == 0 else part[:, 2 * k - 1 : 2 * k + 2]
            x, image = generator.synthesis.get_submodule(f"b{res}")(x, image, ws, "const")
        assert x is not None
        assert image is not None
        maps.append(x.to(dtype))
        pictures.append(image.to(dtype))
    return Below(torch.cat(maps), torch.cat(pictures), styles_of(codes))


def above(block: SynthesisBlock, inputs: Below, noise_mode: Literal["const", "none"] = "none") -> Tensor:
    """The new block's picture [n, 3, 2h, 2w], float32 or wider."""
    x = inputs.x.contiguous(memory_format=torch.channels_last)
    image: Tensor = block(x, inputs.image.to(inputs.styles.dtype), inputs.styles, noise_mode)[1]
    return image


def above_window(
    block: SynthesisBlock, inputs: Below, top: int, left: int, side: int
) -> tuple[Tensor, Below]:
    """A window of the new block's picture, computed alone: that of ``above``, to rounding.

    Parameters
    ----------
    top, left, side : int
        In pixels of the base.

    Returns
    -------
    picture : Tensor, shape (n, 3, 2 side, 2 side)
    inputs : Below
        The window of the inputs that the picture lies over.
    """
    size = inputs.x.shape[2]
    first = [max(at - MARGIN, 0) for at in (top, left)]
    last = [min(at + side + MARGIN, size) for at in (top, left)]
    rows, columns = (slice(a, b) for a, b in zip(first, last))
    framed = Below(inputs.x[:, :, rows, columns], inputs.image[:, :, rows, columns], inputs.styles)
    y, x = 2 * (top - first[0]), 2 * (left - first[1])
    picture = above(block, framed)[:, :, y : y + 2 * side, x : x + 2 * side]
    return picture, inputs.window(top, left, side)
