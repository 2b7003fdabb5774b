"""The evaluation: survival models cross-validated on latents beside the clinical variables, and audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from stylegan_surv import __version__
from stylegan_surv._records import to_json
from stylegan_surv._types import Ints, Progress
from stylegan_surv.audit.covariates import audit_covariates
from stylegan_surv.audit.judged import Judged
from stylegan_surv.audit.rivals import Rivals, set_against
from stylegan_surv.audit.sections import Audit, audit
from stylegan_surv.audit.skin_tone import by_patient
from stylegan_surv.audit.stability import Stability, stability
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.study.data import StudyData, is_one_of
from stylegan_surv.study.final import finish
from stylegan_surv.study.result import FORMAT, CohortFacts, Portraits, Study
from stylegan_surv.study.settings import MODELS, StudySettings
from stylegan_surv.survival.metrics.curves import Curves, curves_of
from stylegan_surv.survival.metrics.interval import Interval
from stylegan_surv.survival.metrics.names import HARRELL_C, PHOTO
from stylegan_surv.survival.metrics.summary import describe, risk_thirds
from stylegan_surv.survival.metrics.table import Metrics, evaluation_times, oof_metrics, pooled_concordance
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.nested import Validation, nested_cv
from stylegan_surv.survival.validation.out_of_fold import OutOfFold

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.inversion import Latents

CHANCE = 0.5  # C of a model that ranks at random


def evaluate(
    latents: Latents,
    cohort: Cohort,
    models: Sequence[str] = MODELS,
    clinical: Sequence[str] = (),
    settings: StudySettings | None = None,
    *,
    chips: Chips | None = None,
    generator: Any = None,
    encoder: Any = None,
    progress: Progress | None = None,
) -> Study:
    """Cross-validate survival models on latents beside the clinical variables, and say what can be believed.

    Parameters
    ----------
    latents : Latents
        Photographs in W+; the index photographs of a patient are averaged.
    cohort : Cohort
    models : sequence of str
        Names as in :func:`stylegan_surv.survival.make_model`; the first one is the study's main model.
    clinical : sequence of str
        Covariates of the cohort; they enter unpenalised.
    settings : StudySettings, optional
        Folds, strata, permutations and the like; ``StudySettings()`` by default.
    chips : Chips, optional
        The aligned photographs: with them the report holds what light, pose, background and the picture without its
        face tell, and looks for one picture under two names.
    generator, encoder : network, path or zoo name, optional
        Of the latents, to embed edited photographs; by default those that the latents name, if they are bundled or
        converted.
    progress : callable, optional
        Called with (done, total) of each step.

    Raises
    ------
    InputError
        A column does not exist, or there are too few patients or events.
    Refused
        ``settings.strict``, and there is a leak.
    """
    settings = settings or StudySettings()
    data = StudyData.prepare(latents, cohort, clinical, settings, chips)
    if settings.strict and data.exposure.leak:
        raise Refused(f"--strict: {data.exposure.text}")
    covariates = audit_covariates(data.table, data.clinical, data.cohort.readings, data.outcome)
    rivals = set_against(
        data.table, data.clinical, chips, data.photos, settings.compare, data.circumstances.named, progress
    )
    division = data.division(settings)
    found = cross_validate(data, models, rivals, division, settings, progress)
    judged = judge(data, found, division[0], rivals, chips, settings)
    table = oof_metrics(
        judged.oof, judged.outcome, strata=judged.strata, horizons=data.horizons(settings),
        thresholds=settings.thresholds, n_boot=settings.n_boot, seed=settings.seed,
    )  # fmt: skip
    curves = curves_of(judged.oof, judged.outcome, table)
    audited = audit(judged, n_permutations=settings.permutations, seed=settings.seed, progress=progress)
    stable = stability(
        models[0], judged, latents, number=settings.edited, generator=generator, encoder=encoder,
        seed=settings.seed, progress=progress,
    )  # fmt: skip
    ranks = (table.models[PHOTO][HARRELL_C].low or 0.0) > CHANCE
    final = finish(data, models[0], judged, curves, drawn=ranks) if settings.final else None
    sections = {"covariates": covariates} | ({"attribute": final.section} if final is not None else {})
    return Study(
        metrics=metrics_record(data, judged, found, table, curves, audited, stable) | to_json(sections),
        oof=judged.oof.reset_index(drop=True),
        config=to_json({"models": models, "clinical": clinical, **settings.stated(), "version": __version__}),
        flow=data.flow,
        latents_info=dict(latents.metadata),
        provenance=data.exposure,
        facts=CohortFacts.of(data.cohort, data.clinical),
        portraits=Portraits.of(judged.photo, data.cohort.index_photos(), chips),
        tables={"folds": found.folds, "chosen": found.chosen},
        cohort=data.cohort,
        outcome=judged.outcome,
        final=final,
        chips=chips,
    )


def cross_validate(
    data: StudyData,
    models: Sequence[str],
    rivals: Rivals,
    division: Ints,
    settings: StudySettings,
    progress: Progress | None = None,
) -> OutOfFold:
    """Every model, and all that the photograph is set against, on the same folds.

    Patients whom the networks had seen take part: what is learnt from them is no leak.
    """
    horizons = evaluation_times(data.outcome, data.horizons(settings))
    return nested_cv(
        list(models), data.x, data.outcome,
        Validation(
            folds=division, horizons=horizons, seed=settings.seed, linear=settings.linear, n_jobs=settings.n_jobs
        ),
        clinical=data.covariates, groups=data.groups, extra_matrices=rivals.matrices, shape=data.shape,
        progress=progress,
    )  # fmt: skip


def judge(
    data: StudyData,
    found: OutOfFold,
    fold: Ints,
    rivals: Rivals,
    chips: Chips | None,
    settings: StudySettings,
) -> Judged:
    """The patients whose evaluation counts: those whom no network had seen."""
    fresh = data.fresh
    outcome = data.outcome.subset(fresh)
    patients = [str(name) for name in outcome.patient_id]
    outcome.require_events(2, "evaluating on patients whom the networks had not seen")
    return Judged(
        x=data.x[fresh],
        shape=data.shape,
        outcome=outcome,
        table=data.table[fresh].reset_index(drop=True),
        oof=found.frame[~found.frame["patient_id"].isin(data.exposure.seen)],
        fold=fold[fresh],
        chosen=found.chosen,
        clinical=data.clinical,
        strata=None if data.strata is None else data.strata[fresh],
        quality=data.inversion_error(list(outcome.patient_id)),
        photos=data.photos,
        chips=chips,
        recognition=rivals.recognition,
        circumstances=data.circumstances,
        linear=settings.linear,
        skin_tone=by_patient(chips, data.photos, patients)
        if chips is not None and settings.skin_tone
        else None,
    )


def metrics_record(
    data: StudyData,
    judged: Judged,
    found: OutOfFold,
    table: Metrics,
    curves: Curves,
    audited: Audit,
    stable: Stability,
) -> dict[str, Any]:
    """What ``metrics.json`` holds of the cross-validation."""
    record = {"format": FORMAT, **to_json(table), **to_json(audited)}
    record["controls"] |= to_json(stable)
    if data.exposure.seen:
        record["c_provenance"] = to_json(inside_and_outside(found.frame, data.outcome, data.exposure.seen))
    described = list(dict.fromkeys([*data.clinical, *data.cohort.covariates]))
    cohort = to_json(describe(judged.table, judged.outcome, described))
    record["cohort"] = cohort | {"flow": to_json(data.flow)}
    record["risk_thirds"] = to_json(risk_thirds(judged.oof, judged.outcome))
    record["curves"] = to_json(curves)
    if (permuted := audited.controls.permuted_outcome) is not None:
        record["curves"]["permutations"] = to_json({"observed": permuted.observed, "values": permuted.values})
    return record


def inside_and_outside(
    oof: pd.DataFrame, outcome: Outcome, seen: Sequence[str]
) -> Mapping[str, Interval | None]:
    """The photo model's C among patients whom the networks had seen and among the others; None where too few."""
    photo, known = oof[oof["model"] == PHOTO], is_one_of(outcome, seen)
    c: dict[str, Interval | None] = {}
    for name, mask in (("inside", known), ("outside", ~known)):
        part = outcome.subset(mask)
        try:
            pooled = pooled_concordance(photo[photo["patient_id"].isin(set(part.patient_id))], part)
            c[name] = Interval(pooled.estimate, *pooled.ci())
        except InputError:
            c[name] = None
    return c
