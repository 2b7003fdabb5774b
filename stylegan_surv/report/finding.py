"""One sentence or two of the first screen, and how numbers stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Level = Literal["plain", "good", "caution", "alarm"]
Topic = Literal["found", "sure", "confounds"]
TOPICS: tuple[Topic, ...] = ("found", "sure", "confounds")
LEVELS: tuple[Level, ...] = ("plain", "alarm", "caution", "good")  # the worst news first
Number = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One heading with a sentence or two; `level` sets its colour, `topic` its place."""

    topic: Topic
    level: Level
    title: str
    text: str


def number(value: Number, digits: int = 3) -> str:
    """ ".677 (95 % interval .641 to .712)", or the estimate alone."""
    if value.get("estimate") is None:
        return "not available"
    if value.get("low") is None or value.get("high") is None:
        return f"{value['estimate']:.{digits}f}"
    low, high = (f"{value[k]:.{digits}f}" for k in ("low", "high"))
    return f"{value['estimate']:.{digits}f} (95 % interval {low} to {high})".replace("-", "\u2212")


def has_interval(value: Number | None) -> TypeGuard[Number]:
    """Whether a number is there with both ends of its interval."""
    return value is not None and all(value.get(k) is not None for k in ("estimate", "low", "high"))


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
