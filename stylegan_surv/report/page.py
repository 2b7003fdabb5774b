"""The report: one self-contained HTML page that also prints."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from stylegan_surv.report import figures
from stylegan_surv.report.verdict import ASSOCIATION, findings
from stylegan_surv.survival._oof import scores_of

if TYPE_CHECKING:
    from stylegan_surv.study import Study

# how the metrics are called on the page, in this order
METRICS = {"harrell_c": "Harrell C", "uno_c": "Uno C", "stratified_c": "C within strata"}


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
        Allow pictures made from patients' photographs. Without it the page holds none; the edit strip is
        of a synthetic face.

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
    strip = getattr(study, "strip", None)
    return {
        "title": study.config.get("title", "Prognostic information in portrait photographs"),
        "findings": findings(study.metrics, study.flow, study.cohort.flags),
        "flow": study.flow,
        "flags": list(study.cohort.flags),
        "unit": study.cohort.time_unit,
        "table": metric_table(study.metrics["models"]),
        "settings": study.metrics.get("settings", {}),
        "curves": risk_thirds(study),
        "strip": base64.b64encode(strip).decode() if strip else None,
        "provenance": study.provenance,
        "config": study.config,
        "association": ASSOCIATION,
        "faces": faces,
    }


def metric_table(models: dict[str, Any]) -> pd.DataFrame:
    """Rows: models; columns: metrics that at least one model has; cells: text "estimate (low–high)"."""
    names = [m for m in METRICS if any(m in v for v in models.values())]
    rows = {model: [interval_text(v.get(m)) for m in names] for model, v in models.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[METRICS[m] for m in names])


def interval_text(value: dict[str, float | None] | None, digits: int = 3) -> str:
    """ ".677 (.641–.712)"; a dash where there is nothing."""
    if value is None or value["estimate"] is None:
        return "–"
    estimate, low, high = (value[k] for k in ("estimate", "low", "high"))
    if low is None or high is None:
        return f"{estimate:.{digits}f}"
    return f"{estimate:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def risk_thirds(study: Study) -> list[Figure]:
    """Kaplan–Meier curves by third of the out-of-fold risk, for each model that has a photograph in it."""
    drawn = []
    frame, outcome = study.oof, study.outcome
    for model in [m for m in frame["model"].unique() if m in ("photo", "both", "clinical")]:
        group = thirds_within_fold(frame[frame["model"] == model], outcome)
        keep = group >= 0
        picture, _ = figures.kaplan_meier_figure(
            outcome.time[keep],
            outcome.event[keep],
            group[keep],
            ("Lowest third", "Middle third", "Highest third"),
            entry=None if outcome.entry is None else outcome.entry[keep],
            unit=study.cohort.time_unit,
        )
        caption = "Thirds of the out-of-fold risk, formed within folds. Bands: 95 % pointwise intervals."
        drawn.append(Figure(f"Survival by risk third: {model}", picture, caption))
    return drawn


def thirds_within_fold(frame: pd.DataFrame, outcome: Any) -> NDArray[np.intp]:
    """Third of each patient (0 = lowest risk), from ranks within the fold averaged over repeats; −1 unscored."""
    scores = scores_of(frame, outcome)
    rank = np.zeros(scores.risk.shape)
    for r, (risk, fold) in enumerate(zip(scores.risk, scores.fold)):
        rank[r] = np.where(fold >= 0, pd.Series(risk).groupby(fold).rank(pct=True), 0.0)
    times = (scores.fold >= 0).sum(axis=0)
    mean = np.divide(rank.sum(axis=0), times, out=np.full(len(times), np.nan), where=times > 0)
    third = np.full(len(mean), -1)
    scored = np.flatnonzero(~np.isnan(mean))
    third[scored] = np.floor(3 * (pd.Series(mean[scored]).rank(method="first").to_numpy() - 1) / len(scored))
    return third
