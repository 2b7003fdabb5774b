"""Sheets of images as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def grid_image(images: Tensor, columns: int = 8, scale: int = 1) -> Image.Image:
    """A sheet of images [n, 3, h, w] in [−1, 1], filled row by row, each enlarged ``scale`` times."""
    n, channels, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.ones(rows * columns, channels, h, w)
    sheet[:n] = images.detach().float().cpu()
    sheet = (
        sheet.view(rows, columns, channels, h, w)
        .permute(0, 3, 1, 4, 2)
        .reshape(rows * h, columns * w, channels)
    )
    levels = ((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    picture = Image.fromarray(levels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_grid(images: Tensor, path: Path, columns: int = 8, scale: int = 1) -> None:
    """Write `grid_image` to ``path``."""
    grid_image(images, columns, scale).save(path)
