"""Results as JSON: what a frozen dataclass holds is what the file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


class Section:
    """Mixin of dataclasses in which None means "does not apply": such fields are left out of the JSON."""


def to_json(value: Any) -> Any:
    """Nested results as JSON can hold them.

    Parameters
    ----------
    value : dataclass, mapping, sequence, array or number
        A dataclass is the mapping of its fields, unless it has a method ``record`` that returns another one.

    Returns
    -------
    dict, list, str, int, float, bool or None
        Numbers that are not finite become None.

    Examples
    --------
    >>> to_json({"c": (np.float64(0.5), float("nan"))})
    {'c': [0.5, None]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        record = getattr(value, "record", None)
        if record is not None:
            return to_json(record())
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        if isinstance(value, Section):
            held = {name: item for name, item in held.items() if item is not None}
        return to_json(held)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
