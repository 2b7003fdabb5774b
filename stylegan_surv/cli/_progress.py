"""How far a long step has come: a bar on a terminal, a line every half minute anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from stylegan_surv._types import Progress as Report

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 30.0  # seconds between two lines


@contextmanager
def progress_bar(description: str) -> Iterator[Report]:
    """Yield ``report(done, total)``; draws how far it is on standard error, with rate and remaining time.

    Nothing is drawn before the first report, and work that ends well ends at its total.
    """
    shown = _Bar(description) if sys.stderr.isatty() else _Lines(description)
    try:
        yield shown.report
        shown.finish()
    finally:
        shown.close()


class _Lines:
    """A line every half minute, for log files; none where the work takes less."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.start = self.said = time.monotonic()
        self.first: int | None = None

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.start, self.first = now, done
        if now - self.said < EVERY:
            return
        self.said = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        left = f", {rate:.2g}/s, {_duration((total - done) / rate)} left" if rate > 0 else ""
        click.echo(f"{self.description}: {done} of {total}{left}", err=True)

    def finish(self) -> None:
        if self.said > self.start:  # who has read lines wants the last one
            click.echo(f"{self.description}: done in {_duration(time.monotonic() - self.start)}", err=True)

    def close(self) -> None:
        """Nothing is open."""


class _Bar:
    """A bar on a terminal."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: Progress | None = None

    def report(self, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = _drawn()
            self.bar.start()
            self.bar.add_task(self.description, total=total, rate="")
        (task,) = self.bar.tasks
        rate = f"{task.speed:.1f}/s" if task.speed else ""
        self.bar.update(task.id, completed=done, total=total, rate=rate)

    def finish(self) -> None:
        if self.bar is not None:
            (task,) = self.bar.tasks
            self.bar.update(task.id, completed=task.total or task.completed)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _drawn() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    return Progress(*columns, rate, TimeRemainingColumn(), console=Console(stderr=True))


def _duration(seconds: float) -> str:
    """Such as 45 s, 12 min, 3.5 h.

    >>> _duration(45), _duration(750), _duration(12600)
    ('45 s', '12 min', '3.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
