"""Modulated convolution (StyleGAN2, section 2.2), rearranged: scale the input, convolve, scale the output.

Equation 1 scales the weights by a style, equation 3 divides them by their norm. Both factors can be taken out of the
sum, so that no weight is ever copied per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cuda_ops.convolution import conv_transpose2d, scaled_conv2d
from stylegan_surv.gan.networks.layers import EPS

LEAST_STYLE = 1e-4  # a largest style below this (fp16 has 3 digits from 6e-5 on) is not blown up to 1


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False) -> Tensor:
    """Convolve with style-scaled weights (StyleGAN2, equations 1 and 3) without forming them.

    Parameters
    ----------
    x : Tensor, shape (n, c_in, h, w)
    weight : Tensor, shape (c_out, c_in, k, k)
    style : Tensor, shape (n, c_in)
    demodulate : bool
        Divide by the norm of every output channel's scaled weights.
    up : bool
        Stride-2 transposed convolution, giving size 2h + 1; otherwise the size stays.

    Returns
    -------
    Tensor, shape (n, c_out, h, w) or (n, c_out, 2h + 1, 2w + 1)
    """
    if demodulate:
        weight, style = within_fp16(weight, style)
    w, in_scale = weight.to(x.dtype), style.to(x.dtype)
    if w.shape[2:] == (1, 1) and not demodulate:
        return _mixed_channels(x, w[:, :, 0, 0] * in_scale[:, None])
    out_scale = demodulation(weight, style) if demodulate else None
    if not up:
        return scaled_conv2d(x, w, in_scale, out_scale)
    x = conv_transpose2d(x * in_scale[:, :, None, None], w.transpose(0, 1), stride=2)
    return x if out_scale is None else x * out_scale.to(x.dtype)[:, :, None, None]


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """1/√(Σ (style·weight)² + ε), shape (n, c_out): StyleGAN2, equation 3; in single precision or better."""
    style, weight = _wide(style), _wide(weight)
    norm = style.square() @ weight.square().sum(dim=(2, 3)).t().to(style.dtype)
    return (norm + EPS).rsqrt()


def within_fp16(weight: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Where styles are in fp16, weights of norm 1 and styles of at most 1: demodulation divides by the same factors.

    fp16 ends at 65,504, which a sum over 512 × 9 products passes. Other precisions stay as they are.
    """
    if style.dtype != torch.float16:
        return weight, style
    weight, style = _wide(weight), _wide(style)
    weight = weight * weight.square().sum(dim=(1, 2, 3), keepdim=True).add(EPS).rsqrt()
    return weight, style / style.abs().amax(dim=1, keepdim=True).clamp_min(LEAST_STYLE)


def _mixed_channels(x: Tensor, mix: Tensor) -> Tensor:
    """Σ_c mix[n, o, c] · x[n, c, h, w]: with an image's few channels, less work than scaling x and a convolution."""
    return torch.bmm(mix, x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32: sums of squares and the small EPS leave its range."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
