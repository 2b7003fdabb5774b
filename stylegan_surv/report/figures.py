"""Figures of the report as SVG text, drawn from plain arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stylegan_surv.survival.metrics.kaplan_meier import StepCurves, kaplan_meier
from stylegan_surv.survival.metrics.kaplan_meier import at_risk as number_at_risk
from stylegan_surv.survival.metrics.summary import round_ticks

Floats = NDArray[np.floating]
Number = Mapping[str, Any]

# Okabe & Ito (2008): told apart by colour-blind readers; line styles carry the same difference in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
STYLES = ("-", "--", "-.", ":")
_RC = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "stylegan-surv",
}


def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element, the same bytes for the same data."""
    text = io.StringIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def new_figure(width: float = 5.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """A figure in the page's style (inches)."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height))
        return figure, figure.add_subplot()


def kaplan_meier_figure(
    time: Floats,
    event: NDArray[np.bool_],
    group: NDArray[np.intp],
    labels: Sequence[str],
    *,
    entry: Floats | None = None,
    unit: str = "years",
) -> tuple[str, pd.DataFrame]:
    """Survival curves by group with 95 % intervals and the numbers at risk.

    Returns
    -------
    svg : str
    counts : DataFrame
        Numbers at risk, one row per group, one column per time.
    """
    figure, axes = new_figure(5.6, 3.9)
    ticks = round_ticks(time)
    rows = {}
    for k, label in enumerate(labels):
        m = group == k
        late = None if entry is None else entry[m]
        curve = kaplan_meier(time[m], event[m], entry=late)
        low, high = _log_log_band(curve, time[m], event[m], late)
        x = np.concatenate([[0], curve.times])
        axes.step(x, curve.values[:, 0], where="post", color=COLOURS[k], ls=STYLES[k], label=label)
        axes.fill_between(x, low, high, step="post", color=COLOURS[k], alpha=0.15, lw=0)
        rows[label] = number_at_risk(time[m], late, np.ones((m.sum(), 1)), ticks)[:, 0].astype(int)
    counts = pd.DataFrame.from_dict(rows, orient="index", columns=ticks)
    axes.set(xlim=(0, ticks[-1]), ylim=(0, 1.01), ylabel="Survival", xlabel=f"Time ({unit})", xticks=ticks)
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    _write_counts(axes, counts)
    return svg(figure), counts


def _log_log_band(
    curve: StepCurves, time: Floats, event: NDArray[np.bool_], entry: Floats | None
) -> tuple[Floats, Floats]:
    """95 % band of S(t), Greenwood's variance on the log(−log) scale (Kalbfleisch & Prentice 2002, 1.4)."""
    ones = np.ones((len(time), 1))
    d = np.bincount(np.searchsorted(curve.times, time[event]), minlength=len(curve.times))
    r = number_at_risk(time, entry, ones, curve.times)[:, 0]
    s = curve.values[1:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(d / (r * (r - d)))
        half = 1.96 * np.sqrt(greenwood) / np.log(s)
        low, high = s ** np.exp(-half), s ** np.exp(half)
    known = (s > 0) & (s < 1)
    low, high = np.where(known, low, s), np.where(known, high, s)
    return np.concatenate([[1.0], low]), np.concatenate([[1.0], high])


def _write_counts(axes: Axes, counts: pd.DataFrame) -> None:
    place = axes.get_xaxis_transform()
    axes.text(-0.3, -0.23, "At risk", transform=axes.transAxes, fontsize=8, weight="bold", ha="left")
    for i, (label, row) in enumerate(counts.iterrows()):
        y = -0.30 - 0.065 * i
        axes.text(-0.3, y, str(label), transform=axes.transAxes, color=COLOURS[i], fontsize=8)
        for t, number in row.items():
            axes.text(float(str(t)), y, str(number), transform=place, ha="center", fontsize=8)


def interval_lines(
    x: Sequence[float], series: Mapping[str, Sequence[Number]], *, xlabel: str, ylabel: str, line: float
) -> str:
    """Estimates with intervals against x, one line per series; `line` marks chance or the ideal."""
    figure, axes = new_figure()
    span = max(x) - min(x) if len(x) > 1 else 1.0
    for k, (name, values) in enumerate(series.items()):
        at = np.asarray(x) + (k - (len(series) - 1) / 2) * 0.02 * span
        y, low, high = (np.array([_value(v, key) for v in values]) for key in ("estimate", "low", "high"))
        error = np.stack([y - low, high - y])
        axes.errorbar(
            at, y, error, color=COLOURS[k], ls=STYLES[k % 4], marker="o", ms=3, capsize=2, label=name
        )
    axes.axhline(line, color="#999999", lw=0.8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return svg(figure)


def _value(number: Number, key: str) -> float:
    value = number.get(key)
    return np.nan if value is None else float(value)


def calibration_figure(curves: Mapping[str, tuple[Floats, Floats]], *, title: str) -> str:
    """Smoothed observed against predicted risk, the distribution of the predictions below."""
    figure, axes = new_figure(4.4, 4.4)
    top = max(float(np.quantile(p, 0.995)) for p, _ in curves.values()) * 1.1
    top = min(1.0, max(top, 0.05))
    axes.plot([0, top], [0, top], color="#999999", lw=0.8)
    height = 0.08 * top
    for k, (name, (predicted, observed)) in enumerate(curves.items()):
        order = np.argsort(predicted)
        inner = order[int(0.01 * len(order)) : int(np.ceil(0.99 * len(order)))]
        axes.plot(predicted[inner], observed[inner], color=COLOURS[k], ls=STYLES[k % 4], label=name)
        counts, edges = np.histogram(predicted, bins=40, range=(0, top))
        axes.step(
            edges[:-1], counts / counts.max() * height, where="post", color=COLOURS[k], lw=0.8, alpha=0.8
        )
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="Predicted risk", ylabel="Observed risk", title=title)
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return svg(figure)


def decision_figure(curves: Mapping[str, Floats], thresholds: Floats) -> str:
    """Net benefit against the threshold, with "all" and "none"."""
    figure, axes = new_figure()
    for k, (name, values) in enumerate(curves.items()):
        colour, dash = ("#777777", ":") if name == "Treat all" else (COLOURS[k], STYLES[k % 4])
        axes.plot(thresholds, values, label=name, color=colour, ls=dash)
    axes.axhline(0, color="#999999", lw=0.8, label="Treat none")
    finite = np.concatenate([v for name, v in curves.items() if name != "Treat all"])
    top = float(np.nanmax(np.concatenate([finite, [0.02]])))
    axes.set(ylim=(-0.15 * top, 1.15 * max(top, float(np.nanmax(curves["Treat all"])))))
    axes.set(xlabel="Threshold of predicted risk", ylabel="Net benefit")
    axes.legend(frameon=False, fontsize=8)
    return svg(figure)


def forest_figure(
    rows: Sequence[tuple[str, str, Number]], *, line: float, overall: float | None = None
) -> str:
    """A forest plot: label, counts and estimate with interval; rows without an estimate are shown as such."""
    figure, axes = new_figure(6.4, 0.28 * len(rows) + 0.9)
    for i, (label, counts, value) in enumerate(rows):
        y = len(rows) - i
        indent = 0.02 * (len(label) - len(label.lstrip()))
        axes.text(
            -0.62 + indent,
            y,
            label.strip(),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            weight="normal" if indent else "bold",
        )
        axes.text(-0.03, y, counts, transform=axes.get_yaxis_transform(), va="center", ha="right", fontsize=8)
        if value.get("estimate") is None:
            note = "too few events" if counts else ""
            axes.text(
                0.02, y, note, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color="#777777"
            )
            continue
        x, low, high = (_value(value, key) for key in ("estimate", "low", "high"))
        axes.plot([low, high], [y, y], color=COLOURS[0], lw=1.2)
        axes.plot(x, y, "s", color=COLOURS[0], ms=4)
        text = f"{x:.2f} ({low:.2f}–{high:.2f})"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.axvline(line, color="#999999", lw=0.8)
    if overall is not None:
        axes.axvline(overall, color=COLOURS[0], lw=0.8, ls=":")
    axes.set(yticks=[], ylim=(0.4, len(rows) + 0.6), xlabel="C")
    axes.spines["left"].set_visible(False)
    return svg(figure)


def permutation_figure(values: Floats, observed: float, *, xlabel: str, chance: float) -> str:
    """Histogram of a statistic under permutation, with the observed value."""
    figure, axes = new_figure(4.6, 2.4)
    axes.hist(values, bins=min(25, max(5, len(values) // 5)), color="#BBBBBB")
    axes.axvline(chance, color="#999999", lw=0.8)
    axes.axvline(observed, color=COLOURS[1], lw=1.6)
    axes.annotate("observed", (observed, 0.92), xycoords=("data", "axes fraction"), color=COLOURS[1], fontsize=8,
                  xytext=(4, 0), textcoords="offset points")  # fmt: skip
    axes.set(xlabel=xlabel, ylabel="Permutations")
    return svg(figure)
