"""Sheets of images as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from stylegan_surv._files import whole
from stylegan_surv._images import to_pixels

WHITE = 255  # of places on a sheet that have no image


def grid_image(images: Tensor, columns: int = 8, scale: int = 1) -> Image.Image:
    """A sheet of images, filled row by row.

    Parameters
    ----------
    images : Tensor, shape (n, 3, h, w)
        In [−1, 1].
    columns : int
        Images of a row.
    scale : int
        By how much each is enlarged.

    Returns
    -------
    Image
    """
    pixels = to_pixels(images.float())
    n, h, w, channels = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * columns, h, w, channels), WHITE, np.uint8)
    sheet[:n] = pixels
    sheet = sheet.reshape(rows, columns, h, w, channels).swapaxes(1, 2)
    picture = Image.fromarray(sheet.reshape(rows * h, columns * w, channels))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_grid(images: Tensor, path: Path, columns: int = 8, scale: int = 1) -> None:
    """Write `grid_image` to ``path``, a PNG file."""
    with whole(path, flush=False) as partial:
        grid_image(images, columns, scale).save(partial, format="PNG")
