"""What the server answers: the page, its data, and edits; one method for each question of the page.

Nothing here imports a network library at its head, and no method before the study is open: the page is there while
they load.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from stylegan_surv._types import Progress
from stylegan_surv.app.door import OPEN, REPORT, Door, Guard
from stylegan_surv.app.first import first_face
from stylegan_surv.app.tabs import Busy, NoTab, Tab, Tabs
from stylegan_surv.app.work import Worker, told
from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from stylegan_surv.app.exhibit import Exhibit, Way
    from stylegan_surv.app.person import Person

MEBI = 2**20
PHOTOGRAPH = 32 * MEBI  # bytes of an upload; photographs of telephones have up to about 25
QUESTION = 64 * 1024  # bytes of any other request
HELD = 4  # uploads that are in memory at one time
TAB = "x-tab"  # a header that no other page may send without asking first
STATIC = {
    "page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "curves.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip


class TooLarge(InputError):
    """The request holds more than is accepted."""


class Full(InputError):
    """Too much is going on at once."""


STATUS: dict[type[Exception], int] = {NoTab: 410, Busy: 409, TooLarge: 413, Full: 503, InputError: 400}


class Question(NamedTuple):
    """What a request of the page says: which tab asks, and its JSON."""

    tab: Tab
    given: dict[str, Any]


def answered(method: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Turn what the visitor can mend into words, and everything else into a word without a trace."""

    @wraps(method)
    async def answer(self: Desk, request: Request) -> Response:
        try:
            return await method(self, request)
        except ClientDisconnect:
            return Response(status_code=499)
        except InputError as fault:
            status = next(code for kind, code in STATUS.items() if isinstance(fault, kind))
            return JSONResponse({"text": str(fault)}, status)
        except Exception as fault:
            self.counts["faults"] += 1
            return JSONResponse({"text": f"This did not work ({type(fault).__name__})."}, 500)

    return answer


@dataclass(eq=False)
class Desk:
    """Everything that the answers need.

    Attributes
    ----------
    folder : Path
        Of the study.
    door : Door
    photos : Path or None
        Chips of its patients, where their faces may be shown.
    tabs : Tabs
    counts : Counter
        What was asked for, how many times; the only thing that is told of it.
    """

    folder: Path
    door: Door
    photos: Path | None = None
    tabs: Tabs = field(default_factory=Tabs)
    counts: Counter[str] = field(default_factory=Counter)
    drawing: Worker = field(default_factory=lambda: Worker("drawing"))
    embedding: Worker = field(default_factory=lambda: Worker("embedding"))
    tuning: Worker = field(default_factory=lambda: Worker("tuning"))
    held: int = 0

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Load the networks from the start to the end of the server, and sweep idle tabs."""
        self.opening: asyncio.Future[Exhibit] = asyncio.ensure_future(self.drawing.do(self._open))
        sweeping = asyncio.ensure_future(self._sweep())
        yield
        sweeping.cancel()
        self.opening.cancel()
        for name in list(self.tabs.open):
            self.tabs.close(name)

    def _open(self) -> Exhibit:
        from stylegan_surv.app.exhibit import Exhibit
        from stylegan_surv.app.person import Person, introduction

        exhibit = Exhibit.open(self.folder, self.photos)
        introduction(exhibit, Person.average(exhibit))  # the first drawing takes longer than the others
        return exhibit

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(60)
            self.tabs.sweep()

    async def exhibit(self) -> Exhibit:
        """The study, once it is loaded; its `InputError` where it cannot be."""
        return await asyncio.shield(self.opening)

    async def question(self, request: Request) -> Question:
        """The tab that asks, and what it says."""
        tab = self.tabs.get(request.headers.get(TAB, ""))
        said = await body(request, QUESTION)
        try:
            given = json.loads(said or b"{}")
        except ValueError as fault:
            raise InputError(f"the request is not JSON ({fault})") from fault
        if not isinstance(given, dict):
            raise InputError(f"the request is a {type(given).__name__}; expected a JSON object")
        return Question(tab, given)

    # what the page is made of --------------------------------------------------------------------------------

    async def health(self, _request: Request) -> Response:
        """Whether the server is up."""
        return PlainTextResponse("ok")

    @answered
    async def report(self, _request: Request) -> Response:
        """The report of the study."""
        path = self.folder / "report.html"
        if not path.is_file():
            raise InputError("This study has no report.html; `stylegan-surv report` writes it.")
        return Response(path.read_bytes(), media_type="text/html")

    @answered
    async def first(self, _request: Request) -> Response:
        """The stored average face."""
        picture = first_face(self.folder)
        return Response(status_code=204) if picture is None else Response(picture, media_type="image/png")

    @answered
    async def new_tab(self, _request: Request) -> Response:
        """A tab that has just opened."""
        self.counts["tabs"] += 1
        return JSONResponse({"tab": self.tabs.new()})

    @answered
    async def close_tab(self, request: Request) -> Response:
        """A tab that goes away says its name; browsers send no headers then."""
        self.tabs.close((await body(request, QUESTION)).decode("ascii", "replace"))
        return Response(status_code=204)

    @answered
    async def study(self, request: Request) -> Response:
        """What the page says of the study."""
        self.tabs.get(request.headers.get(TAB, ""))
        exhibit = await self.exhibit()
        return JSONResponse(await self.drawing.do(exhibit.facts))

    # a person and its edits ----------------------------------------------------------------------------------

    @answered
    async def face(self, request: Request) -> Response:
        """Show the average face, with a number one that is made up, or with a `photo_id` a patient."""
        tab, given = await self.question(request)
        exhibit, seed, name = await self.exhibit(), given.get("seed"), given.get("photo_id")
        from stylegan_surv.app.person import Person, introduction

        if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**31):
            raise InputError(f"seed is {seed!r}; expected a whole number from 0")

        def show() -> dict[str, Any]:
            if name is not None:
                person = Person.patient(exhibit, str(name))
            else:
                person = Person.average(exhibit) if seed is None else Person.another(exhibit, seed)
            known = introduction(exhibit, person)
            tab.person = person
            return known

        if tab.stop is not None:
            tab.stop.set()
        return JSONResponse(await self.drawing.do(show))

    @answered
    async def photograph(self, request: Request) -> Response:
        """Embed the picture file that is the request's body; tells how far it is."""
        tab = self.tabs.get(request.headers.get(TAB, ""))
        if self.held >= HELD:
            raise Full("Other photographs are being worked on; try again in a moment.")
        stop = tab.begin()
        self.held += 1
        try:
            data = await body(request, PHOTOGRAPH)
            exhibit = await self.exhibit()
        except BaseException:
            stop.set()
            self.held -= 1
            raise

        def embed(progress: Progress) -> dict[str, Any]:
            from stylegan_surv.app.person import Person, introduction

            person = Person.of_photograph(exhibit, data, progress)
            progress(1, 1)  # a tab that has chosen another face meanwhile keeps it
            tab.person = person
            self.counts["photographs"] += 1
            return introduction(exhibit, person)

        return StreamingResponse(
            self._released(told(self.embedding, embed, stop)), media_type="text/event-stream"
        )

    async def _released(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        """The events of an upload, which is no longer held when they end."""
        try:
            async for line in events:
                yield line
        finally:
            self.held -= 1

    @answered
    async def faithful(self, request: Request) -> Response:
        """Tune a copy of the generator to the photograph; tells how far it is."""
        tab, _ = await self.question(request)
        exhibit, person = await self.exhibit(), _person(tab)
        from stylegan_surv.app.person import introduction

        stop = tab.begin()

        def tune(progress: Progress) -> dict[str, Any]:
            person.tuned = person.tune(exhibit, progress)
            self.counts["tuned"] += 1
            return introduction(exhibit, person)

        return StreamingResponse(told(self.tuning, tune, stop), media_type="text/event-stream")

    @answered
    async def stop(self, request: Request) -> Response:
        """Stop what goes on for this tab."""
        tab, _ = await self.question(request)
        if tab.stop is not None:
            tab.stop.set()
        return Response(status_code=204)

    @answered
    async def edit(self, request: Request) -> Response:
        """One step of an edit: picture and figures."""
        tab, given = await self.question(request)
        exhibit, person, step = await self.exhibit(), _person(tab), _step(given)
        from stylegan_surv.app.person import shown

        way, map_too = _way(given), given.get("difference") is True
        self.counts["edits"] += 1
        return JSONResponse(await self.drawing.do(lambda: shown(exhibit, person, way, step, map_too=map_too)))

    @answered
    async def reach(self, request: Request) -> Response:
        """How far an edit stays among usual latents."""
        tab, given = await self.question(request)
        exhibit, person, way = await self.exhibit(), _person(tab), _way(given)
        from stylegan_surv.app.person import reach

        return JSONResponse(await self.drawing.do(lambda: reach(exhibit, person, way)))

    @answered
    async def again(self, request: Request) -> Response:
        """The edited picture embedded again."""
        tab, given = await self.question(request)
        exhibit, person, way, step = await self.exhibit(), _person(tab), _way(given), _step(given)
        from stylegan_surv.app.person import again

        return JSONResponse(await self.drawing.do(lambda: again(exhibit, person, way, step)))

    @answered
    async def download(self, request: Request) -> Response:
        """A file of what is shown: strip, gif, latent or shown."""
        tab, given = await self.question(request)
        exhibit, person, way, step = await self.exhibit(), _person(tab), _way(given), _step(given)
        from stylegan_surv.app.downloads import download

        what = str(given.get("what"))
        file = await self.drawing.do(lambda: download(what, exhibit, person, way, step))
        self.counts["downloads"] += 1
        return Response(file.data, media_type=file.media_type)


async def body(request: Request, limit: int) -> bytes:
    """The body of a request, read as a stream and refused as soon as it is larger than `limit` bytes."""
    too_large = f"This is larger than {limit / MEBI:g} MB; expected a smaller file."
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > limit:
        raise TooLarge(too_large)
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > limit:
            raise TooLarge(too_large)
    return bytes(found)


def _person(tab: Tab) -> Person:
    if tab.person is None:
        raise InputError("This tab shows nobody yet; choose a face first.")
    return tab.person


def _way(given: dict[str, Any]) -> Way:
    from stylegan_surv.app.exhibit import ALL, Way

    kind: Any = str(given.get("kind"))  # Exhibit.along refuses one that there is not
    return Way(kind, str(given.get("layers", ALL)))


def _step(given: dict[str, Any]) -> float:
    from stylegan_surv.app.exhibit import REACH

    step = given.get("step")
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not abs(step) <= REACH:
        raise InputError(f"step is {step!r}; expected a number from {-REACH:g} to {REACH:g}")
    return float(step)


def _static(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """A file that is read once, so that no request names a path."""
    content = (files("stylegan_surv.app") / "static" / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def make_app(desk: Desk) -> Guard:
    """The ASGI application, behind its door."""
    asked = {
        "tab": desk.new_tab, "close": desk.close_tab, "face": desk.face, "photograph": desk.photograph,
        "faithful": desk.faithful, "stop": desk.stop, "edit": desk.edit, "reach": desk.reach, "again": desk.again,
        "download": desk.download,
    }  # fmt: skip
    told_of = {"study": desk.study, "first": desk.first}
    routes = [
        Route(OPEN, desk.health),
        Route(REPORT, desk.report),
        *(Route(f"/api/{name}", do, methods=["POST"]) for name, do in asked.items()),
        *(Route(f"/api/{name}", do) for name, do in told_of.items()),
        *(Route("/" if name == "page.html" else f"/{name}", _static(name, m)) for name, m in STATIC.items()),
    ]
    return Guard(Starlette(routes=routes, lifespan=desk.lifespan), desk.door)
