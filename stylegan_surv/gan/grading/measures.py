"""How good a generator is, on features that are bundled.

The features are AlexNet's (those of LPIPS), not Inception's: figures are comparable with each other, not with published
FID or KID values. Each is named for what it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv._images import quantised, to_images
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import batch_of
from stylegan_surv.gan.networks import LPIPS, Generator

FEATURE_PX = 128  # images are brought to this size: AlexNet's last maps have 7 × 7 positions there
FRECHET_DIMS = 16  # a covariance of this size needs only a few hundred images
JACKKNIFE_GROUPS = 20
W_SAMPLES = 1024  # draws of w for its mean and spread
BATCH = 32  # at 64 px
SEED = (
    20_191_203  # not a small number: a training that drew its latents from seed 0 would be measured on them
)


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    se: float


@torch.no_grad()
def sample(
    generator: Generator, n: int, *, seed: int = SEED, truncation_psi: float = 1.0, c: Tensor | None = None
) -> Tensor:
    """``n`` images [n, 3, R, R], clipped to [−1, 1] and rounded to 8 bits as a saved picture is.

    The first images are the same for every ``n``; ``c`` [n, c_dim] holds the labels of a conditional generator;
    without it the chosen one is drawn.
    """
    if generator.config.c_dim and c is None:
        if generator.label is None:
            raise InputError(
                f"this generator is conditional: give labels c of shape [{n}, {generator.config.c_dim}], or choose one "
                "of its labels"
            )
        c = generator.labels(n)
    device = generator.mapping.w_avg.device
    z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))
    parts, many = [], batch_of(BATCH, generator.config.resolution)
    for i in range(0, n, many):
        labels = None if c is None else c[i : i + many].to(device)
        w = generator.mapping(z[i : i + many].to(device), labels, truncation_psi=truncation_psi)
        parts.append(generator.synthesis(w).cpu())
    return to_images(quantised(torch.cat(parts)).movedim(-3, -1))


@torch.no_grad()
def features(images: Tensor, network: LPIPS | None = None) -> Tensor:
    """Mean activations of AlexNet's five convolutions over all positions, float64 [n, 1152].

    Activations have unit length at every position and are scaled by the root of their number of channels, so that a
    feature's root mean square is about 1.

    Parameters
    ----------
    images : Tensor, shape (n, 3, h, w)
        In [−1, 1].
    """
    network = network or LPIPS()
    device, rows = network.shift.device, []
    for part in images.split(BATCH):
        x = F.interpolate(part.to(device).float(), size=(FEATURE_PX,) * 2, mode="bilinear", antialias=True)
        rows.append(
            torch.cat([m.mean(dim=(2, 3)) * m.shape[1] ** 0.5 for m in network.features(x)], dim=1).cpu()
        )
    return torch.cat(rows).double()


def kernel_distance(a: Tensor, b: Tensor) -> Estimate:
    """Squared maximum mean discrepancy with k(x, y) = (x·y/d + 1)³, unbiased (Bińkowski et al. 2018: KID).

    Unbiased means that equal distributions give 0 on average, whatever n, and that single values can be negative.

    Parameters
    ----------
    a, b : Tensor, shape (n, d) and (m, d)
        Feature rows; n, m ≥ 2.

    Returns
    -------
    Estimate
        With the standard error of a delete-a-group jackknife over both sets.
    """
    _check(a, b, at_least=2)
    kaa, kbb, kab = (((x @ y.T) / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    kaa.fill_diagonal_(0)
    kbb.fill_diagonal_(0)

    def distance(p: Tensor, q: Tensor) -> float:
        """For sets weighted 0 or 1 by ``p`` and ``q``: pairs of different images only."""
        n, m = p.sum(), q.sum()
        within = (p @ kaa @ p) / (n * (n - 1)) + (q @ kbb @ q) / (m * (m - 1))
        return float(within - 2 * (p @ kab @ q) / (n * m))

    groups = min(JACKKNIFE_GROUPS, len(a), len(b))
    ones = torch.ones(len(a), dtype=a.dtype), torch.ones(len(b), dtype=b.dtype)
    if groups < 3:
        return Estimate(distance(*ones), float("nan"))
    kept = [[(torch.arange(len(x)) % groups != g).to(x.dtype) for x in (a, b)] for g in range(groups)]
    left_out = torch.tensor([distance(*pair) for pair in kept], dtype=torch.float64)
    return Estimate(distance(*ones), float((left_out.var(unbiased=False) * (groups - 1)).sqrt()))


def frechet_distance(real: Tensor, fake: Tensor, dims: int = FRECHET_DIMS) -> float:
    """Fréchet distance of two Gaussians fitted in the first ``dims`` principal components of ``real``.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) (Dowson & Landau 1982; FID has 2,048 dimensions and needs 50,000 images).
    Sampling makes it larger than 0 between equal distributions: compare values at equal n only.

    Parameters
    ----------
    real, fake : Tensor, shape (n, d) and (m, d)
        Feature rows; more than ``dims`` each.
    """
    _check(real, fake, at_least=dims + 1)
    basis = torch.linalg.svd(real - real.mean(dim=0), full_matrices=False).Vh[:dims].T
    a, b = real @ basis, fake @ basis
    root = _matrix_root(torch.cov(a.T))
    mixed = _matrix_root(root @ torch.cov(b.T) @ root)
    spread = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * mixed.trace()
    return float((a.mean(dim=0) - b.mean(dim=0)).square().sum() + spread)


def _matrix_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes within the real images' k-nearest-neighbour balls, and the reverse (Kynkäänniemi et al. 2019).

    Precision falls when fakes look like nothing real, recall when kinds of real images are never made.

    Parameters
    ----------
    real, fake : Tensor, shape (n, d) and (m, d)
        Feature rows; more than ``k`` each. Use n = m: both depend on it.
    """
    _check(real, fake, at_least=k + 1)

    def covered(points: Tensor, balls: Tensor) -> float:
        radius = torch.cdist(balls, balls).kthvalue(k + 1, dim=1).values  # the nearest is the point itself
        return float((torch.cdist(points, balls) <= radius).any(dim=1).double().mean())

    return covered(fake, real), covered(real, fake)


def _check(a: Tensor, b: Tensor, at_least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"feature rows have shapes {list(a.shape)} and {list(b.shape)}; expected [n, d] and [m, d]"
        )
    if min(len(a), len(b)) < at_least:
        raise InputError(
            f"there are {len(a)} and {len(b)} images; this measure needs at least {at_least} of each"
        )


@torch.no_grad()
def path_length(
    generator: Generator,
    n: int = 500,
    *,
    step: float = 1e-3,
    seed: int = SEED,
    network: LPIPS | None = None,
    c: Tensor | None = None,
) -> Estimate:
    """Perceptual path length in w: mean of LPIPS(G(lerp(t)), G(lerp(t + ε)))/ε², t uniform (Karras et al. 2019).

    Small is smooth. With LPIPS-AlexNet and ε = 10⁻³ (10⁻⁴ in the paper, where float32 begins to round).

    Parameters
    ----------
    n : int
        Paths between two random latents each; ``c`` [n, c_dim], where conditional, labels both ends.
    """
    network = network or LPIPS()
    rng = torch.Generator().manual_seed(seed)
    device = generator.mapping.w_avg.device
    z, t = torch.randn(2, n, generator.config.z_dim, generator=rng), torch.rand(n, 1, 1, generator=rng)
    c = generator.labels(n) if c is None else c
    lengths, many = [], batch_of(BATCH, generator.config.resolution)
    for i in range(0, n, many):
        labels = None if c is None else c[i : i + many].to(device)
        w0, w1 = (generator.mapping(end[i : i + many].to(device), labels) for end in z)
        at = t[i : i + many].to(device)
        here, there = (generator.synthesis(w0.lerp(w1, x)) for x in (at, at + step))
        lengths.append(network.to(device)(here, there).cpu() / step**2)
    length = torch.cat(lengths).double()
    return Estimate(float(length.mean()), float(length.std() / n**0.5))


@dataclass(frozen=True)
class Reconstruction:
    """LPIPS and mean squared error [n] of images and their reconstructions, and the latents [n, num_ws, w_dim]."""

    lpips: Tensor
    mse: Tensor
    w_plus: Tensor


def reconstruct(
    generator: Generator,
    images: Tensor,
    *,
    steps: int = 50,
    rate: float = 0.05,
    start: Tensor | None = None,
    network: LPIPS | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Invert images with a fixed budget: so many Adam steps in W+ on LPIPS + squared error, from the mean of w.

    A yardstick that is equal for all generators, not the best inversion (:func:`stylegan_surv.embed` is for that).

    Parameters
    ----------
    images : Tensor, shape (n, 3, R, R)
        In [−1, 1].
    rate : float
        Adam's learning rate in units of w's root mean square distance from its mean; falls to 0 as a cosine.
    start : Tensor, shape (n, num_ws, w_dim)
        To start from, for example an encoder's codes; ``steps=0`` measures those.
    """
    network = network or LPIPS()
    device = generator.mapping.w_avg.device
    network.to(device)
    z = torch.randn(W_SAMPLES, generator.config.z_dim, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        w = generator.mapping(z, generator.labels(len(z)))[:, 0]
    mean, scale = w.mean(dim=0), float((w - w.mean(dim=0)).square().mean().sqrt())
    found, many = [], batch_of(BATCH, generator.config.resolution)
    for i in range(0, len(images), many):
        target = images[i : i + many].to(device)
        with torch.no_grad():
            seen = network.features(target)
        w_plus = (
            mean.expand(len(target), generator.config.num_ws, -1) if start is None else start[i : i + many]
        )
        w_plus = w_plus.to(device).clone().requires_grad_(True)
        adam = torch.optim.Adam([w_plus], lr=rate * scale)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(steps, 1))
        for _ in range(steps):
            drawn = generator.synthesis(w_plus)
            loss = network.between(network.features(drawn), seen) + (drawn - target).square().mean(
                dim=(1, 2, 3)
            )
            (w_plus.grad,) = torch.autograd.grad(loss.sum(), w_plus)
            adam.step()
            fall.step()
        with torch.no_grad():
            drawn = generator.synthesis(w_plus).clamp(-1, 1)
            errors = (
                network.between(network.features(drawn), seen),
                (drawn - target).square().mean(dim=(1, 2, 3)),
            )
        found.append((*(e.cpu() for e in errors), w_plus.detach().cpu()))
        if progress:
            progress(min(i + many, len(images)), len(images))
    return Reconstruction(*(torch.cat(parts) for parts in zip(*found)))


@dataclass(frozen=True)
class Quality:
    """Measures of a generator against images that it should resemble, as they stand in a card.

    Attributes
    ----------
    kernel_distance, kernel_distance_se : float
        See :func:`kernel_distance`; on bundled AlexNet features.
    frechet_16 : float
        See :func:`frechet_distance`, first 16 principal components.
    frechet_16_floor : float
        The same between random halves of the real images: what sampling alone gives at half the n.
    precision, recall : float
        See :func:`precision_recall`, k = 3.
    path_length : float
        See :func:`path_length`.
    n : int
        Images of either kind.
    """

    kernel_distance: float
    kernel_distance_se: float
    frechet_16: float
    frechet_16_floor: float
    precision: float
    recall: float
    path_length: float
    n: int

    def as_card(self) -> dict[str, float]:
        """Plain numbers for a card, to 5 digits."""
        return {k: float(f"{v:.5g}") for k, v in asdict(self).items()}


def quality(
    generator: Generator,
    real: Tensor,
    *,
    seed: int = SEED,
    c: Tensor | None = None,
    progress: Progress | None = None,
) -> Quality:
    """All measures that need only samples: as many as there are ``real`` images [n, 3, R, R] in [−1, 1].

    Parameters
    ----------
    c : Tensor, shape (n, c_dim)
        The labels of a conditional generator's samples.
    progress : callable, optional
        Called with the number of finished parts, of 4.

    Raises
    ------
    InputError
        If there are fewer than 40 real images.
    """
    n, network, report = len(real), LPIPS(), progress or (lambda done, total: None)
    if n < 2 * (FRECHET_DIMS + 4):
        raise InputError(f"there are {n} real images; measures need at least {2 * (FRECHET_DIMS + 4)}")
    a = features(real, network)
    report(1, 4)
    b = features(sample(generator, n, seed=seed, c=c), network)
    report(2, 4)
    halves = a[torch.randperm(n, generator=torch.Generator().manual_seed(seed))].split((n + 1) // 2)
    kid, distance, floor = kernel_distance(a, b), frechet_distance(a, b), frechet_distance(*halves)
    precision, recall = precision_recall(a, b)
    report(3, 4)
    paths = min(n, 500)
    length = path_length(generator, paths, seed=seed, network=network, c=None if c is None else c[:paths])
    report(4, 4)
    return Quality(kid.value, kid.se, distance, floor, precision, recall, length.value, n)
