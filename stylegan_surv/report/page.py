"""The report: one self-contained HTML page that also prints."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from stylegan_surv.report import figures, tables
from stylegan_surv.report.tripod import checklist
from stylegan_surv.report.verdict import ASSOCIATION, findings
from stylegan_surv.survival.metrics import accuracy as _accuracy
from stylegan_surv.survival.metrics.calibration import calibration
from stylegan_surv.survival.metrics.concordance import checked
from stylegan_surv.survival.metrics.resamples import Resamples
from stylegan_surv.survival.metrics.summary import THIRDS, describe, thirds_within_fold
from stylegan_surv.survival.validation.out_of_fold import Scores, scores_of

if TYPE_CHECKING:
    from stylegan_surv.study import Study

TOPICS = {"found": "What was found", "sure": "How sure it is", "confounds": "What confounds it"}
CURVES = ("clinical", "photo", "both")  # models that have curves on the page
PORTRAITS, PORTRAIT_PX = 8, 96  # at either end of the risk, where faces are allowed
THRESHOLDS = np.linspace(0.02, 0.7, 35)  # of the drawn decision curves


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
    path.write_text(page, encoding="utf-8")
    return path


def _context(study: Study, faces: bool) -> dict[str, Any]:
    metrics, cohort, unit = study.metrics, _cohort(study), study.cohort.time_unit
    settings, models = metrics.get("settings", {}), metrics["models"]
    flow = {**cohort["flow"], "late_photos": cohort["late_entries"]}
    found = findings(metrics, flow, study.cohort.flags, study.provenance, study.config.get("tried"))
    scores = {m: scores_of(study.oof[study.oof["model"] == m], study.outcome) for m in _drawn(study)}
    horizons = settings.get("horizons", [])
    strip = getattr(study, "strip", None)
    return {
        "title": study.config.get("title", "Prognostic information in portrait photographs"),
        "association": ASSOCIATION,
        "verdict": {head: [f for f in found if f.topic == topic] for topic, head in TOPICS.items()},
        "flow": flow,
        "unit": unit,
        "settings": settings,
        "flow_table": tables.flow_table(cohort, unit, getattr(study.cohort, "time_origin", "")),
        "characteristics": tables.characteristics(cohort["characteristics"]),
        "discrimination": tables.metric_table(models, tables.DISCRIMINATION),
        "auc": tables.by_horizon(models, "auc", horizons, unit),
        "brier": tables.by_horizon(models, "brier", horizons, unit),
        "accuracy": tables.metric_table(models, tables.ACCURACY),
        "calibration": tables.metric_table(models, tables.CALIBRATION),
        "differences": tables.difference_table(metrics.get("comparisons", {})),
        "benefit": tables.benefit_table(models, metrics.get("comparisons", {})),
        "censoring": tables.censoring_table(metrics.get("c_by_censoring", {})),
        "transport": metrics.get("transport", {}),
        "within": metrics.get("c_within", {}),
        "added": metrics.get("added_value"),
        "controls": metrics.get("controls", {}),
        "edits": tables.edit_table(metrics.get("controls", {}).get("edits", {})),
        "layers": tables.layer_table(metrics.get("layer_groups", {})),
        "attribute": metrics.get("attribute", {}),
        "subgroup_figure": _subgroups(metrics),
        "figures": _figures(study, scores),
        "strip": base64.b64encode(strip).decode() if strip else None,
        "portraits": _portraits(study) if faces else None,
        "provenance": study.provenance,
        "provenanced": metrics.get("c_provenance") or {},
        "card": _card(study),
        "tripod": checklist(study),
        "interval": tables.interval_text,
        "p_text": tables.p_text,
    }


def _portraits(study: Study) -> str | None:
    """PNG (base64) of the patients with the lowest risks above those with the highest; None without their chips."""
    chips = getattr(study, "chips", None)
    photo = study.oof[study.oof["model"] == "photo"]
    if chips is None or photo.empty:
        return None
    rank = photo.groupby(["repeat", "fold"])["risk"].rank(pct=True)
    order = rank.groupby(photo["patient_id"].astype(str)).mean().sort_values().index
    index = study.cohort.index_photos()
    shown = index[index["photo_id"].isin(set(chips.ok["photo_id"]))].drop_duplicates("patient_id")
    photo_of = dict(zip(shown["patient_id"].astype(str), shown["photo_id"]))
    known = [photo_of[p] for p in order if p in photo_of]
    number = min(PORTRAITS, len(known) // 2)
    if number == 0:
        return None
    sheet = Image.new("RGB", (number * PORTRAIT_PX, 2 * PORTRAIT_PX))
    for row, names in enumerate((known[:number], known[-number:])):
        for k, name in enumerate(names):
            face = Image.fromarray(chips.load(name)).resize((PORTRAIT_PX, PORTRAIT_PX))
            sheet.paste(face, (k * PORTRAIT_PX, row * PORTRAIT_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _drawn(study: Study) -> list[str]:
    present = set(study.oof["model"])
    return [m for m in CURVES if m in present]


def _figures(study: Study, scores: Mapping[str, Scores]) -> dict[str, list[Figure]]:
    """Drawings by section."""
    models, settings = study.metrics["models"], study.metrics.get("settings", {})
    horizons, unit = settings.get("horizons", []), study.cohort.time_unit
    drawn: dict[str, list[Figure]] = {"survival": risk_thirds(study, scores)}
    drawn |= {"auc": [], "calibration": [], "benefit": [], "controls": []}
    if horizons and scores:
        names = [f"auc_{t:g}" for t in horizons]
        series = {
            tables.model_name(m): [models[m][k] for k in names]
            for m in scores
            if set(names) <= set(models[m])
        }
        if series:
            picture = figures.interval_lines(
                horizons, series, xlabel=f"Time ({unit})", ylabel="AUC(t)", line=0.5
            )
            caption = "Dead by t against alive at t; 95 % intervals."
            drawn["auc"].append(Figure("Cumulative/dynamic AUC", picture, caption))
    probable = {m: s for m, s in scores.items() if s.has_survival and "main_horizon" in settings}
    if probable:
        drawn["calibration"] = _calibration(study, probable, settings["main_horizon"])
        drawn["benefit"] = [_benefit(study, probable, settings["main_horizon"])]
    permuted = study.metrics.get("controls", {}).get("permuted_outcome")
    if permuted and permuted.get("values"):
        values = np.array(permuted["values"])
        picture = figures.permutation_figure(
            values, permuted["observed"], xlabel="C of the photograph", chance=0.5
        )
        caption = f"The whole cross-validation rerun {len(values)} times with outcomes of other patients."
        drawn["controls"].append(Figure("Permuted outcomes", picture, caption))
    return drawn


def risk_thirds(study: Study, scores: Mapping[str, Scores]) -> list[Figure]:
    """Kaplan–Meier curves by third of the out-of-fold risk."""
    drawn, outcome = [], study.outcome
    for model, s in scores.items():
        group = thirds_within_fold(s)
        keep = group >= 0
        picture, _ = figures.kaplan_meier_figure(
            outcome.time[keep],
            outcome.event[keep],
            group[keep],
            THIRDS,
            entry=None if outcome.entry is None else outcome.entry[keep],
            unit=study.cohort.time_unit,
        )
        caption = "Thirds of the out-of-fold risk, formed within folds. Bands: 95 % pointwise intervals."
        drawn.append(Figure(tables.model_name(model), picture, caption))
    return drawn


def _calibration(study: Study, scores: Mapping[str, Scores], t: float) -> list[Figure]:
    outcome, curves = study.outcome, {}
    for model, s in scores.items():
        survival = s.at(t)[0]
        k = np.isfinite(survival)
        if np.ptp(survival[k]) < 1e-9:
            continue
        entry = None if outcome.entry is None else outcome.entry[k]
        c = calibration(survival[k], outcome.time[k], outcome.event[k], t, entry=entry)
        curves[tables.model_name(model)] = (c.predicted, c.observed)
    if not curves:
        return []
    title = f"Risk by {t:g} {study.cohort.time_unit}"
    caption = "First repeat; the line of identity is ideal; below, the distribution of the predictions."
    return [Figure("Calibration", figures.calibration_figure(curves, title=title), caption)]


def _benefit(study: Study, scores: Mapping[str, Scores], t: float) -> Figure:
    outcome = study.outcome
    data = checked(outcome.time, outcome.event, np.zeros(len(outcome)), outcome.entry, None, None)
    sample = Resamples(replace(data, weight=np.ones((len(outcome), 1))))

    def curve(survival: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.array([_accuracy.net_benefit(survival, sample, t, p)[0] for p in THRESHOLDS])

    curves = {tables.model_name(m): curve(s.at(t)) for m, s in scores.items()}
    curves["Treat all"] = curve(np.zeros((1, len(outcome))))
    marks = ", ".join(f"{p:g}" for p in sorted(_thresholds(study.metrics["models"])))
    caption = (
        f"At {t:g} {study.cohort.time_unit}. Thresholds set beforehand: {marks}; the rest of the curve is drawn for "
        "its shape."
    )
    return Figure("Decision curve", figures.decision_figure(curves, THRESHOLDS), caption)


def _thresholds(models: Mapping[str, Any]) -> set[float]:
    names: Iterable[str] = (m for v in models.values() for m in v if m.startswith("net_benefit_"))
    return {float(m.rsplit("_", 1)[1]) for m in names}


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
    overall = metrics["models"].get("photo", {}).get("harrell_c", {}).get("estimate")
    quality = " and mean inversion error (LPIPS)" if any(r.get("quality") is not None for r in found) else ""
    caption = (
        f"C of the photograph; events/patients{quality}. Dotted: all patients. Levels with fewer than 20 events are "
        "not estimated."
    )
    return Figure("Subgroups", figures.forest_figure(rows, line=0.5, overall=overall), caption)


def _cohort(study: Study) -> dict[str, Any]:
    """The section ``cohort`` of the metrics, or what a study without it tells."""
    kept = study.metrics.get("cohort")
    return dict(kept) if kept else describe(pd.DataFrame(), study.outcome, (), study.flow)


def _card(study: Study) -> dict[str, str]:
    """Model card, configuration and versions as text."""
    card = {
        "Intended use": "Research on associations between appearance and outcome. Not for decisions about patients.",
        "Models": ", ".join(study.config.get("models", [])) or "not stated",
        "Configurations tried on these data": str(study.config.get("tried") or "not stated"),
        "Data": f"{study.flow['patients']} patients, {study.flow['events']} events.",
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
