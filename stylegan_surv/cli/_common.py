"""What several commands share: JSON output, options of tables, defaults of settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort

Command = TypeVar("Command", bound=Callable[..., Any])
TIME_UNITS = ("years", "months", "weeks", "days")


def echo_json(record: dict[str, Any]) -> None:
    """Print one JSON object on one line of standard output."""
    click.echo(json.dumps(record, allow_nan=False, default=float))


def names(_ctx: click.Context, _param: click.Parameter, text: str) -> list[str]:
    """Callback: names with commas between, as a list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _pairs(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        ours, mark, theirs = text.partition("=")
        if not mark or not ours or not theirs:
            raise click.BadParameter(f"{text!r}; expected NAME=COLUMN, such as time=os_months")
        pairs[ours] = theirs
    return pairs


def _read_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Callback: the options in a YAML file become the command's defaults; those on the command line win."""
    if path is None:
        return None
    import yaml

    from stylegan_surv.errors import InputError

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InputError(f"there is no configuration {path}; give the path of a YAML file") from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise InputError(f"{path} is no YAML file: {fault}") from fault
    known = {o.opts[0].lstrip("-"): o for o in ctx.command.params if isinstance(o, click.Option)}
    if not isinstance(given, dict) or set(given) - set(known):
        wrong = sorted(set(given) - set(known)) if isinstance(given, dict) else given
        raise InputError(f"{path} holds {wrong}; expected options of the command: {', '.join(sorted(known))}")
    defaults = {str(known[name].name): _as_text(value, known[name].multiple) for name, value in given.items()}
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _as_text(value: Any, several: bool) -> Any:
    """A YAML value as it would stand on the command line: lists with commas, mappings as NAME=VALUE."""
    if isinstance(value, dict):
        return [f"{k}={v}" for k, v in value.items()]
    if isinstance(value, list):
        return [str(v) for v in value] if several else ",".join(map(str, value))
    return value


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=_read_config,
    help="YAML file with options of this command; those on the command line win.",
)
columns_option = click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_pairs,
    metavar="NAME=COLUMN",
    help="Say how the table calls one of our columns, such as time=os_months; may be given several times.",
)


other_networks_option = click.option(
    "--other-networks",
    is_flag=True,
    help="Score latents of another generator or encoder than the model's all the same.",
)


force_option = click.option("--force", is_flag=True, help="Replace the output if it exists.")


@dataclass(frozen=True)
class TableOptions:
    """How a clinical table is to be read.

    Attributes
    ----------
    columns : mapping of str to str
        Our name to the table's name.
    time_unit : {"years", "months", "weeks", "days"}
    time_origin : str
        What time zero is, in words.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: str = TIME_UNITS[0]
    time_origin: str = ""

    def read(
        self, table: str | Path, photos: str | Path | None = None, *, check_photos: bool = True
    ) -> Cohort:
        """The cohort; the parameters are those of ``read_cohort``."""
        from stylegan_surv.cohort import read_cohort

        return read_cohort(
            table,
            photos,
            columns=self.columns,
            time_unit=self.time_unit,
            time_origin=self.time_origin,
            check_photos=check_photos,
        )


def table_options(command: Command) -> Command:
    """The options of every command that reads a clinical table; the command gets them as ``reading``."""
    options = (
        columns_option,
        click.option(
            "--time-unit",
            type=click.Choice(TIME_UNITS),
            default=TableOptions.time_unit,
            show_default=True,
            help="Read times in this unit.",
        ),
        click.option(
            "--time-origin",
            default=TableOptions.time_origin,
            help="Say what time zero is, in words: diagnosis, start of treatment. [default: not stated]",
        ),
    )
    return gathered(TableOptions, "reading", options)(command)


def setting(cls: type, name: str, *flags: str, **how: Any) -> Callable[[Command], Command]:
    """An option for a field of a settings dataclass; its default is the field's.

    Parameters
    ----------
    cls : type
        The dataclass.
    name : str
        Of the field.
    *flags : str
        By default ``--name``.
    **how : object
        Further arguments of ``click.option``.
    """
    (default,) = (f.default for f in fields(cls) if f.name == name)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    shown = {"show_default": default not in (None, "") and default is not False} | how
    flags = flags or (f"--{name.replace('_', '-')}",)
    return click.option(*flags, name, default=default, **shown)


def gathered(
    cls: Callable[..., Any], into: str, options: Sequence[Callable[[Any], Any]]
) -> Callable[[Command], Command]:
    """A decorator that adds options and hands their values over as one object.

    Parameters
    ----------
    cls : callable
        Made of the values, by their names.
    into : str
        Name under which the command gets the object.
    options : sequence of decorators
        As ``click.option`` makes them.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            values = {name: given.pop(name) for name in wanted}
            return command(*args, **{into: cls(**values)}, **given)

        before = len(getattr(run, "__click_params__", ()))
        decorated: Any = run
        for option in reversed(options):
            decorated = option(decorated)
        wanted = [parameter.name for parameter in decorated.__click_params__[before:]]
        return decorated  # type: ignore[no-any-return]

    return decorate
