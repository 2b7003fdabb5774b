"""Risks of new patients by a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stylegan_surv.errors import InputError
from stylegan_surv.inversion.origin import Origin, check_comparable
from stylegan_surv.survival.engines.persist import load_model

if TYPE_CHECKING:
    from stylegan_surv.inversion import Latents


def predict(model_dir: str | Path, latents: Latents, *, other_networks: bool = False) -> pd.DataFrame:
    """Risk scores and survival probabilities of a saved model for the patients of ``latents``.

    All photographs of a patient are averaged in W+, as they are when the model is fitted.

    Parameters
    ----------
    model_dir : str or Path
        The folder ``model`` of a study.
    latents : Latents
    other_networks : bool
        Score latents of another generator or encoder than the model's all the same.

    Returns
    -------
    DataFrame
        ``patient_id, n_photos, risk`` (high is worse) and a column ``S(t)`` for each horizon of the study.

    Raises
    ------
    InputError
        The folder holds no model, or its latents have another shape; :class:`Refused` if they are of other networks.
    """
    model, card = load_model(model_dir)
    if not other_networks and {"num_ws", "w_dim"} <= card.latents.keys():
        check_comparable(Origin.from_metadata(card.latents, f"{model_dir}/card.json"), latents.origin)
    sums = pd.DataFrame(latents.codes.reshape(len(latents), -1)).groupby(latents.patient_ids, sort=False)
    x = sums.mean().to_numpy(np.float32)
    expected = card.n_features or x.shape[1]
    if x.shape[1] != expected:
        raise InputError(
            f"the latents have {x.shape[1]} numbers per patient and the model expects {expected}; "
            "embed the photographs with the generator that the model was fitted with"
        )
    table = pd.DataFrame(
        {"patient_id": list(sums.groups), "n_photos": sums.size().to_numpy(), "risk": model.predict(x)}
    )
    horizons = card.horizons
    curves = np.asarray(model.predict_survival_function(x, horizons)) if horizons else np.empty((len(x), 0))
    return table.assign(**{f"S({t:g})": curves[:, k] for k, t in enumerate(horizons)})
