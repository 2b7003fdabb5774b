"""Does a generator give away its training photographs? Nearest neighbours of samples, in LPIPS and in identity.

A sample that lies much closer to a training photograph than photographs of other people do is a copy. "Other people"
are held-out photographs: they were never trained on, so their distances to the training set are what chance gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu
from torch import Tensor

from stylegan_surv._types import Floats, Ints, Progress
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.identity import of_aligned
from stylegan_surv.gan.data import ImageSet, batch_of
from stylegan_surv.gan.networks import LPIPS

COMPARED_PX = 128  # larger images are shrunk to this for LPIPS
CHUNK, HELD = 256, 2048  # images at 64 px that are read at a time, and whose 32,000 numbers each are kept
MIN_HELD_OUT = 20
RECOGNISED = 16  # faces that go through the face recogniser at a time

Images = Tensor | ImageSet  # [n, 3, R, R] in [−1, 1], or as bytes in memory


def _width(images: Images) -> int:
    return images.pixels.shape[2] if isinstance(images, ImageSet) else images.shape[3]


def _split(images: Images, many: int) -> Iterator[Images]:
    for at in range(0, len(images), many):
        part = range(at, min(at + many, len(images)))
        yield images.subset(part) if isinstance(images, ImageSet) else images[part.start : part.stop]


def _chunks(images: Images) -> Iterator[Tensor]:
    """The images as floats, 256 of 64 px at a time."""
    for part in _split(images, batch_of(CHUNK, _width(images))):
        yield part.images() if isinstance(part, ImageSet) else part


@torch.no_grad()
def lpips_vectors(images: Tensor, network: LPIPS) -> Tensor:
    """Vectors [n, d] whose squared Euclidean distance is LPIPS, at 128 px or less.

    LPIPS is a sum of weighted squared differences of activations; here the weights are multiplied in.
    """
    x = images.to(network.shift.device).float()
    if x.shape[3] > COMPARED_PX:
        x = F.interpolate(x, size=(COMPARED_PX,) * 2, mode="bilinear", antialias=True)
    maps = network.features(x)
    rows = [
        m * (head / (m.shape[2] * m.shape[3])).sqrt()[:, None, None] for m, head in zip(maps, network.heads)
    ]
    return torch.cat([m.flatten(1) for m in rows], dim=1)


def lpips_distances(
    a: Images, b: Images, network: LPIPS | None = None, progress: Progress | None = None
) -> Tensor:
    """LPIPS [n, m] of all pairs of n and m images, at 128 px or less; few of them are in memory as floats."""
    network, rows, done = network or LPIPS(), [], 0
    for some in _split(a, batch_of(HELD, min(_width(a), COMPARED_PX))):
        left = torch.cat([lpips_vectors(part, network) for part in _chunks(some)])
        columns = []
        for part in _chunks(b):
            columns.append(_squared_distances(left, lpips_vectors(part, network)).cpu())
            done += len(part) * len(some)
            if progress:
                progress(done // len(a), len(b))
        rows.append(torch.cat(columns, dim=1))
    return torch.cat(rows)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    norms = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return (norms - 2 * a @ b.T).clamp_min(0)


def identity_vectors(images: Images, progress: Progress | None = None) -> Floats:
    """The face recogniser's 128 numbers of every aligned chip; people are taken for the same below a distance of 0.6.

    The chip's own geometry says where the face is, so that no sample drops out because no face is found in it.

    Parameters
    ----------
    images : Tensor or ImageSet
        Aligned as FFHQ.
    progress : callable, optional
        Called with (done, total).

    Returns
    -------
    array of float32, shape (n, 128)
    """
    rows = []
    for part in _chunks(images):
        for some in part.split(RECOGNISED):
            rows.append(of_aligned(some))
            if progress:
                progress(sum(map(len, rows)), len(images))
    return np.concatenate(rows) if rows else np.zeros((0, 128), np.float32)


@dataclass(frozen=True)
class Nearest:
    """Nearest training photographs of samples, beside those of held-out photographs.

    Attributes
    ----------
    index : array of int, shape (n,)
        Which training photograph is nearest to each sample.
    distance : array of float, shape (n,)
        How far it is.
    held_out : array of float, shape (m,)
        The same distance for held-out photographs.
    isolation, held_out_isolation : array of float, shape (n,) and (m,)
        Distance of the nearest over that of the second nearest. A copy is near *one* photograph, an average face is
        rather near to all: this tells them apart.
    """

    index: Ints
    distance: Floats
    held_out: Floats
    isolation: Floats
    held_out_isolation: Floats

    @classmethod
    def of(cls, to_samples: Floats, to_held_out: Floats) -> Nearest:
        """From distances [n, train] and [m, train]."""
        two, held = (np.sort(d.astype(float), axis=1)[:, :2] for d in (to_samples, to_held_out))
        ratios = [pair[:, 0] / np.maximum(pair[:, 1], 1e-12) for pair in (two, held)]
        return cls(to_samples.argmin(axis=1), two[:, 0], held[:, 0], *ratios)

    def summary(self) -> dict[str, float]:
        """What a card says.

        Returns
        -------
        dict
            Medians and minima; ``closer`` and ``isolated``: share of samples below the held-out photographs' 5 %
            quantile of distance and of isolation (a generator that copies nothing has about 0.05); ``p_closer``
            and ``p_isolated``: one-sided Mann–Whitney tests that samples are closer, more isolated than held-out
            photographs are.
        """
        closer = mannwhitneyu(self.distance, self.held_out, alternative="less")
        isolated = mannwhitneyu(self.isolation, self.held_out_isolation, alternative="less")
        return {
            "median": float(np.median(self.distance)),
            "held_out_median": float(np.median(self.held_out)),
            "closest": float(self.distance.min()),
            "held_out_closest": float(self.held_out.min()),
            "closer": float((self.distance < np.quantile(self.held_out, 0.05)).mean()),
            "isolated": float((self.isolation < np.quantile(self.held_out_isolation, 0.05)).mean()),
            "p_closer": float(closer.pvalue),
            "p_isolated": float(isolated.pvalue),
        }


@dataclass(frozen=True)
class Memorisation:
    """Nearest training photographs in LPIPS and, where asked for, in the face recogniser's distance."""

    lpips: Nearest
    identity: Nearest | None

    def as_card(self) -> dict[str, dict[str, float]]:
        """The summaries, rounded, for a card."""
        both = {"lpips": self.lpips, "identity": self.identity}
        return {
            name: {k: float(f"{v:.4g}") for k, v in nearest.summary().items()}
            for name, nearest in both.items()
            if nearest is not None
        }


class Guard:
    """Training and held-out photographs, measured once, beside which samples of several generators are put.

    Parameters
    ----------
    train, held_out : Tensor or ImageSet
        Images [·, 3, R, R] in [−1, 1] or as read, aligned alike.
    identity : bool
        Also by the face recogniser.
    progress : callable, optional
        Called with the number of images that are compared, by either measure; it may raise to stop.

    Raises
    ------
    InputError
        If there are fewer than 20 held-out photographs: there is nothing to compare with.
    """

    def __init__(
        self, train: Images, held_out: Images, *, identity: bool = True, progress: Progress | None = None
    ) -> None:
        if len(held_out) < MIN_HELD_OUT or len(train) < 2:
            raise InputError(
                f"there are {len(held_out)} held-out and {len(train)} training photographs; "
                f"the comparison needs at least {MIN_HELD_OUT} and 2"
            )
        self.train, self.network, self.progress = train, LPIPS(), progress
        self.held_out = lpips_distances(held_out, train, self.network, progress).numpy()
        self.vectors: Floats | None = None
        if identity:
            self.vectors = identity_vectors(train, progress)
            self.held_out_identity = _euclidean(identity_vectors(held_out, progress), self.vectors)

    def __call__(self, samples: Tensor) -> Memorisation:
        """Nearest training photographs of samples [n, 3, R, R]."""
        far = lpips_distances(samples, self.train, self.network, self.progress).numpy()
        lpips = Nearest.of(far, self.held_out)
        if self.vectors is None:
            return Memorisation(lpips, None)
        far = _euclidean(identity_vectors(samples, self.progress), self.vectors)
        return Memorisation(lpips, Nearest.of(far, self.held_out_identity))


def _euclidean(a: Floats, b: Floats) -> Floats:
    distances: Floats = torch.cdist(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return distances


def memorisation(
    samples: Tensor,
    train: Images,
    held_out: Images,
    *,
    identity: bool = True,
    progress: Progress | None = None,
) -> Memorisation:
    """Compare samples' nearest training photographs with those of held-out photographs; see :class:`Guard`."""
    return Guard(train, held_out, identity=identity, progress=progress)(samples)
