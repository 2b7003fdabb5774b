"""Start the server on this machine, say where it is, and end at once when asked to."""

from __future__ import annotations

import ipaddress
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stylegan_surv.errors import InputError

METRICS = "metrics.json"


@dataclass(frozen=True)
class ServeSettings:
    """Where the page is to be had.

    Attributes
    ----------
    port : int
        0 takes a free one.
    host : str
        A name or address of this machine; other machines reach it where it is not the loopback.
    password : str
        Needed for any host that is not the loopback.
    browser : bool
        Open the page in the browser.
    photos : Path or None
        Chips of the study's patients: their faces may be shown. None shows none.
    """

    port: int = 0
    host: str = "127.0.0.1"
    password: str = ""
    browser: bool = True
    photos: Path | None = None

    def __post_init__(self) -> None:
        if not _loopback(self.host) and not self.password:
            raise InputError(
                f"host is {self.host}: other machines could reach the page; give a password as well, or leave host "
                "out and use the page on this machine"
            )
        if self.host in ("0.0.0.0", "::", ""):
            raise InputError(
                f"host is {self.host or 'empty'}: expected the name or address under which browsers are to reach the "
                "page, for it answers under no other"
            )


def serve(folder: str | Path, settings: ServeSettings, say: Callable[[str], None]) -> dict[str, int]:
    """Serve the page of a study until the process is interrupted.

    Parameters
    ----------
    folder : str or Path
        That `fit` wrote.
    settings : ServeSettings
    say : callable
        Gets one line with the address and its token as soon as the page answers.

    Returns
    -------
    dict of int
        How many tabs, photographs, edits and faults there were.

    Raises
    ------
    InputError
        If there is no study, the port is taken, or starlette and uvicorn are not installed.
    """
    folder = Path(folder)
    if not (folder / METRICS).is_file():
        raise InputError(f"there is no {METRICS} in {folder}; give a folder that `fit` or `demo` wrote")
    try:
        import uvicorn

        from stylegan_surv.app.door import HEADS, Door
        from stylegan_surv.app.routes import Desk, make_app
    except ImportError as missing:
        raise InputError(
            f"the page needs {missing.name}, which is not installed: pip install 'stylegan-surv[app]'"
        ) from missing

    listening = _listen(settings)
    port = listening.getsockname()[1]
    door = Door.new(settings.host, port, settings.password)
    desk = Desk(folder, door, settings.photos)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{name}:{port}/?token={door.token}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(address)
            if settings.browser:
                webbrowser.open(address)

    config = uvicorn.Config(
        make_app(desk), log_level="critical", access_log=False, server_header=False, proxy_headers=False, ws="none",
        http="h11", loop="asyncio", h11_max_incomplete_event_size=HEADS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        Server(config).run([listening])
    except KeyboardInterrupt:  # uvicorn hands it on after it has ended in order
        pass
    finally:
        listening.close()
    return dict(desk.counts)


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as fault:
        raise InputError(
            f"{settings.host}:{settings.port} cannot be used ({fault}); give another --port, or 0 for a free one"
        ) from fault
    return listening


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
