"""Results as JSON: what a frozen dataclass holds is what the file holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from stylegan_surv.errors import InputError

SEAL = "seal"  # key of a record's own hash


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


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with a hash of its content, by which :func:`read_sealed` sees whether it is as it was written."""
    content = to_json(record)
    return {**content, SEAL: _digest(content)}


def read_sealed(path: Path, expected: int, remedy: str = "Fit the study again.") -> dict[str, Any]:
    """The record of a file that :func:`sealed` made.

    Parameters
    ----------
    path : Path
    expected : int
        Its format version.
    remedy : str, default "Fit the study again."
        What to do about a file that cannot be used, a whole sentence.

    Raises
    ------
    InputError
        If the file is damaged, has been changed, or is of another format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{path} is damaged ({fault}). {remedy}") from fault
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, expected an object. {remedy}")
    check_format(record.get("format"), expected, path, remedy)
    seal = record.pop(SEAL, None)
    if seal != _digest(record):
        raise InputError(f"{path} is damaged: it is not as it was written. {remedy}")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_format(found: Any, expected: int, what: Path | str, remedy: str = "Fit the study again.") -> None:
    """Refuse a file of another format version with one message.

    Parameters
    ----------
    found : int or str, optional
        As the file says; None where it says nothing.
    expected : int
        What this version of the package reads.
    what : str or Path
        The file.
    remedy : str, default "Fit the study again."
        What to do about an older one, a whole sentence.

    Raises
    ------
    InputError
        If they differ.
    """
    number = int(found) if str(found).isdecimal() else None
    if number == expected:
        return
    if number is not None and number > expected:
        remedy = "A newer stylegan-surv has written it: upgrade."
    raise InputError(
        f"{what} has the format {found if number is not None else repr(found)}; expected {expected}. {remedy}"
    )


def first_fault(wrong: ValidationError) -> str:
    """The first thing that is wrong with a record, in words."""
    fault = wrong.errors()[0]
    place = ".".join(str(part) for part in fault["loc"]) or "the whole"
    if fault["type"] == "missing":
        return f"{place} is missing"
    got = repr(fault["input"])
    return f"{place} is {got if len(got) < 60 else type(fault['input']).__name__} ({fault['msg']})"
