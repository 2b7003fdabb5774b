"""Figures of the report as SVG text, drawn from the curves of ``metrics.json``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from stylegan_surv._types import Floats

Record = Mapping[str, Any]  # a part of metrics.json

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
    """The figure as an ``<svg>`` element, the same bytes for the same data.

    Names of columns and categories are the user's: a dollar sign in them is no formula.
    """
    for words in figure.findobj(Text):
        words.set_parse_math(False)
    text = io.StringIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def new_figure(width: float = 5.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """A figure in the page's style (inches)."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height))
        return figure, figure.add_subplot()


def kaplan_meier_figure(curves: Record, *, unit: str) -> str:
    """Survival curves by group with 95 % bands, and the numbers at risk.

    Parameters
    ----------
    curves : mapping
        A model of ``curves.survival``: ``ticks``, and by group ``groups`` (time, survival, low, high) and ``at_risk``.
    unit : str
        Of the times.
    """
    figure, axes = new_figure(5.6, 3.9)
    ticks = np.asarray(curves["ticks"])
    for k, (label, curve) in enumerate(curves["groups"].items()):
        time = curve["time"]
        axes.step(time, curve["survival"], where="post", color=COLOURS[k], ls=STYLES[k], label=label)
        axes.fill_between(time, curve["low"], curve["high"], step="post", color=COLOURS[k], alpha=0.15, lw=0)
    axes.set(xlim=(0, ticks[-1]), ylim=(0, 1.01), ylabel="Survival", xlabel=f"Time ({unit})", xticks=ticks)
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    _write_counts(axes, ticks, curves["at_risk"])
    return svg(figure)


def _write_counts(axes: Axes, ticks: Floats, counts: Mapping[str, Sequence[int]]) -> None:
    place = axes.get_xaxis_transform()
    axes.text(-0.3, -0.23, "At risk", transform=axes.transAxes, fontsize=8, weight="bold", ha="left")
    for i, (label, row) in enumerate(counts.items()):
        y = -0.30 - 0.065 * i
        axes.text(-0.3, y, label, transform=axes.transAxes, color=COLOURS[i], fontsize=8)
        for t, number in zip(ticks, row):
            axes.text(float(t), y, str(number), transform=place, ha="center", fontsize=8)


def interval_lines(series: Mapping[str, Record], *, xlabel: str, ylabel: str, line: float) -> str:
    """Estimates with intervals against time, one line per series; `line` marks chance or the ideal.

    Parameters
    ----------
    series : mapping of mapping
        ``time, estimate, low, high`` of each, of one length; None where nothing is known.
    xlabel, ylabel : str
    line : float
    """
    figure, axes = new_figure()
    times = next(iter(series.values()))["time"]
    span = max(times) - min(times) if len(times) > 1 else 1.0
    for k, (name, values) in enumerate(series.items()):
        at = np.asarray(times) + (k - (len(series) - 1) / 2) * 0.02 * span
        y, low, high = (np.array(values[key], float) for key in ("estimate", "low", "high"))
        # of few resamples a percentile interval may leave its estimate out
        error = np.maximum(np.stack([y - low, high - y]), 0.0)
        axes.errorbar(
            at, y, error, color=COLOURS[k], ls=STYLES[k % 4], marker="o", ms=3, capsize=2, label=name
        )
    axes.axhline(line, color="#999999", lw=0.8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return svg(figure)


def calibration_figure(curves: Mapping[str, Record], *, limit: float, title: str) -> str:
    """Smoothed observed against predicted risk, the distribution of the predictions below.

    Parameters
    ----------
    curves : mapping of mapping
        ``predicted, observed, histogram`` of each model.
    limit : float
        Largest risk on the axes; the histogram's bins divide 0 to there.
    title : str
    """
    figure, axes = new_figure(4.4, 4.4)
    axes.plot([0, limit], [0, limit], color="#999999", lw=0.8)
    height = 0.08 * limit
    for k, (name, curve) in enumerate(curves.items()):
        axes.plot(curve["predicted"], curve["observed"], color=COLOURS[k], ls=STYLES[k % 4], label=name)
        counts = np.asarray(curve["histogram"])
        edges = np.linspace(0, limit, len(counts) + 1)
        axes.step(
            edges[:-1], counts / counts.max() * height, where="post", color=COLOURS[k], lw=0.8, alpha=0.8
        )
    axes.set(xlim=(0, limit), ylim=(0, limit), xlabel="Predicted risk", ylabel="Observed risk", title=title)
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return svg(figure)


def decision_figure(
    models: Mapping[str, Sequence[float]], treat_all: Sequence[float], thresholds: Sequence[float]
) -> str:
    """Net benefit of the models against the threshold, with "all" and "none"."""
    figure, axes = new_figure()
    for k, (name, values) in enumerate(models.items()):
        axes.plot(thresholds, values, label=name, color=COLOURS[k], ls=STYLES[k % 4])
    axes.plot(thresholds, treat_all, label="Treat all", color="#777777", ls=":")
    axes.axhline(0, color="#999999", lw=0.8, label="Treat none")
    finite = np.concatenate([*(np.asarray(v, float) for v in models.values()), [0.02]])
    top = float(np.nanmax(finite))
    axes.set(ylim=(-0.15 * top, 1.15 * max(top, float(np.nanmax(np.asarray(treat_all, float))))))
    axes.set(xlabel="Threshold of predicted risk", ylabel="Net benefit")
    axes.legend(frameon=False, fontsize=8)
    return svg(figure)


def forest_figure(
    rows: Sequence[tuple[str, str, Record]], *, line: float, overall: float | None = None
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
        x, low, high = (
            np.nan if value.get(k) is None else float(value[k]) for k in ("estimate", "low", "high")
        )
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


def permutation_figure(values: Sequence[float], observed: float, *, xlabel: str, chance: float) -> str:
    """Histogram of a statistic under permutation, with the observed value."""
    figure, axes = new_figure(4.6, 2.4)
    axes.hist(values, bins=min(25, max(5, len(values) // 5)), color="#BBBBBB")
    axes.axvline(chance, color="#999999", lw=0.8)
    axes.axvline(observed, color=COLOURS[1], lw=1.6)
    axes.annotate("observed", (observed, 0.92), xycoords=("data", "axes fraction"), color=COLOURS[1], fontsize=8,
                  xytext=(4, 0), textcoords="offset points")  # fmt: skip
    axes.set(xlabel=xlabel, ylabel="Permutations")
    return svg(figure)
