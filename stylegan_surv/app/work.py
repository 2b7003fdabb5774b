"""Work that takes longer than a blink: one thread for each sort of it, and news on the way."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError

Result = TypeVar("Result")
Event = tuple[str, dict[str, Any]]  # name and data of a server-sent event


class Stopped(Exception):
    """The tab that asked for the work is gone."""


class Worker:
    """One thread that does its jobs one after another; it holds up nobody's exit."""

    def __init__(self, name: str) -> None:
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.jobs.get()()

    async def do(self, job: Callable[[], Result]) -> Result:
        """The job's result, once it is its turn; what it raises is raised here."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, fault: BaseException | None) -> None:
            if future.cancelled():
                return
            if fault is None:
                future.set_result(result)  # type: ignore[arg-type]  # there is one where nothing was raised
            else:
                future.set_exception(fault)

        def run() -> None:
            result, fault = None, None
            if future.cancelled():  # nobody waits for it any more
                return
            try:
                result = job()
            except BaseException as raised:
                fault = raised
            try:
                loop.call_soon_threadsafe(settle, result, fault)
            except RuntimeError:  # the server has ended meanwhile
                return

        self.jobs.put(run)
        return await future


async def told(
    worker: Worker, job: Callable[[Progress], dict[str, Any]], stop: threading.Event
) -> AsyncIterator[str]:
    """A job as server-sent events: ``waiting``, ``progress`` and at last ``done`` or ``fault``.

    Parameters
    ----------
    worker : Worker
    job : callable
        Gets a progress callback, which raises `Stopped` once `stop` is set; returns the data of ``done``.
    stop : threading.Event
        Set where the tab goes away, and here when nobody reads on.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def progress(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped
        loop.call_soon_threadsafe(news.put_nowait, ("progress", {"done": done, "total": total}))

    def run() -> dict[str, Any]:
        progress(0, 1)
        return job(progress)

    working = asyncio.ensure_future(worker.do(run))
    try:
        yield event("waiting", {})
        while not working.done() or not news.empty():
            getting = asyncio.ensure_future(news.get())
            await asyncio.wait({getting, working}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield event(*getting.result())
            else:
                getting.cancel()
        yield event(*_end(working))
    finally:
        stop.set()
        working.cancel()


def _end(working: asyncio.Future[dict[str, Any]]) -> Event:
    try:
        return "done", working.result()
    except InputError as fault:
        return "fault", {"text": str(fault)}
    except Stopped:
        return "fault", {"text": "The work was stopped."}
    except MemoryError:
        return "fault", {"text": "This needs more memory than there is."}
    except Exception as fault:
        return "fault", {"text": f"This did not work ({type(fault).__name__})."}


def event(name: str, data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
