"""The classifier: the face recogniser's first blocks as they are, its last ones and a new head trained.

Transfer learning as the cancer-face study had it (a residual network with weights of another task, dropout, weight decay,
few epochs). The fixed part, the trunk, runs once per chip and copy; what it gives is kept.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from stylegan_surv._files import write_tensors
from stylegan_surv._images import to_images
from stylegan_surv._types import Pixels, Progress
from stylegan_surv.classify.augment import copies
from stylegan_surv.errors import InputError
from stylegan_surv.faces.face_resnet import WIDTHS, FaceResNet, face_resnet

BATCH = 32  # chips that pass the trunk at a time
WIDTH = WIDTHS[-1][0]  # numbers that the head sees
BLOCKS = sum(blocks for _, blocks in WIDTHS)
MOST_TRAINED = 4  # blocks: beyond, what is kept per copy grows from 8 to 40 kB


class Tail(nn.Module):
    """The trained part: blocks, a mean over the map, dropout, one linear output (log odds).

    Parameters
    ----------
    network : FaceResNet
        Whose last blocks are copied.
    blocks : int
        How many of them are trained, 1 … 4.
    dropout : float
        Share of the numbers before the head that are left out in training.
    generator : torch.Generator
        Draws the head's first weights.
    """

    def __init__(self, network: FaceResNet, blocks: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        chosen = all_blocks(network)[-blocks:]
        self.blocks = nn.Sequential(*(copy.deepcopy(block) for block in chosen)).requires_grad_(True)
        for weight in self.blocks.parameters():  # a file holds rows one after the other, and so does a resumed run
            weight.data = weight.data.contiguous()
        self.head = nn.Linear(WIDTH, 1)
        self.dropout = dropout
        with torch.no_grad():
            self.head.weight.normal_(0, WIDTH**-0.5, generator=generator)
            self.head.bias.zero_()
        self.register_buffer("centre", torch.zeros(WIDTH))
        self.register_buffer("spread", torch.ones(WIDTH))

    centre: Tensor
    spread: Tensor

    def normalise(self, maps: Tensor) -> None:
        """Take the numbers' mean and SD over the training chips, before training, as the head's units."""
        with torch.no_grad():
            numbers = torch.cat([self.numbers(part) for part in maps.split(BATCH)])
            self.centre.copy_(numbers.mean(dim=0))
            self.spread.copy_(numbers.std(dim=0).clamp_min(1e-4))

    def numbers(self, maps: Tensor) -> Tensor:
        """What the head sees before scaling, shape (n, 256)."""
        found: Tensor = self.blocks(maps).mean(dim=(2, 3))
        return found

    def forward(self, maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log odds of trunk maps, shape (n,); dropout is drawn from a generator where one is given."""
        z = (self.numbers(maps) - self.centre) / self.spread
        if generator is not None and self.dropout > 0:
            kept = torch.rand(z.shape, generator=generator) >= self.dropout
            z = z * kept / (1 - self.dropout)
        logits: Tensor = self.head(z)[:, 0]
        return logits


def all_blocks(network: FaceResNet) -> list[nn.Module]:
    """The residual blocks in their order."""
    return [block for stage in network.stages for block in stage]  # type: ignore[attr-defined]


class Trunk(nn.Module):
    """The part of the face recogniser that stays as it is.

    Parameters
    ----------
    blocks : int
        How many blocks at the end are left to :class:`Tail`.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        if not 1 <= blocks <= MOST_TRAINED:
            raise InputError(f"{blocks} blocks are to be trained; expected 1 … {MOST_TRAINED}.")
        self.whole = face_resnet()
        self.first = nn.Sequential(*all_blocks(self.whole)[:-blocks])

    def forward(self, images: Tensor) -> Tensor:
        """Maps before the trained blocks, of images [n, 3, 150, 150] in [−1, 1]."""
        maps: Tensor = self.first(self.whole.stem(self.whole.levels(images)))
        return maps


@dataclass(frozen=True, eq=False)
class Kept:
    """What the trunk gives.

    Attributes
    ----------
    maps : Tensor of float16, shape (n, copies, channels, h, w)
        Copy 0 is the chip, copy 1 its mirror image.
    numbers : Tensor, shape (n, 128)
        The face recogniser's own, of the chip.
    """

    maps: Tensor
    numbers: Tensor


def keep_trunk(
    chips: Pixels,
    path: Path,
    *,
    blocks: int,
    count: int,
    fill: int,
    seed: int,
    progress: Progress | None = None,
) -> Kept:
    """Run the trunk over the chips and their copies, or read what an earlier run with the same chips has kept.

    Parameters
    ----------
    chips : array of uint8, shape (n, 150, 150, 3)
    path : Path
        Where it is kept.
    blocks, count : int
        Blocks left to train, and copies of every chip.
    fill : int
        Level behind the faces, 0 … 255.
    seed : int
        Of the copies.
    progress : callable, optional
        Called with (done, total).
    """
    digest = hashlib.sha256(chips.tobytes() + f"{blocks} {count} {fill} {seed}".encode()).hexdigest()
    if path.exists():
        with safe_open(path, "pt") as file:
            if file.metadata().get("of") == digest:
                return Kept(file.get_tensor("maps"), file.get_tensor("numbers"))
    trunk, maps, numbers = Trunk(blocks), [], []
    with torch.no_grad():
        for k, chip in enumerate(chips):
            batch = copies(to_images(chip), count, fill / 127.5 - 1, seed, k)
            maps.append(trunk(batch).half())
            numbers.append(trunk.whole(batch[:1]))
            if progress:
                progress(k + 1, len(chips))
    kept = Kept(torch.stack(maps).contiguous(), torch.cat(numbers).contiguous())
    write_tensors(path, {"maps": kept.maps, "numbers": kept.numbers}, {"of": digest})
    return kept


def assembled(tail: Tail) -> FaceResNet:
    """The whole network with the trained blocks in their places, for explanations; the head is the tail's own."""
    network = face_resnet()
    places = all_blocks(network)[-len(tail.blocks) :]
    for place, block in zip(places, tail.blocks):
        place.load_state_dict(block.state_dict())
    return network


def parameters(tail: Tail) -> Iterator[nn.Parameter]:
    """The trained weights."""
    return (p for p in tail.parameters() if p.requires_grad)
