"""Codes of training chips, kept in a file: the encoder's, and those that a few steps of optimisation bring nearer.

An encoder's reconstruction is a little beside its chip, and what learns pixels from such pairs learns to blur. After
some Adam steps in W+ the pair agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from stylegan_surv._files import write_tensors
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.grading.measures import reconstruct
from stylegan_surv.gan.networks import Encoder, Generator
from stylegan_surv.gan.networks.perceptual import LPIPS

CHUNK = 32  # chips between two saves: half a minute of a core


@dataclass(frozen=True)
class Codes:
    """Codes of chips.

    Attributes
    ----------
    w : Tensor, shape (n, w_dim)
        The encoder's w, without offsets.
    w_plus : Tensor, shape (n, num_ws, w_dim)
        With the encoder's offsets, and after the optimisation if there was one.
    """

    w: Tensor
    w_plus: Tensor

    def __len__(self) -> int:
        return len(self.w)


@torch.no_grad()
def encoded(encoder: Encoder, images: Tensor) -> Codes:
    """Return the encoder's codes of images [n, 3, resolution, resolution] in [−1, 1]."""
    w, offsets = (torch.cat(part) for part in zip(*(encoder.split(part) for part in images.split(CHUNK))))
    return Codes(w, w[:, None] + offsets)


def projected(
    generator: Generator,
    start: Codes,
    images: Tensor,
    path: Path,
    *,
    steps: int,
    key: str,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Codes | None:
    """Optimise the codes of images in W+, saving after every 32 of them.

    Parameters
    ----------
    generator : Generator
    start : Codes
        Where to start from.
    images : Tensor, shape (n, 3, resolution, resolution)
        The photographs, in [−1, 1].
    path : Path
        File of the optimised codes; what is there already is not computed again.
    steps : int
        Adam steps for every image.
    key : str
        What the codes depend on besides ``steps``: images, generator and encoder.
    stop : callable
        Asked after every chunk.
    progress : callable, optional
        Called with the number of images done and their total.

    Returns
    -------
    Codes or None
        None if it was stopped; the same call goes on.

    Raises
    ------
    InputError
        If the file is of other images, networks or settings.
    """
    made = f"{key}, {steps} steps"
    found = _read(path, made) if path.exists() else start.w_plus[:0]
    network = LPIPS()
    for at in range(len(found), len(images), CHUNK):
        if stop():
            return None
        done = reconstruct(
            generator,
            images[at : at + CHUNK],
            steps=steps,
            start=start.w_plus[at : at + CHUNK],
            network=network,
        )
        found = torch.cat([found, done.w_plus])
        write_tensors(path, {"w_plus": found}, {"of": made})
        if progress is not None:
            progress(len(found), len(images))
    return Codes(start.w, found)


def _read(path: Path, made: str) -> Tensor:
    with safe_open(path, "pt") as file:
        of = (file.metadata() or {}).get("of")
        if of != made:
            raise InputError(
                f"{path} holds codes of {of}; expected {made}: give a new output folder, or delete the file"
            )
        tensor: Tensor = file.get_tensor("w_plus")
        return tensor
