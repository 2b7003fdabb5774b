"""Turned squares cut out of a picture for the networks: batched, smooth when shrinking, with a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces.ffhq import Square

Beyond = Literal["border", "zeros"]
MARGIN = 2  # pixels of a region around the square, for the interpolation


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch's: the points of a photograph then do not depend on the number of cores, to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_picture(pixels: Pixels) -> Tensor:
    """Pixels [h, w, 3] of 0 … 255 as a picture [3, h, w] in 0 … 1."""
    return torch.from_numpy(np.array(pixels)).movedim(-1, 0).float().div(255)


def cut(picture: Tensor, squares: Sequence[Square], size: int, *, beyond: Beyond = "border") -> Tensor:
    """Cut squares out of one picture.

    Parameters
    ----------
    picture : Tensor, shape (3, h, w)
        Any range; the result has the same, and its gradient flows back.
    squares : sequence of Square
        In pixels of the picture, continuous coordinates.
    size : int
        Side of the results in pixels.
    beyond : {"border", "zeros"}
        What lies outside the picture: its nearest edge, or zeros.

    Returns
    -------
    Tensor, shape (len(squares), 3, size, size)
    """
    if not squares:
        return picture.new_zeros(0, picture.shape[0], size, size)
    return torch.stack([_cut_one(picture, square, size, beyond) for square in squares])


def _cut_one(picture: Tensor, square: Square, size: int, beyond: Beyond) -> Tensor:
    """The square's surroundings, shrunk by an area filter if the square has more pixels, then bilinear."""
    height, width = picture.shape[1:]
    limit = np.array([width, height])
    shrink = max(square.side / size, 1.0)
    around = MARGIN * shrink
    corners = square.corners()
    low = np.clip(np.floor(corners.min(axis=0) - around), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + around), low + 1, limit).astype(int)
    region = picture[None, :, low[1] : high[1], low[0] : high[0]]
    extent = high - low
    small = np.maximum(np.round(extent / shrink), 1).astype(int)
    if shrink > 1:
        shape = (int(small[1]), int(small[0]))
        region = F.interpolate(region, shape, mode="bilinear", align_corners=False, antialias=True)
    grid = (_places(square, size) - low) / extent * 2 - 1  # grid_sample's −1 … 1 from edge to edge
    at = torch.from_numpy(grid).to(region)[None]
    return F.grid_sample(region, at, mode="bilinear", padding_mode=beyond, align_corners=False)[0]


def _places(square: Square, size: int) -> Floats:
    """Where the centres of the crop's pixels lie in the picture, [size, size, 2]."""
    at = ((np.arange(size) + 0.5) / size - 0.5) * square.side
    places: Floats = square.centre + at[None, :, None] * square.axis + at[:, None, None] * square.down
    return places


def from_crop(points: Floats, square: Square, size: int) -> Floats:
    """Points (…, 2) in pixels of a crop, in pixels of the picture."""
    relative = (points / size - 0.5) * square.side
    moved: Floats = square.centre + relative @ np.stack([square.axis, square.down])
    return moved


def spread(maps: Tensor, square: Square, height: int, width: int) -> Tensor:
    """A map of a crop laid back onto the picture: zero outside the square.

    Parameters
    ----------
    maps : Tensor, shape (k, s, s)
    square : Square
        Where the crop was cut.
    height, width : int
        Of the picture.

    Returns
    -------
    Tensor, shape (k, height, width)
    """
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    offset = np.stack([x, y], axis=-1) - square.centre
    along = np.stack([offset @ square.axis, offset @ square.down], axis=-1) / (square.side / 2)
    at = torch.from_numpy(along).to(maps)[None]
    laid = F.grid_sample(maps[None], at, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return laid * (at.abs() <= 1).all(dim=-1)
