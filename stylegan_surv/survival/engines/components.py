"""Principal components of the latents, for models that cannot take thousands of columns."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from stylegan_surv._types import Array


def principal_components(X: Array, most: int, random_state: int) -> PCA:
    """PCA fitted on X (n, p), with `most` components or as many as there are."""
    rank = min(most, X.shape[1], len(X) - 1)
    with np.errstate(invalid="ignore"):  # the share of the variance is 0 / 0 where all patients are alike
        return PCA(rank, svd_solver="randomized", random_state=random_state).fit(X)
