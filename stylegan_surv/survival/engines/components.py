"""Principal components of the latents, for models that cannot take thousands of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA


def principal_components(X: npt.NDArray[Any], most: int, random_state: int) -> PCA:
    """PCA fitted on X (n, p), with `most` components or as many as there are."""
    rank = min(most, X.shape[1], len(X) - 1)
    with np.errstate(invalid="ignore"):  # the share of the variance is 0 / 0 where all patients are alike
        return PCA(rank, svd_solver="randomized", random_state=random_state).fit(X)
