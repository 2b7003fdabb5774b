"""The classifier: the face recogniser's first blocks as they are, its last ones and a new head trained.

Transfer learning as the cancer-face study had it (a residual network with weights of another task, dropout, weight
decay, few epochs). The fixed part, the trunk, runs once per chip and copy; what it gives is kept.
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
from stylegan_surv._types import Bools, Pixels, Progress
from stylegan_surv.classify.augment import copies
from stylegan_surv.classify.logistic import fit_ridge
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.face_resnet import WIDTHS, FaceResNet, face_resnet

BATCH = 32  # chips that pass the trunk at a time
WIDTH = WIDTHS[-1][0]  # numbers of the last block
SEEN = 3  # stages whose means the head sees as well, after the stem's: all with maps of 8 × 8 places or more
MEANS = WIDTHS[0][0] + sum(width for width, _ in WIDTHS[:SEEN])
MOST_TRAINED = 4  # blocks: beyond, what is kept per copy grows from 8 to 40 kB


class Tail(nn.Module):
    """The trained part: blocks, a mean over their map, the trunk's means beside it, dropout, one output (log odds).

    A face recogniser's last layers are made not to see light and colour, in which illness shows; its first layers see
    them. The head reads both.

    Parameters
    ----------
    network : FaceResNet
        Whose last blocks are copied.
    blocks : int
        How many of them are trained, 1 … 4.
    dropout : float
        Share of the numbers before the head that are left out in training.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, network: FaceResNet, blocks: int, dropout: float) -> None:
        super().__init__()
        chosen = all_blocks(network)[-blocks:]
        self.blocks = nn.Sequential(*(copy.deepcopy(block) for block in chosen)).requires_grad_(True)
        for (
            weight
        ) in self.blocks.parameters():  # a file holds rows one after the other, and so does a resumed run
            weight.data = weight.data.contiguous()
        self.head = nn.Linear(WIDTH + MEANS, 1)
        self.dropout = dropout
        self.register_buffer("centre", torch.zeros(WIDTH + MEANS))
        self.register_buffer("spread", torch.ones(WIDTH + MEANS))

    def probe(self, maps: Tensor, means: Tensor, case: Bools) -> None:
        """Start from the logistic ridge regression on what the untrained blocks give (Kumar et al., ICLR 2022).

        Parameters
        ----------
        maps, means : Tensor
            Of the training chips; their numbers' mean and SD become the head's units.
        case : array of bool, shape (n,)
        """
        with torch.no_grad():
            parts = zip(maps.split(BATCH), means.split(BATCH))
            numbers = torch.cat([self.numbers(a.float(), b) for a, b in parts])
            self.centre.copy_(numbers.mean(dim=0))
            self.spread.copy_(numbers.std(dim=0).clamp_min(1e-4))
            z = ((numbers - self.centre) / self.spread).numpy().astype(float)
            fitted = fit_ridge(z, case, scale=False)
            self.head.weight.copy_(torch.from_numpy(fitted.coef)[None])
            self.head.bias.fill_(fitted.intercept - float(fitted.mean @ fitted.coef))

    def numbers(self, maps: Tensor, means: Tensor) -> Tensor:
        """What the head sees before scaling, shape (n, 512)."""
        return torch.cat([self.blocks(maps).mean(dim=(2, 3)), means], dim=1)

    def read(self, numbers: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log odds of the head's numbers, shape (n,); dropout is drawn from a generator where one is given."""
        z = (numbers - self.centre) / self.spread
        if generator is not None and self.dropout > 0:
            kept = torch.rand(z.shape, generator=generator) >= self.dropout
            z = z * kept / (1 - self.dropout)
        logits: Tensor = self.head(z)[:, 0]
        return logits

    def forward(self, maps: Tensor, means: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log odds, shape (n,)."""
        return self.read(self.numbers(maps, means), generator)


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
        self.trained = blocks

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps before the trained blocks and means of the first stages, of images [n, 3, 150, 150] in [−1, 1]."""
        maps = self.whole.stem(self.whole.levels(images))
        means = [maps.mean(dim=(2, 3))]
        fixed = len(all_blocks(self.whole)) - self.trained
        for k, stage in enumerate(self.whole.stages):
            for block in stage:  # type: ignore[attr-defined]
                if fixed == 0:
                    return maps, torch.cat(means, dim=1)
                maps, fixed = block(maps), fixed - 1
            if k < SEEN:
                means.append(maps.mean(dim=(2, 3)))
        return maps, torch.cat(means, dim=1)


@dataclass(frozen=True, eq=False)
class Kept:
    """What the trunk gives.

    Attributes
    ----------
    maps : Tensor of float16, shape (n, copies, channels, h, w)
        Copy 0 is the chip, copy 1 its mirror image.
    means : Tensor, shape (n, copies, 256)
        Means of the maps of the first stages.
    numbers : Tensor, shape (n, 128)
        The face recogniser's own, of the chip.
    """

    maps: Tensor
    means: Tensor
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
                return Kept(*(file.get_tensor(name) for name in ("maps", "means", "numbers")))
    trunk = Trunk(blocks)
    maps, means, numbers = [], [], []
    with torch.no_grad():
        for k, chip in enumerate(chips):
            batch = copies(to_images(chip), count, fill / 127.5 - 1, seed, k)
            found, levels = trunk(batch)
            maps.append(found.half().contiguous())
            means.append(levels)
            numbers.append(trunk.whole(batch[:1]))
            if progress:
                progress(k + 1, len(chips))
    kept = Kept(torch.stack(maps), torch.stack(means), torch.cat(numbers))
    held = {"maps": kept.maps, "means": kept.means, "numbers": kept.numbers}
    write_tensors(path, {name: tensor.contiguous() for name, tensor in held.items()}, {"of": digest})
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
