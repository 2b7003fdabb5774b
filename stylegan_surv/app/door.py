"""Who may come in: the tab that was opened with the printed address, and nobody else.

A server on this machine can be reached by every page that the browser has open, and by every name that somebody lets
point at 127.0.0.1 (DNS rebinding). So a request has to name the right host, come from the page itself, and carry the
token; the page may load nothing from anywhere else.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OPEN = "/healthz"  # answers without a token: it tells nothing
FRONT, REPORT = "/", "/report"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a report is a file with its own styles and script; sandboxed, it can reach nothing and is of no origin
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
HEADS = 16 * 1024  # bytes of a request's line and headers
ASK = "Open the address that `stylegan-surv app` has printed: it holds the token."


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in: HTTP status and a sentence."""

    status: int
    text: str


@dataclass(frozen=True)
class Door:
    """What a request must show.

    Attributes
    ----------
    hosts : frozenset of str
        Values of the Host header that are ours, with the port.
    port : int
    token : str
        Of the printed address, afterwards in a cookie.
    password : str
        Asked for where the server can be reached from other machines; "" on this machine alone.
    """

    hosts: frozenset[str]
    port: int
    token: str
    password: str = ""

    @classmethod
    def new(cls, host: str, port: int, password: str = "") -> Door:
        """A door with a token of its own."""
        names = LOOPBACK if not password else (f"[{host}]" if ":" in host else host,)
        return cls(frozenset(f"{name}:{port}" for name in names), port, secrets.token_urlsafe(32), password)

    @property
    def cookie(self) -> str:
        """Name of the cookie; cookies do not know ports, and two servers may run."""
        return f"stylegan-surv-{self.port}"

    def refuses(self, method: str, path: str, query: str, headers: Headers) -> Refusal | None:
        """Why a request stays outside; None lets it in."""
        host, origin = headers.getlist("host"), headers.getlist("origin")
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return Refusal(421, "This server answers under its own address alone.")
        if method not in ("GET", "HEAD", "POST"):
            return Refusal(405, "Only GET and POST are answered.")
        if origin and origin != [f"http://{host[0].lower()}"]:
            return Refusal(403, "This request comes from another page.")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and path != FRONT:  # a link to the page may stand anywhere
            return Refusal(403, "This request comes from another page.")
        if path == OPEN:
            return None
        if not self._has_token(path, query, headers):
            return Refusal(401, ASK)
        if self.password and not self._has_password(headers):
            return Refusal(401, "The password is missing or wrong.")
        return None

    def _has_token(self, path: str, query: str, headers: Headers) -> bool:
        given = parse_qs(query).get("token", []) if path == FRONT else []
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            found = None
        given += [] if found is None else [found.value]
        return any(_same(value, self.token) for value in given)

    def _has_password(self, headers: Headers) -> bool:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and _same(password, self.password)


def _same(a: str, b: str) -> bool:
    return secrets.compare_digest(a.encode(), b.encode())


class Guard:
    """Asks the door before anything else, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        reason = self.door.refuses(scope["method"], path, query, Headers(scope=scope))
        if len(scope["raw_path"]) + len(query) + sum(len(k) + len(v) for k, v in scope["headers"]) > HEADS:
            reason = Refusal(431, "The headers of this request are too long.")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(scope=message), path, message["status"])
            await send(message)

        if reason is None:
            await self.app(scope, receive, guarded)
        else:
            await PlainTextResponse(reason.text, reason.status)(scope, receive, guarded)

    def _dress(self, headers: MutableHeaders, path: str, status: int) -> None:
        headers.update(HEADERS)
        headers["content-security-policy"] = REPORT_POLICY if path == REPORT else POLICY
        if status == 401 and self.door.password:
            headers["www-authenticate"] = 'Basic realm="stylegan-surv", charset="UTF-8"'
        if path == FRONT and status == 200:
            headers.append(
                "set-cookie", f"{self.door.cookie}={self.door.token}; Path=/; HttpOnly; SameSite=Strict"
            )
