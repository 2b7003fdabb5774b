"""The report: one self-contained HTML page that also prints."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from stylegan_surv._files import write_text
from stylegan_surv.report import figures, tables
from stylegan_surv.report.tripod import checklist
from stylegan_surv.report.verdict import ASSOCIATION, findings
from stylegan_surv.survival.metrics.names import AUC, BRIER, HARRELL_C, NET_BENEFIT, PHOTO

if TYPE_CHECKING:
    from stylegan_surv.study import Study

TOPICS = {"found": "What was found", "sure": "How sure it is", "confounds": "What confounds it"}
PORTRAIT_PX = 96


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption."""

    title: str
    svg: str
    caption: str


def render(study: Study, path: str | Path, *, faces: bool = False) -> Path:
    """Write the report of a study as one HTML file.

    Parameters
    ----------
    study : Study
        As ``evaluate`` made it or ``Study.open`` read it.
    path : str or Path
        Where to write; the folder is made.
    faces : bool
        Show the patients with the lowest and the highest risks, where the study has their photographs. Without
        it the page holds no patient's face; the edit strip is of a synthetic one.

    Returns
    -------
    Path
        The file written.
    """
    environment = Environment(
        loader=PackageLoader("stylegan_surv.report"),
        autoescape=select_autoescape(["html", "j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(**_context(study, faces))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def _context(study: Study, faces: bool) -> dict[str, Any]:
    metrics, unit, exposure = study.metrics, study.facts.time_unit, study.provenance
    settings, models, cohort = metrics["settings"], metrics["models"], metrics["cohort"]
    horizons, controls = settings["horizons"], metrics.get("controls", {})
    comparisons = metrics.get("comparisons", {})
    flow = {**cohort["flow"], "late_photos": cohort["late_entries"]}
    found = findings(metrics, flow, study.facts.flags, exposure, study.config.get("tried"))
    return {
        "title": study.config.get("title", "Prognostic information in portrait photographs"),
        "association": ASSOCIATION,
        "verdict": {head: [f for f in found if f.topic == topic] for topic, head in TOPICS.items()},
        "flow": flow,
        "unit": unit,
        "settings": settings,
        "flow_table": tables.flow_table(cohort, unit, study.facts.time_origin),
        "covariates": tables.covariate_table((metrics.get("covariates") or {}).get("table", [])),
        "characteristics": tables.characteristics(cohort["characteristics"]),
        "discrimination": tables.metric_table(models, tables.DISCRIMINATION),
        "auc": tables.by_horizon(models, AUC, horizons, unit),
        "brier": tables.by_horizon(models, BRIER, horizons, unit),
        "accuracy": tables.metric_table(models, tables.ACCURACY),
        "calibration": tables.metric_table(models, tables.CALIBRATION),
        "differences": tables.difference_table(comparisons),
        "benefit": tables.benefit_table(models, comparisons),
        "censoring": tables.censoring_table(metrics.get("c_by_censoring", {})),
        "transport": metrics.get("transport", {}),
        "within": metrics.get("c_within", {}),
        "added": metrics.get("added_value"),
        "hazards": metrics.get("hazards"),
        "periods": tables.period_table(metrics.get("hazards")),
        "interactions": tables.interaction_table(metrics.get("interactions") or {}),
        "controls": controls,
        "edits": tables.edit_table(controls.get("edits", {})),
        "layers": tables.layer_table(metrics.get("layer_groups", {})),
        "attribute": metrics.get("attribute", {}),
        "subgroup_figure": _subgroups(metrics),
        "figures": _figures(metrics, unit),
        "strip": None if study.strip is None else base64.b64encode(study.strip).decode(),
        "slider": study.slider_figure,
        "portraits": _portraits(study) if faces else None,
        "provenance": exposure,
        "provenanced": metrics.get("c_provenance") or {},
        "card": _card(study),
        "tripod": checklist(study),
        "interval": tables.interval_text,
        "p_text": tables.p_text,
    }


def _portraits(study: Study) -> str | None:
    """PNG (base64) of the patients with the lowest risks above those with the highest; None without their chips."""
    if study.chips is None or study.portraits is None:
        return None
    rows = (study.portraits.lowest, study.portraits.highest)
    sheet = Image.new("RGB", (max(map(len, rows)) * PORTRAIT_PX, 2 * PORTRAIT_PX))
    for row, photo_ids in enumerate(rows):
        for k, name in enumerate(photo_ids):
            face = Image.fromarray(study.chips.load(name)).resize((PORTRAIT_PX, PORTRAIT_PX))
            sheet.paste(face, (k * PORTRAIT_PX, row * PORTRAIT_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _figures(metrics: Mapping[str, Any], unit: str) -> dict[str, list[Figure]]:
    """Drawings by section."""
    curves = metrics["curves"]
    drawn: dict[str, list[Figure]] = {
        "survival": [],
        "auc": [],
        "calibration": [],
        "benefit": [],
        "controls": [],
    }
    for model, survival in curves["survival"].items():
        picture = figures.kaplan_meier_figure(survival, unit=unit)
        caption = "Thirds of the out-of-fold risk, formed within folds. Bands: 95 % pointwise intervals."
        drawn["survival"].append(Figure(tables.model_name(model), picture, caption))
    if curves["auc"]:
        series = {tables.model_name(m): curve for m, curve in curves["auc"].items()}
        picture = figures.interval_lines(series, xlabel=f"Time ({unit})", ylabel="AUC(t)", line=0.5)
        caption = "Dead by t against alive at t; 95 % intervals."
        drawn["auc"].append(Figure("Cumulative/dynamic AUC", picture, caption))
    if curves["calibration"]:
        drawn["calibration"].append(_calibration(curves["calibration"], unit))
    if curves["benefit"]:
        drawn["benefit"].append(_benefit(curves["benefit"], metrics["models"], unit))
    if permuted := curves.get("permutations"):
        values = permuted["values"]
        picture = figures.permutation_figure(
            values, permuted["observed"], xlabel="C of the photograph", chance=0.5
        )
        caption = f"The whole cross-validation rerun {len(values)} times with outcomes of other patients."
        drawn["controls"].append(Figure("Permuted outcomes", picture, caption))
    return drawn


def _calibration(curves: Mapping[str, Any], unit: str) -> Figure:
    named = {tables.model_name(m): curve for m, curve in curves["models"].items()}
    title = f"Risk by {curves['horizon']:g} {unit}"
    caption = "First repeat; the line of identity is ideal; below, the distribution of the predictions."
    picture = figures.calibration_figure(named, limit=curves["limit"], title=title)
    return Figure("Calibration", picture, caption)


def _benefit(curves: Mapping[str, Any], models: Mapping[str, Any], unit: str) -> Figure:
    named = {tables.model_name(m): curve for m, curve in curves["models"].items()}
    set_beforehand = {m for v in models.values() for m in v if m.startswith(f"{NET_BENEFIT}_")}
    marks = ", ".join(f"{p:g}" for p in sorted(float(m.rpartition("_")[2]) for m in set_beforehand))
    caption = (
        f"At {curves['horizon']:g} {unit}. Thresholds set beforehand: {marks}; the rest of the curve is drawn for "
        "its shape."
    )
    picture = figures.decision_figure(named, curves["treat_all"], curves["thresholds"])
    return Figure("Decision curve", picture, caption)


def _subgroups(metrics: Mapping[str, Any]) -> Figure | None:
    found = metrics.get("subgroups")
    if not found:
        return None
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    for k, row in enumerate(found):
        if k == 0 or row["column"] != found[k - 1]["column"]:
            rows.append((row["column"], "", {}))
        counts = f"{row['events']}/{row['patients']}"
        if row.get("quality") is not None:
            counts += f"   {row['quality']:.2f}"
        rows.append((f"  {row['level']}", counts, row))
    overall = metrics["models"].get(PHOTO, {}).get(HARRELL_C, {}).get("estimate")
    quality = " and mean inversion error (LPIPS)" if any(r.get("quality") is not None for r in found) else ""
    caption = (
        f"C of the photograph; events/patients{quality}. Dotted: all patients. Levels with fewer than 20 events are "
        "not estimated."
    )
    return Figure("Subgroups", figures.forest_figure(rows, line=0.5, overall=overall), caption)


def _card(study: Study) -> dict[str, str]:
    """Model card, configuration and versions as text."""
    card = {
        "Intended use": "Research on associations between appearance and outcome. Not for decisions about patients.",
        "Models": ", ".join(study.config.get("models", [])) or "not stated",
        "Configurations tried on these data": str(study.config.get("tried") or "not stated"),
        "Data": f"{study.flow.patients} patients, {study.flow.events} events.",
        "Privacy": "Latents, the fitted model and a fine-tuned generator are personal health data: a generator can "
        "reproduce faces it was trained on (Webster et al. 2021).",
    }
    given = {
        **{k: v for k, v in study.config.items() if k not in ("title", "tried")},
        **_short(study.latents_info),
    }
    return card | {str(k): _text(v) for k, v in given.items()}


def _short(info: Mapping[str, Any]) -> dict[str, Any]:
    keep = ("method", "num_ws", "w_dim", "generator", "generator_sha256", "encoder_sha256", "version")
    return {f"latents: {k}": info[k] for k in keep if k in info}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
