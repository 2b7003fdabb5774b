"""Ridge-penalised Cox regression on the design matrix itself, for more patients than a Gram matrix is good for.

Each step is one product with X and one with X'; X stays as it is (float32, not copied, not centred): ``X_c v =
X v - (mean'v)``. The preconditioner's directions are the right singular vectors of a randomised decomposition
(Halko, Martinsson & Tropp 2011, SIAM Review 53:217).
"""

from __future__ import annotations

import numpy as np

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.newton import RANK, ritz

SMALL = 64 * 2**20  # bytes of X below which float64 costs nothing worth saving


class Products:
    """X v and X'g on the CPU (device None: numpy) or on a torch device, where X is then kept."""

    def __init__(self, X: Array, device: str | None = None) -> None:
        if X.nbytes < SMALL:
            X = X.astype(np.float64)
        self.X, self.device = X, device
        self.shape, self.dtype = X.shape, X.dtype
        if device is not None:
            import torch

            self.tensor = torch.as_tensor(X).to(device)

    def dot(self, v: Array) -> Array:
        """X v, float64."""
        return self._times(v, transpose=False)

    def tdot(self, g: Array) -> Array:
        """X'g, float64."""
        return self._times(g, transpose=True)

    def _times(self, v: Array, transpose: bool) -> Array:
        v = np.ascontiguousarray(v, dtype=self.dtype)
        if self.device is None:
            return np.asarray((self.X.T if transpose else self.X) @ v, np.float64)
        import torch

        X = self.tensor.T if transpose else self.tensor
        return np.asarray((X @ torch.from_numpy(v).to(self.device)).cpu().numpy(), np.float64)


class PrimalProblem:
    """Coordinates t (p,) with coefficients b = scale * t and the Euclidean metric; see `_newton.Problem`.

    Parameters
    ----------
    X : Products
    mean : array, shape (p,)
    scale : array, shape (p,)
        ``(alpha / alpha_g) ** 0.5`` for the columns of group g, 0 for those outside the penalty.
    C : array, shape (n, q)
        As for GramProblem.
    light : float
        As for GramProblem.
    """

    def __init__(self, X: Products, mean: Array, scale: Array, C: Array, light: float = 0.0) -> None:
        self.X, self.mean, self.scale, self.C, self.light = X, mean, scale, C, light
        self.floor = 1e-13 if X.dtype == np.float64 else 1e-6
        self.zero = np.zeros(X.shape[1])
        n, p = X.shape
        rank = max(min(RANK, n - 1, int(np.count_nonzero(scale))), 1)
        guess = np.random.default_rng(0).standard_normal((p, rank))
        Q = np.linalg.qr(self.forward(guess))[0]
        V = np.linalg.qr(self.pull(Q))[0]
        self.lift, self.image, self.values = ritz(V, self.forward(V), np.eye(V.shape[1]))
        self.total = self._total()
        left_over = max(self.total - float(self.values.sum()), 0.0)
        self.rest = left_over / max(min(n - 1, int(np.count_nonzero(scale))) - len(self.values), 1)

    def _total(self) -> float:
        """Sum of squares of the centred, scaled matrix."""
        X = self.X.X
        squares = np.einsum("ij,ij->j", X, X).astype(np.float64) - len(X) * self.mean**2
        return float(self.scale**2 @ squares)

    def forward(self, t: Array) -> Array:
        scaled = (self.scale * t.T).T
        image: Array = self.X.dot(scaled) - self.mean @ scaled
        return image

    def pull(self, g: Array) -> Array:
        centred = self.X.tdot(g) - np.multiply.outer(self.mean, g.sum(axis=0))
        scaled: Array = (self.scale * centred.T).T
        return scaled

    def inner(self, s: Array, t: Array, image: Array) -> float:
        return float(s @ t)

    def along(self, t: Array) -> Array:
        components: Array = self.lift.T @ t
        return components
