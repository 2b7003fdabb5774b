"""Settings of a training run as checked models: what is wrong with them, said setting by setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stylegan_surv.errors import InputError

# a setting's value as YAML or Python gives it; `check_settings` decides whether it is one
Setting: TypeAlias = "bool | int | float | str | Sequence[Setting] | Mapping[str, Setting] | None"
SHOWN = 60  # characters of a wrong value that a message repeats
SUGGESTED = 3  # names that are like an unknown one


class SettingsGroup(BaseModel):
    """A group of settings: nothing unknown is accepted, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=SettingsGroup)


def check_settings(model: type[Model], raw: Mapping[str, Any], origin: str) -> Model:
    """Settings from plain values.

    Parameters
    ----------
    model : type of SettingsGroup
        What is expected.
    raw : mapping of str to Any
        Settings by name, groups as mappings of their own.
    origin : str
        Where they come from, for the message.

    Raises
    ------
    InputError
        Naming each setting that is unknown (with known ones that are like it), missing or out of range.
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as wrong:
        lines = [
            _unknown(model, e["loc"])
            if e["type"] == "extra_forbidden"
            else _line(e["loc"], e["msg"], e["input"])
            for e in wrong.errors()
        ]
        raise InputError(f"{origin} has {len(lines)} wrong settings: " + "; ".join(lines)) from wrong


def _line(place: Sequence[int | str], message: str, got: object) -> str:
    if not place or isinstance(
        got, dict
    ):  # a whole group is not shown: the message names what is wrong with it
        return f"{'.'.join(map(str, place))}: {message}".removeprefix(": ")
    shown = repr(got)
    return f"{'.'.join(map(str, place))}: {message} (got {shown[:SHOWN]}{'…' if len(shown) > SHOWN else ''})"


def _unknown(model: type[BaseModel], place: Sequence[int | str], full: str | None = None) -> str:
    """A setting that does not exist, beside those of its group that are like it."""
    group: type[BaseModel] | None = model
    for name in place[:-1]:
        group = None if group is None else group_of(group, str(name))
    known = [] if group is None else list(group.model_fields)
    like = get_close_matches(str(place[-1]), known, SUGGESTED, cutoff=0.5)
    hint = f"did you mean {' or '.join(like)}?" if like else f"there are {', '.join(known)}"
    return f"there is no setting {full or '.'.join(map(str, place))}; {hint}"


def group_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a group among a model's settings; None where ``name`` is no group."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def override(model: type[SettingsGroup], raw: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Settings with some of them replaced, as the command line gives them.

    >>> from stylegan_surv.gan.training.recipe import Recipe
    >>> override(Recipe, {"adversarial": {"weight": 1}}, ["adversarial.weight=0.5", "features=null"])
    {'adversarial': {'weight': 0.5}, 'features': None}

    Parameters
    ----------
    model : type of SettingsGroup
        What the settings are of.
    raw : mapping of str to Any
        Settings by name.
    changes : sequence of str
        ``NAME=VALUE`` each, or ``GROUP.NAME=VALUE``; the value is YAML. Later ones win.

    Raises
    ------
    InputError
        If one is not of this form, does not exist, or lies in a group that the settings switch off: it would do
        nothing.
    """
    made = dict(raw)
    for text in changes:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise InputError(f"{text!r} is no setting; expected NAME=VALUE, such as adversarial.weight=0.5")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as fault:
            raise InputError(f"{text!r}: the value is not YAML") from fault
        made = _replaced(model, made, name.split("."), parsed, name)
    return made


def _replaced(
    model: type[BaseModel], raw: Mapping[str, Any], path: Sequence[str], value: object, full: str
) -> dict[str, Any]:
    head, *rest = path
    if head not in model.model_fields:
        raise InputError(_unknown(model, [head], full))
    if not rest:
        return {**raw, head: value}
    group = group_of(model, head)
    if group is None:
        raise InputError(f"{full}: {head} is no group of settings; give {head}=VALUE")
    default = model.model_fields[head].default
    before = raw.get(head, {} if isinstance(default, BaseModel) else default)
    if before is None:
        raise InputError(
            f"{full} would do nothing: {head} is null here. Switch it on with {head}={{}} before it"
        )
    return {**raw, head: _replaced(group, before, rest, value, full)}
