"""Faces of a population: latents of a generator, the directions planted in them, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stylegan_surv._images import to_pixels
from stylegan_surv._types import Floats, Pixels

if TYPE_CHECKING:
    from stylegan_surv.gan import Generator

COMPONENTS = 20  # principal components of w that the planted directions live in
POPULATION = 20_000  # latents from which the moments of w are taken


@dataclass(frozen=True)
class Plan:
    """What is planted in w.

    Attributes
    ----------
    mean, cov : array of float, shape (w_dim,) and (w_dim, w_dim)
        Moments of w in the population.
    hazard, age, other : array of float, shape (w_dim,)
        Directions whose scores ``(w − mean)·direction`` have unit variance and are not correlated. `other` is the sex
        of faces whose generator has no known direction of it.
    """

    mean: Floats
    cov: Floats
    hazard: Floats
    age: Floats
    other: Floats


def plan(generator: Generator, seed: int, truncation_psi: float) -> Plan:
    """Draw orthogonal directions in the whitened leading components of w."""
    rng = np.random.default_rng([seed, 1])
    w = sample_w(generator, POPULATION, int(rng.integers(2**31)), truncation_psi).astype(np.float64)
    mean, cov = w.mean(axis=0), np.cov(w, rowvar=False)
    values, vectors = np.linalg.eigh(cov)
    whiten = vectors[:, ::-1][:, :COMPONENTS] / np.sqrt(values[::-1][:COMPONENTS])
    q, _ = np.linalg.qr(rng.standard_normal((whiten.shape[1], 2)))
    other = rng.standard_normal(whiten.shape[1])
    other -= q @ (q.T @ other)
    return Plan(
        mean,
        cov,
        hazard=whiten @ q[:, 0],
        age=whiten @ q[:, 1],
        other=whiten @ (other / np.linalg.norm(other)),
    )


def sample_w(generator: Generator, n: int, seed: int, truncation_psi: float) -> Floats:
    """Latents w [n, w_dim] of ``n`` seeded standard-normal z."""
    z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        w: Floats = generator.mapping(z, truncation_psi=truncation_psi)[:, 0].numpy()
    return w


def draw(generator: Generator, w: Floats) -> Pixels:
    """Faces [n, R, R, 3] of latents w [n, w_dim], the same w in every layer."""
    ws = torch.from_numpy(w).float()[:, None].expand(-1, generator.config.num_ws, -1)
    with torch.no_grad():
        return to_pixels(generator.synthesis(ws))
