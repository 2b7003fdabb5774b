"""What each tab of the browser has in hand: in memory alone, unknown to the other tabs, gone with the tab."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from stylegan_surv.app.person import Person

MOST = 64  # tabs; beyond it the one that was idle longest goes
IDLE = 30 * 60.0  # seconds without a request after which a tab is dropped


class NoTab(InputError):
    """The tab is not known, or not any more."""


class Busy(InputError):
    """The tab has a picture in work already."""


@dataclass(eq=False)
class Tab:
    """One tab.

    Attributes
    ----------
    person : Person or None
        Whom it shows.
    used : float
        When it last asked for something, by the monotonic clock.
    stop : threading.Event or None
        Stops the work that goes on for it.
    """

    person: Person | None = None
    used: float = field(default_factory=time.monotonic)
    stop: threading.Event | None = None

    def begin(self) -> threading.Event:
        """The stop of new work; `Busy` where the former goes on."""
        if self.stop is not None and not self.stop.is_set():
            raise Busy("This tab has a picture in work; wait until it is done, or stop it.")
        self.stop = threading.Event()
        return self.stop

    def close(self) -> None:
        """Stop what goes on, and forget the picture."""
        if self.stop is not None:
            self.stop.set()
        self.person = None


class Tabs:
    """All tabs by their secret names."""

    def __init__(self) -> None:
        self.open: dict[str, Tab] = {}

    def new(self) -> str:
        """The name of a new tab."""
        self.sweep()
        while len(self.open) >= MOST:
            self.close(min(self.open, key=lambda name: self.open[name].used))
        name = secrets.token_urlsafe(16)
        self.open[name] = Tab()
        return name

    def get(self, name: str) -> Tab:
        """The tab of that name; `NoTab` where there is none."""
        if name not in self.open:
            raise NoTab(
                "This tab was idle for too long, or the server was started anew: load the page again."
            )
        tab = self.open[name]
        tab.used = time.monotonic()
        return tab

    def close(self, name: str) -> None:
        """Forget a tab."""
        if (tab := self.open.pop(name, None)) is not None:
            tab.close()

    def sweep(self) -> None:
        """Forget the tabs that were idle too long."""
        limit = time.monotonic() - IDLE
        for name in [name for name, tab in self.open.items() if tab.used < limit]:
            self.close(name)
