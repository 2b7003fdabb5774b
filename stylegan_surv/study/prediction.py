"""Risks of new patients by a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.inversion.origin import Origin, check_comparable
from stylegan_surv.study.data import check_columns, named_as_embedded
from stylegan_surv.survival.design import patient_matrix
from stylegan_surv.survival.engines.persist import MODEL, ModelCard, load_model, read_model_card
from stylegan_surv.survival.engines.prognosis import WHICH, Which

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.inversion import Latents


def predict(
    model_dir: str | Path,
    latents: Latents,
    which: Which = "photo",
    cohort: Cohort | None = None,
    *,
    other_networks: bool = False,
) -> pd.DataFrame:
    """Risk scores and survival probabilities of a saved model for the patients of ``latents``.

    With a cohort, the photographs of a patient's index date are averaged in W+, as they are when the model is fitted;
    without one, all photographs of a patient.

    Parameters
    ----------
    model_dir : str or Path
        The folder ``model`` of a study.
    latents : Latents
    which : {"photo", "clinical", "both"}
        What the model is told of a patient.
    cohort : Cohort, optional
        The patients' clinical table; needed for "clinical" and "both".
    other_networks : bool
        Score latents of another generator or encoder than the model's all the same.

    Returns
    -------
    DataFrame
        ``patient_id, n_photos, risk`` (high is worse) and a column ``S(t)`` for each horizon of the study, in the
        model's time unit: P(no event by t), where deaths compete one less the cumulative incidence.

    Raises
    ------
    InputError
        The folder holds no such model, its latents have another shape, or a column that it needs is not in the table;
        :class:`Refused` if they are of other networks.
    """
    model, card = load_model(folder_of(model_dir, which))
    if not other_networks and {"num_ws", "w_dim"} <= card.latents.keys():
        check_comparable(Origin.from_metadata(card.latents, f"{model_dir}/card.json"), latents.origin)
    ids, counts, x = _patients(latents, cohort)
    expected = card.n_features or x.shape[1]
    if x.shape[1] != expected:
        raise InputError(
            f"the latents have {x.shape[1]} numbers per patient and the model expects {expected}; "
            "embed the photographs with the generator that the model was fitted with"
        )
    clinical = None if which == "photo" else _clinical(card, cohort, ids, which)
    table = pd.DataFrame({"patient_id": ids, "n_photos": counts, "risk": model.predict(x, clinical)})
    horizons = card.horizons
    curves = np.empty((len(x), 0))
    if horizons:
        curves = np.asarray(model.predict_survival_function(x, horizons, clinical))
    return table.assign(**{f"S({t:g})": curves[:, k] for k, t in enumerate(horizons)})


def models_in(model_dir: str | Path) -> list[Which]:
    """Which models a study's folder ``model`` holds."""
    return [which for which in WHICH if (Path(model_dir) / which / MODEL).is_file()]


def folder_of(model_dir: str | Path, which: Which) -> Path:
    """Where one of the models is kept."""
    have = models_in(model_dir)
    if not have:
        read_model_card(model_dir)  # a folder that is no model at all says so itself
    if which not in have:
        raise InputError(
            f"{model_dir} holds no model '{which}', only {', '.join(have) or 'none that predicts'}. A study that is "
            "fitted with --clinical has clinical, photo and both."
        )
    return Path(model_dir) / which


def _patients(latents: Latents, cohort: Cohort | None) -> tuple[list[str], list[int], Floats]:
    """Names, numbers of photographs and mean latents of the patients."""
    if cohort is not None:
        named = named_as_embedded(cohort, latents)
        ids, x = patient_matrix(latents, named)
        photos = named.index_photos()
        counts = photos[photos["photo_id"].isin(set(latents.ids))].groupby("patient_id").size()
        return [str(p) for p in ids], [int(counts[p]) for p in ids], x
    sums = pd.DataFrame(latents.codes.reshape(len(latents), -1)).groupby(latents.patient_ids, sort=False)
    return [str(p) for p in sums.groups], sums.size().tolist(), sums.mean().to_numpy(np.float32)


def _clinical(card: ModelCard, cohort: Cohort | None, ids: list[str], which: Which) -> pd.DataFrame:
    if cohort is None:
        raise InputError(
            f"the model '{which}' needs the clinical columns {', '.join(card.clinical)}. Give the table:",
            python="cohort=read_cohort('clinical.csv').",
            command="--cohort clinical.csv.",
        )
    check_columns(cohort, card.clinical)
    return cohort.patients.set_index("patient_id").loc[ids, card.clinical].reset_index(drop=True)
