"""The Gaussian of codes, and a mapping that is fitted to it by optimal transport."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stylegan_surv.gan.networks import Mapping, unit_rms

ROOT_STEPS = 20  # of Newton and Schulz
BETAS = (0.9, 0.99)  # Adam's, of the regression


def symmetric_root(matrix: Tensor) -> Tensor:
    """Square root of a symmetric matrix [d, d] without negative eigenvalues."""
    if matrix.device.type != "cpu":  # where an eigenvalue solver waits for the host
        return root_by_products(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def root_by_products(matrix: Tensor) -> Tensor:
    """The square root by Newton and Schulz's iteration (Higham 2008, *Functions of Matrices*, equation 6.35).

    The relative error is about 1e-5 for condition numbers up to a million.
    """
    size, eye = matrix.norm(), torch.eye(len(matrix), device=matrix.device, dtype=matrix.dtype)
    root, inverse = matrix / size, eye
    for _ in range(ROOT_STEPS):
        step = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    scaled: Tensor = root * size.sqrt()
    return scaled


class Gaussian(NamedTuple):
    """N(mean, root²) fitted to codes; z → mean + root·z is the optimal transport from N(0, 1) (Peyré & Cuturi 2.31)."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> Gaussian:
        """Moments of codes [n, w_dim]; ``root`` is the symmetric square root of their covariance."""
        mean = codes.mean(dim=0)
        around = codes - mean
        return cls(mean, symmetric_root(around.T @ around / (len(codes) - 1)))

    def transport(self, z: Tensor) -> Tensor:
        """The code [n, w_dim] that belongs to z [n, w_dim], scaled as the mapping scales it."""
        return self.mean + unit_rms(z) @ self.root


def fit_mapping(mapping: Mapping, codes: Tensor, steps: int, rate: float = 2.0, batch: int = 512) -> float:
    """Regress a mapping on the optimal transport to the codes' Gaussian.

    A few seconds of this replace hours in which a mapping follows codes by its own gradients. Latents are drawn from
    torch's global stream.

    Parameters
    ----------
    mapping : Mapping
        Is changed in place, ``w_avg`` too; its z has as many dimensions as its w.
    codes : Tensor, shape (n, w_dim)
    steps : int
    rate : float
        Adam's learning rate at first; it falls to 0 along a line.
    batch : int
        Latents of one step.

    Returns
    -------
    float
        The mean squared error that is left.
    """
    gaussian, adam = Gaussian.of(codes), torch.optim.Adam(mapping.parameters(), betas=BETAS)
    error = torch.zeros(())
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        z = torch.randn(batch, mapping.z_dim, device=codes.device, dtype=codes.dtype)
        error = (mapping(z)[:, 0] - gaussian.transport(z)).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
    mapping.zero_grad()
    with torch.no_grad():
        mapping.w_avg.copy_(gaussian.mean)
    return float(error.detach())
