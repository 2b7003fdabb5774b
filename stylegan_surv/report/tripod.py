"""The TRIPOD+AI checklist (Collins et al., BMJ 2024;385:e078378), filled as far as a run knows.

The wording of the topics is ours; the numbers are those of the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylegan_surv.study import Study

AUTHORS = "To be reported by the authors."


@dataclass(frozen=True)
class Item:
    """One item of the checklist; `known` tells whether the run could fill it."""

    number: str
    topic: str
    text: str

    @property
    def known(self) -> bool:
        return self.text != AUTHORS


TOPICS = {
    "1": "Title", "2": "Abstract", "3a": "Healthcare context and rationale", "3b": "Target population and use",
    "3c": "Known health inequalities", "4": "Objectives", "5a": "Sources of data", "5b": "Dates of data",
    "6a": "Setting, number of centres", "6b": "Eligibility", "6c": "Treatments received", "7": "Data preparation",
    "8a": "Outcome and time horizon", "8b": "Assessors of the outcome", "8c": "Blinding of the outcome",
    "9a": "Choice of predictors", "9b": "Definition of predictors", "9c": "Assessors of predictors",
    "10": "Sample size", "11": "Missing data", "12a": "Use of the data in development and evaluation",
    "12b": "Handling of predictors", "12c": "Type of model, building, internal validation",
    "12d": "Heterogeneity between clusters", "12e": "Measures and plots of performance", "12f": "Model updating",
    "12g": "How predictions are calculated", "13": "Class imbalance", "14": "Fairness", "15": "Model output",
    "16": "Training against evaluation data", "17": "Ethical approval", "18a": "Funding",
    "18b": "Conflicts of interest", "18c": "Protocol", "18d": "Registration", "18e": "Data sharing",
    "18f": "Code sharing", "19": "Patient and public involvement", "20a": "Flow of participants",
    "20b": "Characteristics of participants", "20c": "Development against evaluation sample",
    "21": "Numbers in development and evaluation", "22": "Model specification", "23a": "Performance with intervals",
    "23b": "Heterogeneity of performance", "24": "Results of updating", "25": "Interpretation", "26": "Limitations",
    "27a": "Poor or missing input", "27b": "User interaction and expertise", "27c": "Next steps of research",
}  # fmt: skip


def checklist(study: Study) -> list[Item]:
    """Every item, with what the run knows of it."""
    known = _known(study)
    return [Item(number, topic, known.get(number, AUTHORS)) for number, topic in TOPICS.items()]


def _known(study: Study) -> dict[str, str]:
    flow, config, unit = study.flow, study.config, study.facts.time_unit
    horizons = ", ".join(f"{t:g}" for t in study.metrics["settings"]["horizons"])
    folds = f"{config.get('folds', '?')} folds, {config.get('repeats', '?')} repeats"
    clinical = ", ".join(config.get("clinical", [])) or "none"
    items = {
        "7": "Face found, aligned and cropped by one rule for all photographs; embedded in the latent space of a "
        "generator. Several photographs of a patient's index date are averaged.",
        "8a": f"Time to event in {unit}; horizons {horizons} {unit}.",
        "9a": f"Photograph: all latent dimensions. Clinical variables: {clinical}.",
        "9b": "Latents: coordinates of the photograph in W+.",
        "10": f"{flow.patients} patients, {flow.events} events. Events needed for a given hazard ratio: "
        "stylegan_surv.survival.metrics.sample_size.",
        "11": "Missing clinical values are imputed in the training part of each fold, with an indicator. "
        + _missing(study),
        "12a": f"All patients, by nested cross-validation: {folds}.",
        "12b": "Latents are centred in the fold and not scaled; numbers are standardised and levels coded in the fold, "
        "rare ones pooled; the coding of every clinical variable is in the cohort section.",
        "12c": f"{', '.join(config.get('models', ['?']))}; penalties chosen in an inner cross-validation; out-of-fold "
        "evaluation, intervals over patients conditional on the fitted models.",
        "12d": f"Groups kept in one fold: {config.get('groups') or 'none'}; strata: {config.get('strata') or 'none'}.",
        "12e": "C (Harrell, Uno, within strata), AUC(t), Brier score and skill, calibration (O/E, slope, ICI, D, A), "
        "net benefit; Kaplan–Meier curves by risk third.",
        "12f": "None on these data; validate_external offers recalibration on new ones.",
        "12g": "The fitted model is stored with its coefficients and baseline; see the model card.",
        "13": "No resampling or weighting of patients.",
        "15": f"A risk score (higher is worse) and survival probabilities at {horizons} {unit}.",
        "18f": "stylegan-surv, Apache-2.0; version and configuration below.",
        "20a": f"{flow.photos} photographs, {flow.embedded} embedded, {flow.patients} "
        f"patients, {flow.events} events; exclusions in the cohort section.",
        "20b": "See the cohort section.",
        "21": f"{flow.patients} patients and {flow.events} events, each evaluated by models fitted without them.",
        "22": "Stored with the study: model/ (coefficients, baseline hazard, card).",
        "23a": "See discrimination, accuracy and calibration; all numbers in metrics.json.",
    }
    if study.metrics.get("subgroups"):
        items["14"] = (
            "Performance by subgroup is shown, groups with few events suppressed, inversion error beside."
        )
        items["23b"] = "See the subgroups section."
    if config.get("file"):
        items["18c"] = (
            f"Options set in {config['file']} (SHA-256 {config['file_sha256'][:16]}…); configurations tried on these "
            f"data: {config.get('tried', 'not stated')}."
        )
    if study.provenance.text:
        items["16"] = study.provenance.text
    if study.facts.flags:
        items["26"] = "Noted by the run: " + " ".join(study.facts.flags)
    return items


def _missing(study: Study) -> str:
    counts = study.facts.missing
    return "Missing: " + ", ".join(f"{c} {k}" for c, k in counts.items()) + "." if counts else ""
