"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv 2006.06676): transformations that do not leak.

Each transformation is drawn with probability p for every image, and otherwise left out, so that the undistorted
distribution can be told from the distorted one while p is below about 0.8 (section 3). The same class, with p = 1
and narrow ranges, is the light augmentation of training images.

The clinical default has neither hue and saturation (pallor, jaundice and cyanosis are colours) nor left–right flips
(laterality is anatomy, and one-sided palsy is a sign).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stylegan_surv.gan.training.settings import SettingsGroup

LUMA = 3**-0.5  # every component of the unit vector along grey


class Ranges(SettingsGroup):
    """How far each transformation goes; 0 leaves it out."""

    flip: bool = False
    shift: float = Field(default=0.125, ge=0, le=0.5, description="largest shift, share of the image's side")
    scale: float = Field(default=0.2, ge=0, description="standard deviation of log2 of the scale")
    rotation: float = Field(default=0.1, ge=0, le=1, description="largest rotation, in half turns")
    stretch: float = Field(default=0.2, ge=0, description="standard deviation of log2 of the aspect change")
    brightness: float = Field(default=0.2, ge=0, description="standard deviation, on the scale of [-1, 1]")
    contrast: float = Field(default=0.5, ge=0, description="standard deviation of log2 of the contrast")
    hue: float = Field(default=0.0, ge=0, le=1, description="largest turn of the hue, in half turns")
    saturation: float = Field(default=0.0, ge=0, description="standard deviation of log2 of the saturation")
    tint: float = Field(
        default=0.0, ge=0, description="standard deviation of log2 of each colour channel's gain"
    )


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """[n, r, c] of rows of scalars and [n] tensors."""
    return torch.stack(
        [torch.stack([torch.as_tensor(v).to(like).expand_as(like) for v in r], -1) for r in rows], -2
    )


def augment(images: Tensor, ranges: Ranges, p: float | Tensor = 1.0) -> Tensor:
    """Transform every image by its own random geometry and colours.

    Parameters
    ----------
    images : Tensor, shape (n, 3, h, w)
        In [−1, 1].
    ranges : Ranges
        How far each transformation goes.
    p : float or Tensor
        Probability of each transformation for each image, 0 … 1; a number or a scalar tensor.

    Returns
    -------
    Tensor, shape (n, 3, h, w)
        Differentiable in ``images``. Draws from torch's global random state.
    """
    if not isinstance(p, Tensor) and p <= 0:
        return images
    return _colours(_geometry(images, ranges, p), ranges, p)


def _drawn(value: Tensor, p: float | Tensor) -> Tensor:
    return torch.where(torch.rand_like(value) < p, value, torch.zeros_like(value))


def _geometry(images: Tensor, r: Ranges, p: float | Tensor) -> Tensor:
    n, like = len(images), images.new_zeros(len(images))
    flip = _drawn((torch.rand_like(like) < 0.5).to(like), p) if r.flip else like
    zoom = torch.exp2(_drawn(torch.randn_like(like) * r.scale, p))
    stretch = torch.exp2(_drawn(torch.randn_like(like) * r.stretch, p))
    angle = _drawn((torch.rand_like(like) * 2 - 1) * (math.pi * r.rotation), p)
    dx, dy = (_drawn((torch.rand_like(like) * 2 - 1) * (2 * r.shift), p) for _ in "xy")
    cos, sin = angle.cos(), angle.sin()
    sx, sy = (1 - 2 * flip) * zoom * stretch, zoom / stretch
    theta = _matrix([[cos * sx, -sin * sy, dx], [sin * sx, cos * sy, dy]], like)
    grid = F.affine_grid(theta, [n, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _colours(images: Tensor, r: Ranges, p: float | Tensor) -> Tensor:
    """x → C·x + b with a 3 × 3 matrix per image: contrast · saturation · hue · tint."""
    like = images.new_zeros(len(images))
    eye, grey = torch.eye(3, out=images.new_empty(3, 3)), images.new_full((3, 3), 1 / 3)
    colour = eye * torch.exp2(_drawn(torch.randn_like(like) * r.contrast, p))[:, None, None]
    if r.saturation:
        keep = torch.exp2(_drawn(torch.randn_like(like) * r.saturation, p))[:, None, None]
        colour = colour @ (grey + (eye - grey) * keep)
    if r.hue:
        colour = colour @ _turn_about_grey(_drawn((torch.rand_like(like) * 2 - 1) * (math.pi * r.hue), p))
    if r.tint:
        gains = torch.exp2(_drawn(torch.randn_like(images[:, :, 0, 0]) * r.tint, p))
        colour = colour * gains[:, None, :]
    offset = _drawn(torch.randn_like(like) * r.brightness, p)[:, None, None, None]
    return torch.einsum("nij,njhw->nihw", colour, images) + offset


def _turn_about_grey(angle: Tensor) -> Tensor:
    """Rotation [n, 3, 3] of colour space about the grey axis (Rodrigues)."""
    cos, side, rest = angle.cos(), angle.sin() * LUMA, (1 - angle.cos()) / 3
    on, up, down = cos + rest, rest - side, rest + side
    return _matrix([[on, up, down], [down, on, up], [up, down, on]], angle)


class AdaptiveP:
    """ADA's controller: raise p while the discriminator's sign on real images says that it overfits.

    ``r_t = E[sign(D(real))]`` (equation 1) is kept at ``target``; p moves by at most ``images / speed`` at a time.
    """

    def __init__(
        self, p: float = 0.0, *, target: float = 0.6, speed: float = 500_000, maximum: float = 0.8
    ) -> None:
        self.p, self.target, self.speed, self.maximum = p, target, speed, maximum

    def update(self, mean_sign: float, images: int) -> float:
        """Take the mean sign over the last ``images`` real images; return the new p."""
        step = images / self.speed
        self.p = min(max(self.p + (step if mean_sign > self.target else -step), 0.0), self.maximum)
        return self.p
