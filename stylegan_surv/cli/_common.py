"""What several commands share: the progress bar and JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield ``report(done, total)``; draws a bar with rate and remaining time on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None, rate="")

        def report(done: int, total: int) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield report


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
    help="How the table calls one of our columns, such as time=os_months; may be given several times.",
)
