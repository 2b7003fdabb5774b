"""The whole study in two calls: ``evaluate`` cross-validates, ``fit`` gives the model for use on new patients."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stylegan_surv import __version__
from stylegan_surv.errors import InputError, Refused

if TYPE_CHECKING:
    from stylegan_surv.attribute import HealthAttribute
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.inversion import Latents
    from stylegan_surv.survival.outcome import Outcome

STRIP_STEPS = (-3.0, -1.5, 0.0, 1.5, 3.0)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Study:
    """Everything an evaluation found; ``save`` writes it, ``report`` draws it.

    Attributes
    ----------
    cohort, outcome : the patients that were analysed and their follow-up.
    oof : DataFrame
        Out-of-fold results: patient_id, repeat, fold, model, risk, S(t) at every horizon.
    metrics : dict
        Every number of the report: ``models.<name>.<metric>.{estimate, low, high}``, ``settings``, ``controls``, …
    config : dict, the analysis as it was asked for.
    flow : dict, from photographs to patients and events, with what was left out and why.
    latents_info, provenance : dict, where the latents come from and whom the networks had seen.
    attribute : HealthAttribute of the model fitted on all patients, or None.
    model : that model.
    strip : PNG of a synthetic face along the attribute, or None.
    chips : the aligned photographs, or None; a report shows them only where faces are allowed.
    """

    cohort: Cohort
    outcome: Outcome
    oof: pd.DataFrame
    metrics: dict[str, Any]
    config: dict[str, Any]
    flow: dict[str, Any]
    latents_info: dict[str, Any]
    provenance: dict[str, Any]
    attribute: HealthAttribute | None = None
    model: Any = None
    strip: bytes | None = None
    chips: Chips | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def report(self, path: str | Path, *, faces: bool = False) -> Path:
        """Write the report as one self-contained HTML file."""
        from stylegan_surv.report import render

        render(self, path, faces=faces)
        return Path(path)

    def save(self, folder: str | Path, *, faces: bool = False) -> Path:
        """Write report.html, metrics.json, oof.parquet, folds.parquet and, where there is one, model/.

        Everything is written beside its name and renamed, so that an interrupted save leaves the former study whole.
        """
        from stylegan_surv.attribute import save_attribute
        from stylegan_surv.survival.engines.persist import save_model

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.model is not None:
            save_model(self.model, folder / "model", card=self.card())
            if self.attribute is not None:
                save_attribute(self.attribute, folder / "model", self.latents_info)
        for name, table in {"oof": self.oof, **self.tables}.items():
            replace(folder / f"{name}.parquet", partial(table.to_parquet, index=False))
        text = json.dumps(self.metrics, indent=1, default=float)
        replace(folder / "metrics.json", lambda path: path.write_text(text, encoding="utf-8"))
        replace(folder / "report.html", lambda path: self.report(path, faces=faces))
        return folder

    def card(self) -> dict[str, Any]:
        """What travels with the fitted model."""
        keep = ("patients", "events", "photos")
        return {
            "version": __version__,
            "config": self.config,
            "cohort": {k: self.flow[k] for k in keep},
            "latents": self.latents_info,
            "provenance": self.provenance,
            "performance": self.metrics["models"],
            "horizons": self.metrics["settings"]["horizons"],
        }


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file and rename it to ``path``."""
    unfinished = path.with_name(f"_{path.name}.partial")
    write(unfinished)
    unfinished.replace(path)


def evaluate(
    latents: Latents,
    cohort: Cohort,
    models: Sequence[str] = ("cox-ridge",),
    clinical: Sequence[str] = (),
    *,
    strata: str | None = None,
    groups: str | None = None,
    folds: int = 5,
    repeats: int = 3,
    permutations: int = 100,
    n_boot: int = 1000,
    horizons: Sequence[float] | None = None,
    seed: int = 0,
    strict: bool = False,
    n_jobs: int = 1,
    chips: Chips | None = None,
    compare: Sequence[str] = (),
    edited: int = 32,
    generator: Any = None,
    encoder: Any = None,
    about: Mapping[str, Any] | None = None,
    final: bool = True,
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
    strata : str, optional
        A column, or ``column:width`` for bins (``entry_year:5``). Discrimination is reported within strata as well,
        folds are balanced over them, and permutations stay inside them. The models are fitted without.
    groups : str, optional
        A column (site, family) whose levels are kept together in one fold.
    folds, repeats : int
        Outer folds and how often they are drawn anew; the inner cross-validation has five.
    permutations : int
        Reruns with permuted photographs, for the test of added value and the control; 0 for none.
    n_boot : int
        Bootstrap resamples of patients for the intervals.
    horizons : sequence of float, optional
        Times for S(t) in the cohort's unit; by default the quartiles of event time with at least 10 % at risk.
    seed : int
    strict : bool
        Refuse a study some of whose patients the generator or encoder was trained on, or may have been.
    n_jobs : int
        Processes over folds.
    chips : Chips, optional
        The aligned photographs: with them the report holds what light, pose, background and the picture without its
        face tell, and looks for one picture under two names.
    compare : sequence of str
        ``"face-recognition"`` sets the photograph against dlib's 128 numbers of identity (needs `chips`).
    edited : int
        Photographs that are embedded again, edited and as reconstructions, to see how far the risk moves; 0 for none.
    generator, encoder : networks, paths or zoo names
        Of the latents, for that; by default those that the latents name, if they are bundled or converted.
    about : dict, optional
        What the page should state of the analysis: ``title``, ``tried`` (how many configurations were tried on these
        data, this one included), and whatever else; kept in ``config``.
    final : bool
        Also fit the first model on all patients and derive the health attribute from it.
    progress : callable, optional
        Called with (done, total) model fits.

    Returns
    -------
    Study

    Raises
    ------
    InputError
        If a column does not exist, or there are too few patients or events.
    Refused
        If ``strict`` and there is a leak.
    """
    from stylegan_surv.audit.sections import audit, set_against
    from stylegan_surv.audit.stability import stability
    from stylegan_surv.survival.design import patient_matrix, strata_from
    from stylegan_surv.survival.metrics.summary import describe, risk_thirds
    from stylegan_surv.survival.metrics.table import default_horizons, evaluation_times, oof_metrics
    from stylegan_surv.survival.outcome import Outcome
    from stylegan_surv.survival.validation.folds import make_folds
    from stylegan_surv.survival.validation.nested import Validation, nested_cv

    check_columns(cohort, clinical, groups)
    cohort = named_as_embedded(cohort, latents)
    ids, x = patient_matrix(latents, cohort)
    table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
    outcome = Outcome.from_frame(table)
    levels = strata_from(strata, table) if strata else None
    known = provenance(latents, cohort, chips)
    if strict and known["leak"]:
        raise Refused(f"--strict: {known['text']}")
    covariates = table[list(clinical)] if clinical else None
    group = table[groups].astype(str).to_numpy() if groups else None
    balanced = Outcome(outcome.patient_id, outcome.time, outcome.event, outcome.entry, levels)
    division = make_folds(balanced, folds, repeats=repeats, groups=group, seed=seed)
    shape = latents.w_plus.shape[1:]
    times = list(horizons) if horizons is not None else default_horizons(outcome)
    index = cohort.index_photos()
    index = index[index["photo_id"].isin(set(latents.ids)) & index["patient_id"].isin(set(ids))]
    extra, faces = set_against(table, clinical, chips, index, compare, progress)
    found = nested_cv(
        list(models), x, outcome,
        Validation(folds=division, horizons=evaluation_times(outcome, times), seed=seed, n_jobs=n_jobs),
        clinical=covariates, groups=group, extra_matrices=extra, shape=shape, progress=progress,
    )  # fmt: skip
    # whom the networks had seen is trained on, but does not count in the evaluation
    fresh = ~outcome_mask(outcome, known["seen"])
    judged, oof = outcome.subset(fresh), found.frame[~found.frame["patient_id"].isin(known["seen"])]
    judged.require_events(2, "evaluating on patients whom the networks had not seen")
    within = None if levels is None else levels[fresh]
    judged_table, fold = table[fresh].reset_index(drop=True), division[0][fresh]
    metrics = oof_metrics(oof, judged, strata=within, horizons=times, n_boot=n_boot, seed=seed)
    metrics |= audit(
        x[fresh], judged, oof, table=judged_table, fold=fold, clinical=list(clinical), strata=within, chips=chips,
        photos=index, recognition=faces, shape=shape, quality=inversion_error(latents, list(judged.patient_id)),
        n_permutations=permutations, seed=seed, progress=progress,
    )  # fmt: skip
    metrics["controls"] |= stability(
        models[0], x[fresh], judged, oof, fold, latents, chips=chips, chosen=found.chosen, number=edited,
        generator=generator, encoder=encoder, seed=seed, progress=progress,
    )  # fmt: skip
    if known["seen"]:
        metrics["c_provenance"] = inside_and_outside(found.frame, outcome, known["seen"])
    flow = cohort_flow(latents, cohort, list(ids))
    described = list(dict.fromkeys([*clinical, *cohort.covariates]))
    metrics["cohort"] = describe(judged_table, judged, described, flow)
    metrics["risk_thirds"] = risk_thirds(oof, judged)
    study = Study(
        cohort=cohort,
        outcome=judged,
        oof=oof.reset_index(drop=True),
        metrics=metrics,
        config={
            "models": list(models), "clinical": list(clinical), "strata": strata, "groups": groups, "folds": folds,
            "repeats": repeats, "permutations": permutations, "n_boot": n_boot, "seed": seed,
            "compare": list(compare), "edited": edited, "version": __version__, **(about or {}),
        },
        flow=flow,
        latents_info=dict(latents.metadata),
        provenance=known,
        chips=chips,
        tables={"folds": found.folds, "chosen": found.chosen},
    )  # fmt: skip
    return _with_model(study, latents, x, table, models[0], clinical) if final else study


def fit(
    latents: Latents, cohort: Cohort, model: str = "cox-ridge", *, strata: str | None = None, **settings: Any
) -> Any:
    """Fit one survival model on all patients, for use on new ones; its performance is ``evaluate``'s to tell.

    Parameters
    ----------
    latents, cohort : as in :func:`evaluate`.
    model : name of the model.
    strata : a column or ``column:width``; each level gets its own baseline hazard (Cox models).
    **settings : passed to the estimator.

    Returns
    -------
    scikit-learn estimator with ``predict(X)`` (risk score, high is worse) and ``predict_survival_function(X, times)``.
    """
    from stylegan_surv.survival.design import patient_matrix
    from stylegan_surv.survival.engines.registry import make_model
    from stylegan_surv.survival.outcome import Outcome

    cohort = named_as_embedded(cohort, latents)
    ids, x = patient_matrix(latents, cohort)
    table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
    outcome = Outcome.from_frame(table, strata=strata)
    outcome.require_events(2, "fitting a survival model")
    estimator = make_model(model, *latents.w_plus.shape[1:]).set_params(**settings)
    return estimator.fit(x, outcome.y, **outcome.fit_params)


def predict(model_dir: str | Path, latents: Latents) -> pd.DataFrame:
    """Risk scores and survival probabilities of a saved model for the patients of ``latents``.

    All photographs of a patient are averaged in W+, as they are when the model is fitted.

    Returns
    -------
    DataFrame
        ``patient_id, n_photos, risk`` (high is worse) and a column ``S(t)`` for each horizon of the study.
    """
    import numpy as np

    from stylegan_surv.survival.engines.persist import load_model

    model, card = load_model(model_dir)
    sums = pd.DataFrame(latents.w_plus.reshape(len(latents), -1)).groupby(latents.patient_ids, sort=False)
    x = sums.mean().to_numpy(np.float32)
    expected = card.get("n_features", x.shape[1])
    if x.shape[1] != expected:
        raise InputError(
            f"the latents have {x.shape[1]} numbers per patient and the model expects {expected}; "
            "embed the photographs with the generator that the model was fitted with"
        )
    table = pd.DataFrame(
        {"patient_id": list(sums.groups), "n_photos": sums.size().to_numpy(), "risk": model.predict(x)}
    )
    horizons = card.get("horizons", [])
    curves = np.asarray(model.predict_survival_function(x, horizons)) if horizons else np.empty((len(x), 0))
    return table.assign(**{f"S({t:g})": curves[:, k] for k, t in enumerate(horizons)})


def _with_model(
    study: Study, latents: Latents, x: Any, table: pd.DataFrame, name: str, clinical: Sequence[str]
) -> Study:
    """Add the model fitted on all patients, its attribute, and the strip of a synthetic face."""
    from stylegan_surv.attribute import health_attribute

    model = fit(latents, study.cohort, name)
    attribute = health_attribute(model, latents, study.cohort, adjust_for=list(clinical))
    strip = synthetic_strip(attribute, study.latents_info)
    metrics = {
        **study.metrics,
        "attribute": {
            "split_half": attribute.split_half,
            "risk_sd": attribute.risk_sd,
            "nuisance": _nuisance(model, latents, study),
        },
    }
    return dataclass_replace(study, model=model, attribute=attribute, strip=strip, metrics=metrics)


def _nuisance(model: Any, latents: Latents, study: Study) -> dict[str, dict[str, float]]:
    """Cosines of the attribute with the generator's nuisance directions; empty where it has none."""
    import numpy as np

    from stylegan_surv.attribute.nuisance import beside_nuisance, load_nuisance
    from stylegan_surv.survival.design import patient_matrix

    num_ws, w_dim = latents.w_plus.shape[1:]
    try:
        known = load_nuisance(study.latents_info.get("generator", ""))
    except InputError:
        return {}
    _, x = patient_matrix(latents, study.cohort)
    known = [direction for direction in known if len(direction.direction) == w_dim]
    return beside_nuisance(np.asarray(x, float), np.asarray(model.predict(x), float), num_ws, known)


def synthetic_strip(attribute: HealthAttribute, latents_info: dict[str, Any]) -> bytes | None:
    """PNG of the generator's average face along the attribute; None where the generator is not at hand.

    No patient is shown: the face is the study generator's mean latent. Its direction is the study's.
    """
    import torch

    from stylegan_surv.attribute import edit, strip
    from stylegan_surv.gan import load_generator

    try:
        generator = load_generator(latents_info.get("generator", "synthetic-64"))
    except InputError:
        return None
    if generator.card.get("sha256") != latents_info.get("generator_sha256", generator.card.get("sha256")):
        return None  # a later network under the same name: the latents are not its
    middle = generator.mapping.w_avg.expand(generator.config.num_ws, -1)
    if tuple(middle.shape) != attribute.pattern.shape:
        return None
    with torch.no_grad():
        pictures = edit(attribute, middle, STRIP_STEPS, generator=generator)
    buffer = io.BytesIO()
    strip(pictures, STRIP_STEPS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def check_columns(cohort: Cohort, clinical: Sequence[str], groups: str | None) -> None:
    """Every column that the analysis names must be a covariate of the cohort."""
    for name in (*clinical, *([groups] if groups else [])):
        if name not in cohort.covariates:
            have = ", ".join(cohort.covariates) or "no covariates"
            raise InputError(f"there is no column {name!r}; the table has {have}. Correct the name.")


def named_as_embedded(cohort: Cohort, latents: Latents) -> Cohort:
    """The cohort with its photographs under the names that they have among the latents.

    A table that was read by itself names two photographs IMG_0 of two folders otherwise than a folder that holds more
    of them; their paths tell which is which.
    """
    other = ~cohort.table["photo_id"].isin(set(latents.frame["photo_id"]))
    if not other.any():
        return cohort
    known = latents.frame[latents.frame["source_path"].notna()]
    paths: dict[str, list[tuple[str, str]]] = {}
    for patient, path, name in zip(known["patient_id"], known["source_path"], known["photo_id"]):
        paths.setdefault(patient, []).append(("/" + str(path).replace("\\", "/"), name))
    table = cohort.table.copy()
    for row, patient, photo in table.loc[other, ["patient_id", "photo"]].itertuples():
        end = "/" + str(photo).replace("\\", "/").lstrip("/")
        same = [name for path, name in paths.get(patient, []) if path.endswith(end)]
        if len(same) == 1:
            table.loc[row, "photo_id"] = same[0]
    return dataclass_replace(cohort, table=table)


def cohort_flow(latents: Latents, cohort: Cohort, used: Sequence[str]) -> dict[str, Any]:
    """From photographs to patients and events, with every exclusion and its reason."""
    failed = latents.failed
    patients = cohort.patients
    analysed = patients[patients["patient_id"].isin(list(used))]
    reasons = failed["error"].fillna("unknown").value_counts()
    embedded = set(latents.frame["photo_id"])
    never = cohort.table[~cohort.table["photo_id"].isin(embedded)]
    excluded = {str(reason): int(count) for reason, count in reasons.items()}
    if len(never):
        excluded["not among the latents"] = len(never)
    return {
        "photos": len(cohort.table),
        "embedded": len(latents),
        "patients": len(analysed),
        "patients_in_table": len(patients),
        "events": int(analysed["event"].sum()),
        "excluded": excluded,
    }


def inversion_error(latents: Latents, patients: Sequence[str]) -> Any:
    """Mean LPIPS of each patient's photographs against their reconstructions, [n]; None where not measured."""
    error = latents.rows.groupby("patient_id")["lpips"].mean().reindex(list(patients))
    return None if error.isna().all() else error.to_numpy(float)


def provenance(latents: Latents, cohort: Cohort, chips: Chips | None = None) -> dict[str, Any]:
    """Which patients of the study the generator and the encoder were trained on, as far as their cards tell.

    Returns
    -------
    dict
        ``seen`` (patient identifiers), ``unknown`` (networks without a full record), ``leak`` (either of them is not
        empty), ``text``.
    """
    from stylegan_surv.gan.formats.provenance import chip_hashes, intersect, lineage

    # a projector's latents have seen no encoder; latents from elsewhere say nothing of either
    seen_by = latents.metadata.get("provenance") or {"generator": None, "encoder": None}
    cards = {role: {"provenance": step} for role, step in seen_by.items()}
    listed = any(step.get("photos") for card in cards.values() for step in lineage(card))
    hashes = chip_hashes(chips) if chips is not None and listed else None
    found = {role: intersect(cohort, card, hashes) for role, card in cards.items()}
    unknown = [role for role, overlap in found.items() if not overlap.known]
    seen = sorted({p for overlap in found.values() for p in overlap.patients})
    said = []
    if seen:
        said.append(
            f"The networks were trained on {len(seen)} of the study's patients. The figures are of the others; "
            "C inside and outside stand beside each other."
        )
    if unknown:
        said.append(f"What the {' and the '.join(unknown)} had seen is not known: a leak cannot be excluded.")
    if not said:
        nobody = "o patient of this study was among the training photographs of generator or encoder."
        if listed and hashes is None:
            said = [
                f"By their identifiers, n{nobody}",
                "Their photographs were not compared (no chips were given).",
            ]
        else:
            said = [f"N{nobody}"]
    return {"leak": bool(seen or unknown), "seen": seen, "unknown": unknown, "text": " ".join(said)}


def inside_and_outside(oof: pd.DataFrame, outcome: Outcome, seen: Sequence[str]) -> dict[str, Any]:
    """The photo model's C among patients whom the networks had seen and among the others; None where too few."""
    from stylegan_surv.survival.metrics.table import pooled_concordance

    photo, known = oof[oof["model"] == "photo"], outcome_mask(outcome, seen)
    c: dict[str, Any] = {}
    for name, mask in (("inside", known), ("outside", ~known)):
        part = outcome.subset(mask)
        try:
            found = pooled_concordance(photo[photo["patient_id"].isin(set(part.patient_id))], part)
            c[name] = dict(zip(("estimate", "low", "high"), (found.estimate, *found.ci())))
        except InputError:
            c[name] = None
    return c


def outcome_mask(outcome: Outcome, patients: Sequence[str]) -> Any:
    """Which rows of the outcome belong to these patients, bool [n]."""
    import numpy as np

    return np.isin(outcome.patient_id, list(patients))
