"""What the numbers say, in plain words: the first screen of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["plain", "good", "caution", "alarm"]

ASSOCIATION = (
    "The health attribute is an association in this cohort. It is not a diagnosis, and it does not show what a "
    "treatment would change."
)


@dataclass(frozen=True)
class Finding:
    """One sentence or two with a heading; `level` sets its colour and place."""

    level: Level
    title: str
    text: str


def findings(metrics: Mapping[str, Any], flow: Mapping[str, Any], flags: Sequence[str]) -> list[Finding]:
    """The first screen: what was found, how sure it is, what confounds it."""
    models = metrics["models"]
    found = [*_photo(models, flow), *_within_strata(models), *_permuted(metrics.get("controls", {}))]
    return [*found, *(Finding("caution", "Flag", flag) for flag in flags)]


def _photo(models: Mapping[str, Any], flow: Mapping[str, Any]) -> list[Finding]:
    if "photo" not in models:
        return []
    c = models["photo"]["harrell_c"]
    who = f"{flow['patients']} patients, {flow['events']} with the event"
    numbers = f"C {_number(c)}; {who}"
    if c["low"] > 0.5:
        return [Finding("plain", "The photograph ranks patients by risk better than chance", numbers + ".")]
    text = f"{numbers}. The interval includes 0.5, which is chance."
    return [Finding("plain", "No prognostic information was shown in the photograph", text)]


def _number(value: Mapping[str, float]) -> str:
    return f"{value['estimate']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})"


def _within_strata(models: Mapping[str, Any]) -> list[Finding]:
    photo = models.get("photo", {})
    if "stratified_c" not in photo:
        return []
    c, s = photo["harrell_c"]["estimate"], photo["stratified_c"]
    text = f"Compared only within strata, the photograph's C is {_number(s)} instead of {c:.3f}."
    if c > 0.5 and (c - s["estimate"]) > 0.25 * (c - 0.5):
        lost = (c - s["estimate"]) / (c - 0.5)
        text += f" {lost:.0%} of what it gains over chance comes from telling the strata apart."
        return [Finding("alarm", "The strata explain a large part of it", text)]
    return [Finding("good", "It holds within strata", text)]


def _permuted(controls: Mapping[str, Any]) -> list[Finding]:
    result = controls.get("permuted_outcomes")
    if not result:
        return []
    text = f"Over {result['n']} permutations the mean C is {result['mean']:.3f}; p = {result['p']:.3f}."
    if abs(result["mean"] - 0.5) > 0.02:
        return [Finding("alarm", "The pipeline finds signal where there is none", text)]
    return [Finding("good", "Permuted outcomes give chance", text)]
