"""The person matte on photographs: the whole picture, and once more, finer, head and shoulders."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.mesh.networks.matte import SIDE, PersonMatte
from stylegan_surv.faces.mesh.sampling import cut, spread

WIDE = 2.2  # side of the head-and-shoulders crop over that of the mesh's crop
CLOSE = 1.3  # a whole picture that is at most this much wider is read once only
FEATHER = 0.1  # of the crop's side: where the fine matte fades into the coarse one


@lru_cache(maxsize=1)
def matte_network() -> PersonMatte:
    """The network on the CPU, loaded once per process."""
    return PersonMatte().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def person_matte(picture: Tensor, crop: Square) -> Floats:
    """Probability of a person at every pixel of a photograph.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        RGB in 0 … 1.
    crop : Square
        The mesh's crop of the face: it tells which way is up and where head and shoulders are.

    Returns
    -------
    array of float, shape (h, w)
        0 … 1.
    """
    height, width = picture.shape[1:]
    whole = _whole(height, width, crop.axis)
    wide = Square(crop.centre, crop.axis, WIDE * crop.side)
    squares = [whole] if whole.side <= CLOSE * wide.side else [whole, wide]
    with torch.no_grad():
        crops = cut(picture, squares, SIDE)
        mattes = matte_network().to(crops.device)(crops)
        result = spread(mattes[:1], squares[0], height, width)[0]
        if len(squares) == 2:
            faded = torch.stack([mattes[1], _feather(mattes[1])])
            fine, weight = spread(faded, wide, height, width)
            result = fine * weight + result * (1 - weight)
    return np.asarray(result.cpu().numpy(), dtype=float)


def _whole(height: int, width: int, axis: Floats) -> Square:
    """The smallest square along this axis that holds the whole picture."""
    across, down = np.abs(axis) @ (width, height), np.abs(axis) @ (height, width)
    middle = np.array([width / 2, height / 2])
    return Square(middle, np.asarray(axis, dtype=float), float(max(across, down)))


def _feather(like: Tensor) -> Tensor:
    """1 in the middle of a square map, falling to 0 at its edge."""
    side = like.shape[-1]
    at = torch.linspace(0, 1, side, device=like.device, dtype=like.dtype)
    edge = torch.minimum(at, 1 - at).div(FEATHER).clamp(max=1)
    return torch.minimum(edge[:, None], edge[None, :])
