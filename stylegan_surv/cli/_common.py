"""What several commands share: the progress bar and JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


columns_option = click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_pairs,
    metavar="NAME=COLUMN",
    help="How the table calls one of our columns, such as time=os_months; may be given several times.",
)
