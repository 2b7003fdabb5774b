"""Principal components of the latents, for models that cannot take thousands of columns."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from stylegan_surv._types import Array
from stylegan_surv.errors import InputError


def principal_components(X: Array, most: int, random_state: int) -> PCA:
    """PCA fitted on X, shape (n, p), with `most` components or as many as there are.

    Raises
    ------
    InputError
        There are fewer than two rows.
    """
    if len(X) < 2:
        raise InputError(f"X: n_samples = {len(X)}; principal components need at least 2 patients.")
    rank = min(most, X.shape[1], len(X) - 1)
    with np.errstate(invalid="ignore"):  # the share of the variance is 0 / 0 where all patients are alike
        return PCA(rank, svd_solver="randomized", random_state=random_state).fit(X)
