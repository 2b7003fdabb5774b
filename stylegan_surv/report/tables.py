"""Tables of the report: text cells from the numbers of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stylegan_surv.survival._censoring import kaplan_meier

Number = Mapping[str, Any]
MODELS = {
    "clinical": "Clinical variables",
    "photo": "Photograph",
    "both": "Photograph + clinical",
    "nuisance": "Camera and circumstances, no face",
    "background": "Background pixels only",
    "no_face": "Picture with the face masked out",
}
DISCRIMINATION = {"harrell_c": "Harrell C", "uno_c": "Uno C", "stratified_c": "C within strata"}
ACCURACY = {"ibs": "Integrated Brier", "ibs_skill": "Skill against Kaplan–Meier"}
CALIBRATION = {
    "oe": "O/E",
    "slope": "Slope",
    "ici": "ICI",
    "e50": "E50",
    "e90": "E90",
    "d_calibration": "D, p",
    "a_calibration": "A, p",
}


def model_name(name: str) -> str:
    """ "photo/rsf" → "Photograph (rsf)"."""
    base, _, model = name.partition("/")
    return MODELS.get(base, base) + (f" ({model})" if model else "")


def interval_text(value: Number | None, digits: int = 3) -> str:
    """ "0.677 (0.641 to 0.712)", the interval in one piece; a dash where there is nothing."""
    if value is None or value["estimate"] is None:
        return "–"
    estimate, low, high = (value[k] for k in ("estimate", "low", "high"))
    text = f"{estimate:.{digits}f}"
    if low is not None and high is not None:
        text += f" ({low:.{digits}f}\u00a0to\u00a0{high:.{digits}f})"
    return text.replace("-", "\u2212")


def p_text(p: float) -> str:
    """ "0.031", or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def metric_table(models: Mapping[str, Any], metrics: Mapping[str, str], digits: int = 3) -> pd.DataFrame:
    """Rows: models; columns: those of the metrics that some model has."""
    names = [m for m in metrics if any(m in v for v in models.values())]
    rows = {
        model_name(k): [interval_text(v.get(m), 2 if m in ("oe", "slope") else digits) for m in names]
        for k, v in models.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[metrics[m] for m in names])
    return table[(table != "–").any(axis=1)] if names else table.iloc[:0]


def by_horizon(models: Mapping[str, Any], metric: str, horizons: Sequence[float], unit: str) -> pd.DataFrame:
    """`metric` at every horizon: ``auc`` or ``brier``."""
    names = {f"{metric}_{t:g}": f"{t:g} {unit}" for t in horizons}
    return metric_table(models, names)


def difference_table(comparisons: Mapping[str, Any]) -> pd.DataFrame:
    """Paired differences: rows are metrics, columns pairs of models."""
    shown = {
        "uno_c": "Uno C",
        "stratified_c": "C within strata",
        "ibs": "Integrated Brier score (less is better)",
    }
    benefit = sorted({m for v in comparisons.values() for m in v if m.startswith("net_benefit")})
    shown |= {m: f"Net benefit at a threshold of {m.rsplit('_', 1)[1]}" for m in benefit}
    present = [m for m in shown if any(m in v for v in comparisons.values())]
    columns = {
        " \u2212 ".join(model_name(p) for p in pair.split(" - ")): [interval_text(v.get(m)) for m in present]
        for pair, v in comparisons.items()
    }
    return pd.DataFrame(columns, index=[shown[m] for m in present])


def flow_table(study: Any) -> list[tuple[str, str]]:
    """From photographs to events, and the follow-up."""
    flow, outcome, cohort = study.flow, study.outcome, study.cohort
    rows = [(k, flow[k]) for k in ("photos", "aligned", "embedded") if k in flow]
    names = {"photos": "Photographs in the table", "aligned": "with a face", "embedded": "embedded"}
    table = [(names[k], f"{v:,}") for k, v in rows]
    table += [(f"left out: {reason}", f"{count:,}") for reason, count in flow.get("excluded", {}).items()]
    table += [
        ("Patients analysed", f"{flow['patients']:,}"),
        ("Patients with the event", f"{flow['events']:,}"),
    ]
    table.append(
        ("Median follow-up (reverse Kaplan–Meier)", f"{median_follow_up(outcome):.3g} {cohort.time_unit}")
    )
    table.append(("Time zero", getattr(cohort, "time_origin", "") or "not stated"))
    late = late_entries(outcome)
    if late:
        table.append(("Photographed after time zero (left truncation)", f"{late:,} patients"))
    return table


def median_follow_up(outcome: Any) -> float:
    """Median time to censoring, events counting as censored (Schemper & Smith 1996)."""
    curve = kaplan_meier(outcome.time, ~outcome.event)
    below = np.flatnonzero(curve.values[1:, 0] <= 0.5)
    return float(curve.times[below[0]]) if len(below) else float(outcome.time.max())


def late_entries(outcome: Any) -> int:
    """Patients who come under observation after time zero."""
    return 0 if outcome.entry is None else int((np.asarray(outcome.entry) > 0).sum())


def characteristics(patients: pd.DataFrame, columns: Sequence[str], event: NDArray[np.bool_]) -> pd.DataFrame:
    """Covariates of the patients: median and quartiles, or counts; missing ones; events per level."""
    rows: list[tuple[str, str, str, str]] = []
    for name in (c for c in columns if c in patients):
        values = patients[name].reset_index(drop=True)
        missing = int(values.isna().sum())
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 6:
            low, middle, high = np.nanquantile(values.astype(float), [0.25, 0.5, 0.75])
            rows.append((name, f"median {middle:.4g} ({low:.4g} to {high:.4g})", "", str(missing)))
            continue
        levels = values.astype(object).map(str, na_action="ignore")
        counts = levels.value_counts()
        for k, (level, count) in enumerate(counts.head(12).items()):
            died = int(event[(levels == level).to_numpy()].sum())
            share = f"{count:,} ({count / len(values):.0%})"
            rows.append(
                (name if k == 0 else "", f"{level}: {share}", f"{died:,}", str(missing) if k == 0 else "")
            )
        if len(counts) > 12:
            rows.append(("", f"{len(counts) - 12} further levels", "", ""))
    return pd.DataFrame(rows, columns=["Variable", "Value", "Events", "Missing"])
