"""Encoder passes: an image to W+ in one go, then corrected by what the encoder thinks of its own reconstruction."""

from __future__ import annotations

from torch import Tensor

from stylegan_surv.gan import Encoder, Generator


def encode(
    encoder: Encoder, generator: Generator, images: Tensor, passes: int = 0, step: float = 1.0
) -> Tensor:
    """W+ of images.

    Parameters
    ----------
    encoder : Encoder
    generator : Generator
    images : Tensor, shape (n, 3, resolution, resolution)
        In [−1, 1].
    passes : int
        Refinements ``w ← w + step·(E(x) − E(G(w)))``: what the encoder sees in the photograph and misses in the
        reconstruction (the residual idea of ReStyle, Alaluf et al. 2021, without a second network).
    step : float
        Length of a refinement.

    Returns
    -------
    Tensor, shape (n, num_ws, w_dim)
    """
    target: Tensor = encoder(images)
    w_plus = target
    for _ in range(passes):
        w_plus = w_plus + step * (target - encoder(generator.synthesis(w_plus)))
    return w_plus
