"""The model on all patients: for use on new ones, with the health attribute that it holds."""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from stylegan_surv.attribute import HealthAttribute
from stylegan_surv.attribute.direction import attribute_of, shown_given
from stylegan_surv.audit.judged import Judged
from stylegan_surv.errors import InputError
from stylegan_surv.study.data import StudyData
from stylegan_surv.study.page import PageData
from stylegan_surv.study.settings import MODELS, StudySettings
from stylegan_surv.survival.engines.prognosis import WHICH, Prognosis, Which
from stylegan_surv.survival.engines.registry import make_model
from stylegan_surv.survival.metrics.curves import Curves
from stylegan_surv.survival.outcome import Outcome

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.inversion import Latents

STRIP_STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # SD of risk


@dataclass(frozen=True)
class AttributeSection:
    """What ``metrics.json`` holds of the health attribute.

    Attributes
    ----------
    split_half : dict of float
        Cosine between the directions learnt on two halves of the patients, by kind.
    risk_sd : float
        SD of the risk score in the cohort.
    nuisance : dict of dict of float
        Cosine with the generator's nuisance directions, ``{cosine, null_95}`` by name; empty where it has none.
    """

    split_half: Mapping[str, float]
    risk_sd: float
    nuisance: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class FinalModel:
    """The model fitted on all patients.

    Attributes
    ----------
    model : scikit-learn estimator
    attribute : HealthAttribute
    section : AttributeSection
    page : PageData
        What a new patient's risk is shown beside.
    prognoses : dict of Prognosis
        The models that travel, by what they are told of a patient ("clinical", "photo", "both").
    training : dict
        ``salt`` and ``patients``, keyed hashes of those whom they were fitted on.
    face : SyntheticFace or None
        Along the attribute; None where the generator is not at hand, or the model does not rank better than chance.
    """

    model: Any
    attribute: HealthAttribute
    section: AttributeSection
    page: PageData
    prognoses: Mapping[str, Prognosis]
    training: Mapping[str, Any]
    face: SyntheticFace | None


def fit(
    latents: Latents,
    cohort: Cohort,
    model: str = MODELS[0],
    *,
    strata: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """Fit one survival model on all patients, for use on new ones; its performance is ``evaluate``'s to tell.

    Parameters
    ----------
    latents : Latents
        Photographs in W+; the index photographs of a patient are averaged.
    cohort : Cohort
    model : str
        Name as in :func:`stylegan_surv.survival.make_model`.
    strata : str, optional
        A column or ``column:width``; each level gets its own baseline hazard (Cox models).
    parameters : mapping, optional
        Parameters of the estimator, instead of its defaults: ``{"alphas": (10.0,)}``.

    Returns
    -------
    scikit-learn estimator
        With ``predict(X)`` (risk score, high is worse) and ``predict_survival_function(X, times)``.
    """
    data = StudyData.prepare(latents, cohort, settings=StudySettings(strata=strata))
    return fit_all(data, model, data.stratified, parameters)


def fit_all(
    data: StudyData, model: str, outcome: Outcome, parameters: Mapping[str, Any] | None = None
) -> Any:
    """A model of all patients of `data`."""
    outcome.require_events(2, "fitting a survival model")
    estimator = make_model(model, *data.shape).set_params(**(parameters or {}))
    return estimator.fit(data.x, outcome.y, **outcome.fit_params)


def finish(data: StudyData, name: str, judged: Judged, curves: Curves, *, drawn: bool = True) -> FinalModel:
    """Fit the study's main model on all patients, and derive what is kept with it.

    Parameters
    ----------
    data : StudyData
    name : str
        Of the model.
    judged : Judged
        The cross-validated patients, whose risks and folds say what is usual.
    curves : Curves
        Of the cross-validation.
    drawn : bool
        Draw the attribute; not where the model does not rank better than chance: the picture would show nothing.
    """
    model = fit_all(data, name, data.outcome)
    given = shown_given(data.table)
    attribute = attribute_of(model, data.x, data.outcome, data.shape, given, data.latents)
    section = AttributeSection(attribute.split_half, attribute.risk_sd, nuisance_cosines(model, data))
    page = PageData.of(model, data, judged, curves)
    prognoses = prognoses_of(data, name, model, judged.linear)
    face = synthetic_face(attribute) if drawn else None
    return FinalModel(model, attribute, section, page, prognoses, keyed_patients(data), face)


def prognoses_of(data: StudyData, name: str, photo: Any, linear: bool) -> dict[str, Prognosis]:
    """The models that travel, fitted on all patients of `data`; `photo` is that of the event on the latents."""
    model = make_model(name, *data.shape)
    wanted: tuple[Which, ...] = ("photo",) if data.covariates is None else WHICH
    return {
        which: Prognosis(which, None if which == "clinical" else clone(model), linear).fit(
            data.x, data.outcome, data.covariates, photo if which == "photo" else None
        )
        for which in wanted
    }


def keyed_patients(data: StudyData) -> dict[str, Any]:
    """Keyed hashes of the patients, by which a later validation knows them; the key stands beside them."""
    from stylegan_surv.gan.formats.provenance import patient_key

    salt = secrets.token_hex(16)
    return {"salt": salt, "patients": sorted(patient_key(str(p), salt) for p in data.ids)}


def nuisance_cosines(model: Any, data: StudyData) -> dict[str, dict[str, float]]:
    """Cosines of the attribute with the generator's nuisance directions; empty where it has none."""
    from stylegan_surv.attribute.nuisance import beside_nuisance, load_nuisance

    num_ws, w_dim = data.shape
    try:
        known = load_nuisance(data.latents.origin.generator.name or "")
    except InputError:
        return {}
    known = [direction for direction in known if len(direction.direction) == w_dim]
    risk = np.asarray(model.predict(data.x), float)
    return beside_nuisance(np.asarray(data.x, float), risk, num_ws, known)


@dataclass(frozen=True)
class SyntheticFace:
    """The generator's average face along the attribute: nobody's.

    Attributes
    ----------
    strip : bytes
        PNG of five steps.
    slider : bytes
        WebP of the frames of a slider, one above the other; see :class:`stylegan_surv.attribute.slider.Slider`.
    """

    strip: bytes
    slider: bytes


def synthetic_face(attribute: HealthAttribute) -> SyntheticFace | None:
    """The generator's average face along the attribute; None where the generator is not at hand.

    No patient is shown: the face is the study generator's mean latent. Its direction is the study's.
    """
    from stylegan_surv.attribute import edit, strip
    from stylegan_surv.attribute.slider import FRAMES, slider
    from stylegan_surv.inversion.again import generator_of

    try:
        generator = generator_of(attribute.origin)
    except InputError:  # not at hand, or a later network under the same name: the latents are not its
        return None
    middle = generator.mapping.w_avg.expand(generator.config.num_ws, -1)
    rows, w_dim = attribute.pattern.shape
    if w_dim != middle.shape[1] or rows > len(middle):
        return None
    frames = edit(attribute, middle, FRAMES, kind=attribute.shown, generator=generator)
    pictures = [frames[FRAMES.index(step)] for step in STRIP_STEPS]
    buffer = io.BytesIO()
    strip(pictures, STRIP_STEPS).save(buffer, "PNG", optimize=True)
    return SyntheticFace(buffer.getvalue(), slider(frames).webp)
