"""The report of a case-control study: one self-contained HTML page, drawn from what the study has left."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure as Drawing
from PIL import Image
from safetensors import safe_open

from stylegan_surv._files import write_text
from stylegan_surv._types import Floats
from stylegan_surv.classify.later import AVERAGES, EXPLANATION
from stylegan_surv.classify.measures import predictive_values
from stylegan_surv.classify.result import read_record
from stylegan_surv.classify.sources import WORDS
from stylegan_surv.errors import InputError
from stylegan_surv.report.figures import COLOURS, STYLES, forest_figure, new_figure, svg
from stylegan_surv.report.page import Figure

PAGE = "report.html"
ZOOM = 3  # of small pictures
PAPER = 0.93  # grey that shows where a picture ends on a white page
LARGEST_LAB = 10.0  # difference that is drawn in full colour
Record = Mapping[str, Any]


def render(
    folder: str | Path,
    path: str | Path | None = None,
    *,
    prevalence: float | None = None,
    faces: bool = False,
) -> Path:
    """Draw the report of a trained study.

    Parameters
    ----------
    folder : str or Path
        As :func:`stylegan_surv.classify.study.classify` has written it.
    path : str or Path, optional
        Where to write; by default ``report.html`` in the folder.
    prevalence : float, optional
        Share of the ill where the classifier would be used, for predictive values; without it none are given, for a
        matched sample has a prevalence of its own making.
    faces : bool
        Show average faces. They are blends of real people.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the folder is no trained study, or the prevalence is outside (0, 1).
    """
    folder = Path(folder)
    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"the prevalence is {prevalence:g}; expected a share between 0 and 1.")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("stylegan_surv.classify"), PackageLoader("stylegan_surv.report")]),
        autoescape=select_autoescape(["html", "j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study = read_record(folder)
    context = {
        **study,
        "headline": study["arms"][study["main"]],
        "words": WORDS,
        "predictive": _predictive(study, prevalence),
        "prevalence": prevalence,
        "roc": _roc(study["arms"]),
        "balance_figure": _balance(study["balance"]),
        "subgroup_figure": _subgroups(study),
        "explanation": _explanation(folder, faces),
        "averages": _averages(folder, faces),
        "interval": _interval,
    }
    path = folder / PAGE if path is None else Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, environment.get_template("classify.html.j2").render(**context))
    return path


def _interval(value: Record | None, digits: int = 2) -> str:
    """Such as 0.81 (0.77–0.85)."""
    if value is None or value["estimate"] is None:
        return "not estimated"
    if value["low"] is None:
        return f"{value['estimate']:.{digits}f}"
    return f"{value['estimate']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"


def _predictive(study: Record, prevalence: float | None) -> tuple[float, float] | None:
    if prevalence is None:
        return None
    found = study["arms"][study["main"]]["operating"]
    return predictive_values(found["sensitivity"]["estimate"], found["specificity"]["estimate"], prevalence)


def _roc(arms: Record) -> Figure:
    drawing, axes = new_figure(4.4, 4.4)
    axes.plot([0, 1], [0, 1], color="#999999", lw=0.8)
    drawn = {name: arm for name, arm in arms.items() if arm["roc"] is not None}
    for k, (name, arm) in enumerate(drawn.items()):
        roc = arm["roc"]
        axes.plot(roc["false_positive"], roc["sensitivity"], color=COLOURS[k], ls=STYLES[k % 4], label=name)
        if k == 0:
            axes.fill_between(
                roc["false_positive"], roc["low"], roc["high"], color=COLOURS[k], alpha=0.15, lw=0
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 − specificity", ylabel="Sensitivity")
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    caption = "Mean over folds; the band of the first curve is pointwise, 95 %, over matched sets."
    return Figure("Receiver operating characteristic", svg(drawing), caption)


def _balance(rows: list[Record]) -> Figure:
    drawing, axes = new_figure(5.2, 0.3 * len(rows) + 0.9)
    for k, row in enumerate(reversed(rows)):
        before, after = (np.nan if row[name] is None else row[name] for name in ("before", "after"))
        axes.plot(before, k, "o", mfc="none", color=COLOURS[6], label="before" if k == 0 else None)
        axes.plot(after, k, "o", color=COLOURS[0], label="after" if k == 0 else None)
    for limit in (-0.1, 0.1):
        axes.axvline(limit, color="#999999", lw=0.6, ls=":")
    axes.axvline(0, color="#999999", lw=0.8)
    axes.set(yticks=range(len(rows)), yticklabels=[row["name"] for row in reversed(rows)])
    axes.set(xlabel="Standardised mean difference, cases minus controls")
    axes.legend(frameon=False, fontsize=8)
    return Figure("Balance", svg(drawing), "Dotted: ±0.1, within which groups count as balanced.")


def _subgroups(study: Record) -> Figure:
    rows: list[tuple[str, str, Record]] = []
    for row in study["subgroups"]:
        if not rows or rows[-1][2].get("column") != row["column"]:
            rows.append((row["column"], "", {"column": row["column"]}))
        value = {**(row["auc"] or {}), "column": row["column"]}
        rows.append((f"  {row['level']}", f"{row['cases']}/{row['controls']}", value))
    caption = "AUC of the main arm; cases/controls. Levels with fewer than 20 of either are not estimated."
    overall = study["arms"][study["main"]]["auc"]["estimate"]
    return Figure("Subgroups", forest_figure(rows, line=0.5, overall=overall), caption)


def _pictures(path: Path) -> dict[str, Floats]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _png(rgb: Floats) -> str:
    """A small picture as base64 of a PNG, enlarged."""
    levels = np.asarray(np.clip(np.round(rgb * 255), 0, 255), np.uint8)
    picture = Image.fromarray(levels)
    buffer = io.BytesIO()
    picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.BICUBIC).save(
        buffer, "PNG"
    )
    return base64.b64encode(buffer.getvalue()).decode()


def _explanation(folder: Path, faces: bool) -> Record | None:
    path = folder / f"{EXPLANATION}.json"
    if not path.exists():
        return None
    record, held = read_record(folder, path.name), _pictures(folder / f"{EXPLANATION}.safetensors")
    ground = held["face"] if faces else np.full_like(held["face"], 0.75)
    shown = {
        f"{title}, {name}s": _png(_heat(held[f"{kind}.{name}"], ground))
        for kind, title in (("cam", "Grad-CAM"), ("guided", "Guided Grad-CAM"))
        for name in ("case", "control")
    }
    return {**record, "pictures": shown}


def _heat(one: Floats, ground: Floats) -> Floats:
    """A map in red above a grey ground."""
    strength = (one / max(float(one.max()), 1e-12))[..., None]
    grey = ground.mean(axis=2, keepdims=True)
    return np.asarray(grey * (1 - strength) + strength * np.array([0.85, 0.25, 0.0]))


def _averages(folder: Path, faces: bool) -> Record | None:
    path = folder / f"{AVERAGES}.json"
    if not path.exists():
        return None
    record, held = read_record(folder, path.name), _pictures(folder / f"{AVERAGES}.safetensors")
    found = []
    for row in record["sexes"]:
        sex = row["sex"]
        shown = (
            {"Cases": _png(held[f"{sex}.case"]), "Controls": _png(held[f"{sex}.control"])} if faces else {}
        )
        names = ("difference", "low", "high")
        for name, title in zip(names, ("Difference in lightness", "Lower end of its band", "Upper end")):
            shown[title] = _png(_signed(held[f"{sex}.{name}"][..., 0]))
        shown["Beyond chance"] = _png(
            PAPER - 0.6 * held[f"{sex}.beyond"].max(axis=2, keepdims=True).repeat(3, axis=2)
        )
        found.append({**row, "pictures": shown, "shape_figure": _shape(held, sex)})
    return {"sexes": found}


def _signed(values: Floats) -> Floats:
    """Blue below zero, white at it, red above."""
    strength = np.clip(values / LARGEST_LAB, -1, 1)[..., None]
    red, blue = np.array([0.84, 0.37, 0.0]), np.array([0.0, 0.45, 0.70])  # COLOURS[1] and COLOURS[0]
    return np.asarray(PAPER - np.abs(strength) * (PAPER - np.where(strength > 0, red, blue)))


def _shape(held: Mapping[str, Floats], sex: str) -> Figure:
    mean, shift, found = held[f"{sex}.mean"], held[f"{sex}.shift"], held[f"{sex}.found"] > 0.5
    drawing: Drawing
    drawing, axes = new_figure(3.6, 3.6)
    axes.plot(*mean.T, ".", color="#AAAAAA", ms=3)
    axes.quiver(
        mean[:, 0], mean[:, 1], 5 * shift[:, 0], 5 * shift[:, 1], angles="xy", scale_units="xy", scale=1, width=0.004,
        color=[COLOURS[1] if f else COLOURS[6] for f in found],
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    caption = "Cases minus controls, five times enlarged; orange: at a false discovery rate of 5 %."
    return Figure("Landmarks", svg(drawing), caption)
