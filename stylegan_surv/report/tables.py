"""Tables of the report: text cells from the numbers of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stylegan_surv.survival.metrics import names

Number = Mapping[str, Any]
MODELS = {
    names.AGE_SEX: "Age and sex",
    names.CLINICAL: "Clinical variables",
    names.PHOTO: "Photograph",
    names.BOTH: "Photograph + clinical",
    names.APPARENT_AGE: "Apparent age",
    names.FACE_RECOGNITION: "Face-recognition embedding",
    names.NUISANCE: "Camera and circumstances, no face",
    names.BACKGROUND: "Background pixels only",
    names.NO_FACE: "Picture with the face masked out",
}
CENSORING = {
    "km": "Kaplan–Meier curve",
    "stratified": "a curve for each stratum",
    "cox": "Cox model on the year",
}
DISCRIMINATION = {
    names.HARRELL_C: "Harrell C",
    names.UNO_C: "Uno C",
    names.STRATIFIED_C: "C within strata",
}
ACCURACY = {names.IBS: "Integrated Brier", names.IBS_SKILL: "Skill against Kaplan–Meier"}
CALIBRATION = {
    names.OE: "O/E",
    names.SLOPE: "Slope",
    names.ICI: "ICI",
    names.E50: "E50",
    names.E90: "E90",
    names.if_perfect(names.ICI): "ICI if perfect",
    names.if_perfect(names.E90): "E90 if perfect",
    names.D_CALIBRATION: "D, p",
    names.A_CALIBRATION: "A, p",
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


def in_order(models: Mapping[str, Any]) -> dict[str, Any]:
    """Models as the page lists them: baselines, the photograph, what it is set against; others after their base."""
    order = list(MODELS)
    rank = {
        name: order.index(base) if (base := names.base_of(name)) in order else len(order) for name in models
    }
    return {name: models[name] for name in sorted(models, key=rank.__getitem__)}


def metric_table(models: Mapping[str, Any], metrics: Mapping[str, str], digits: int = 3) -> pd.DataFrame:
    """Rows: models; columns: those of the metrics that some model has."""
    models = in_order(models)
    shown = [m for m in metrics if any(m in v for v in models.values())]
    rows = {
        model_name(k): [interval_text(v.get(m), 2 if m in (names.OE, names.SLOPE) else digits) for m in shown]
        for k, v in models.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[metrics[m] for m in shown])
    return table[(table != "–").any(axis=1)] if shown else table.iloc[:0]


def by_horizon(models: Mapping[str, Any], metric: str, horizons: Sequence[float], unit: str) -> pd.DataFrame:
    """`metric` at every horizon: ``auc`` or ``brier``."""
    return metric_table(models, {names.at(metric, t): f"{t:g} {unit}" for t in horizons})


def difference_table(comparisons: Mapping[str, Any]) -> pd.DataFrame:
    """Paired differences: rows are pairs of models, columns metrics."""
    shown = {
        names.UNO_C: "Uno C",
        names.STRATIFIED_C: "C within strata",
        names.IBS: "Integrated Brier (less is better)",
    }
    present = [m for m in shown if any(m in v for v in comparisons.values())]
    rows = {
        " \u2212 ".join(model_name(p) for p in pair.split(" - ")): [interval_text(v.get(m)) for m in present]
        for pair, v in comparisons.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[shown[m] for m in present])


def benefit_table(models: Mapping[str, Any], comparisons: Mapping[str, Any]) -> pd.DataFrame:
    """Net benefit at the thresholds set beforehand: models, and what the photograph adds to the clinical variables."""
    of = {m: models[m] for m in (names.CLINICAL, names.PHOTO, names.BOTH) if m in models}
    marks = sorted({k for v in of.values() for k in v if k.startswith(names.NET_BENEFIT)})
    columns = {k: k.rsplit("_", 1)[1] for k in marks}
    table = metric_table(of, columns) if marks else pd.DataFrame()
    gain = comparisons.get(names.difference(names.BOTH, names.CLINICAL), {})
    if marks and any(k in gain for k in marks):
        table.loc["Photograph + clinical \u2212 Clinical variables"] = [
            interval_text(gain.get(k)) for k in marks
        ]
    return table


def censoring_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Uno's C of the photograph by the model of the censoring."""
    rows = {CENSORING[k]: [interval_text(v)] for k, v in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["Uno C of the photograph"])


def layer_table(layers: Mapping[str, Any]) -> pd.DataFrame:
    """C of each group of latent layers alone, and of all others."""
    rows = {
        f"{name.capitalize()} layers": [interval_text(value[k]) for k in ("alone", "without")]
        for name, value in layers.items()
    }
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["C, this group alone", "C, all but this group"]
    )


def edit_table(edits: Mapping[str, Any]) -> pd.DataFrame:
    """How far the risk moves when the photograph is edited and embedded again."""
    rows = {
        name: [f"{v['moved']:.2f}", f"{v['shift']:+.2f}".replace("-", "\u2212"), f"{v['correlation']:.2f}"]
        for name, v in edits.items()
    }
    columns = ["Mean absolute change, SD", "Mean change, SD", "Correlation"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def flow_table(cohort: Mapping[str, Any], unit: str, origin: str) -> list[tuple[str, str]]:
    """From photographs to events, and the follow-up."""
    flow = cohort["flow"]
    steps = {"photos": "Photographs in the table", "aligned": "with a face", "embedded": "embedded"}
    table = [(text, f"{flow[k]:,}") for k, text in steps.items() if k in flow]
    table += [(f"left out: {reason}", f"{count:,}") for reason, count in flow.get("excluded", {}).items()]
    table += [
        ("Patients analysed", f"{flow['patients']:,}"),
        ("Patients with the event", f"{flow['events']:,}"),
        ("Median follow-up (reverse Kaplan–Meier)", f"{cohort['median_follow_up']:.3g} {unit}"),
        ("Time zero", origin or "not stated"),
    ]
    if cohort["late_entries"]:
        table.append(
            ("Photographed after time zero (left truncation)", f"{cohort['late_entries']:,} patients")
        )
    return table


def covariate_table(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The clinical columns as the models take them."""
    rows = {
        row["name"]: [
            row["kind"],
            row["coding"],
            ", ".join(row["levels"]) or "–",
            row["reference"] or "–",
            f"{row['missing']:.1%}",
            ", ".join(row["columns"]),
        ]
        for row in found
    }
    columns = ["Type", "Coding", "Levels", "Reference", "Missing", "Columns of the model"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def interaction_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Does the score tell more in some groups than in others?"""
    rows = {
        name.replace("_", " "): [
            p_text(one["p"]),
            p_text(one["p_q"]),
            ", ".join(f"{level}: {sd:.2f}" for level, sd in one["sd"].items()),
        ]
        for name, one in found.items()
    }
    columns = ["Interaction, p (Holm)", "Heterogeneity of C, p", "SD of the score within levels"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def period_table(found: Mapping[str, Any] | None) -> pd.DataFrame:
    """Hazard ratio of the score by period."""
    rows = {}
    for one in (found or {}).get("periods", []):
        when = f"after {one['start']:.3g}" if one["end"] is None else f"up to {one['end']:.3g}"
        rows[when] = [str(one["events"]), interval_text(one["hazard_ratio"], 2)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["Events", "Hazard ratio per SD"])


def characteristics(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Covariates of the patients: median and quartiles, or counts; missing ones; events per level."""
    rows: list[tuple[str, str, str, str]] = []
    for column in found:
        name, missing = column["name"], str(column["missing"])
        if "median" in column:
            middle, low, high = (f"{column[k]:.4g}" for k in ("median", "q1", "q3"))
            rows.append((name, f"median {middle} ({low} to {high})", "", missing))
            continue
        for k, level in enumerate(column["levels"]):
            text = f"{level['level']}: {level['patients']:,} ({level['share']:.0%})"
            rows.append((name if k == 0 else "", text, f"{level['events']:,}", missing if k == 0 else ""))
        if column["further_levels"]:
            rows.append(("", f"{column['further_levels']} further levels", "", ""))
    return pd.DataFrame(rows, columns=["Variable", "Value", "Events", "Missing"])
