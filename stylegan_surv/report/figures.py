"""Figures of the report as SVG text, drawn from plain arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stylegan_surv.survival._censoring import StepCurves, kaplan_meier
from stylegan_surv.survival._censoring import at_risk as number_at_risk

Floats = NDArray[np.floating]

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
    ticks = _round_ticks(float(np.quantile(time, 0.98)))
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
    axes.legend(frameon=False, loc="lower left")
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
    axes.text(-0.16, -0.23, "At risk", transform=axes.transAxes, fontsize=8, weight="bold", ha="left")
    for i, (label, row) in enumerate(counts.iterrows()):
        y = -0.30 - 0.065 * i
        axes.text(-0.16, y, str(label), transform=axes.transAxes, color=COLOURS[i], fontsize=8)
        for t, number in row.items():
            axes.text(float(str(t)), y, str(number), transform=place, ha="center", fontsize=8)


def _round_ticks(end: float, about: int = 6) -> Floats:
    step = end / about
    size = 10.0 ** np.floor(np.log10(step))
    step = size * next(k for k in (1, 2, 2.5, 5, 10) if k * size >= step)
    return np.asarray(np.arange(0, end + 1e-9, step))
