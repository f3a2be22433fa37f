"""Who may ask a server what, and the headers that every answer bears.

Three things stand between a stranger and a server on this machine. The name in `Host` must be one that the server goes
by, so that no site can have its own name point here and read the answers (DNS rebinding). What changes something must
be JSON, and from no page of another site, so that no form can send it. And where a token is set, it is asked for: of
programs as `Authorization: Bearer …`, of a browser once, in the link `/?token=…`, which leaves a cookie made from it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trajkit.live.access import Access, name_of
from trajkit.live.errors import error_object
from trajkit.live.logs import tell
from trajkit.text import clean

_log = logging.getLogger(__name__)

_OPEN = ("/health",)
"""Paths that need no token."""
_SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
_OF_PROGRAMS = "/v1/"
"""Below it only the token itself is taken, and no cookie."""
_LONGEST_PATH = 200
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files, and pictures that it holds."""
_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise."""
Refused = Callable[[int, str], object]
"""Is told of what was refused: the status, and the kind of error as OpenAI names them."""


@dataclass(eq=False)
class Guesses:
    """Slows who guesses tokens: of an address, `free` different wrong ones are answered at once, and from then on one
    every `every` seconds; whatever else comes from it meanwhile is not looked at. What was wrong before and comes again
    is no guess: a page left open by an older server."""

    free: int = 10
    every: float = 2.0
    clock: Callable[[], float] = time.monotonic
    _most: int = 1024
    _of: OrderedDict[str, _Guesser] = field(default_factory=OrderedDict)

    def wait(self, address: str) -> float:
        """Seconds for which nothing that comes from it is looked at."""
        guesser = self._of.get(address)
        return max(0.0, guesser.until - self.clock()) if guesser else 0.0

    def wrong(self, address: str, said: str) -> None:
        """It said what is not the token."""
        guesser = self._of.setdefault(address, _Guesser())
        self._of.move_to_end(address)
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        mark = hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()
        if mark in guesser.said:
            return
        guesser.said[mark] = None
        while len(guesser.said) > self.free:
            guesser.said.popitem(last=False)
        guesser.n += 1
        if guesser.n >= self.free:
            guesser.until = self.clock() + self.every


@dataclass(eq=False)
class _Guesser:
    n: int = 0
    until: float = 0.0
    said: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


def guarded(app: ASGIApp, access: Access, refused: Refused = lambda status, kind: None) -> ASGIApp:
    """An application that only who may ask reaches. refused: is told of the others."""
    guard = Guard(app, access, refused)
    if not access.origins:
        return guard
    exposed = ("X-Trajkit-Run", "X-Trajkit-Waiting", "Retry-After")
    return CORSMiddleware(guard, access.origins, ("GET", "POST", "PUT"), ("*",), expose_headers=exposed)


class Guard:
    """Answers whoever may not ask, and passes on the others."""

    def __init__(self, app: ASGIApp, access: Access, refused: Refused) -> None:
        self._app, self._access, self._refused = app, access, refused
        self._guesses = Guesses()
        token = (access.token or "").encode()
        self._cookie = hmac.new(token, b"trajkit's page", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, came, sending = Request(scope), time.monotonic(), _Sending(send)
        answer = self._misdirected(request) or self._unknown(request) or self._foreign(request)
        await (answer or self._app)(scope, receive, sending)
        if _log.isEnabledFor(logging.DEBUG):
            _tell_request(request, sending.status, time.monotonic() - came)

    def _misdirected(self, request: Request) -> Response | None:
        """An answer to who calls the server by a name that is not its own."""
        said = request.headers.getlist("host")
        name = name_of(said[0]) if len(said) == 1 else None
        if name is not None and self._access.goes_by(name):
            return None
        shown = repr(name) if name else "no name, or several"
        return self._no(421, f"this server does not go by {shown}; if it should, start it with --allow-host.")

    def _unknown(self, request: Request) -> Response | None:
        """An answer to who does not bear the token; the cookie for who followed the link."""
        if self._access.token is None or request.scope["path"] in _OPEN:
            return None
        address = request.client.host if request.client else ""
        if wait := self._guesses.wait(address):
            seconds = str(math.ceil(wait))
            message = f"too many wrong tokens came from this address; try again in {seconds} s."
            return self._no(429, message, "rate_limit_error", {"Retry-After": seconds})
        if request.scope["path"] == "/" and "token" in request.query_params:
            if self._is(request.query_params["token"], self._access.token, address):
                return self._let_in(request)
            return self._ask_for_token(request)
        return None if self._is_known(request, address) else self._ask_for_token(request)

    def _is_known(self, request: Request, address: str) -> bool:
        borne = request.headers.get("authorization")
        if borne is not None:
            scheme, _, token = borne.partition(" ")
            return scheme.lower() == "bearer" and self._is(token.strip(), self._access.token or "", address)
        cookie = request.cookies.get(_cookie_name(request))
        if cookie is None or request.scope["path"].startswith(_OF_PROGRAMS):
            return False
        return self._is(cookie, self._cookie, address)

    def _is(self, said: str, secret: str, address: str) -> bool:
        if hmac.compare_digest(said.encode("utf-8", "surrogatepass"), secret.encode()):
            return True
        self._guesses.wrong(address, said)
        return False

    def _let_in(self, request: Request) -> Response:
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(_cookie_name(request), self._cookie, httponly=True, samesite="strict", secure=secure)
        return answer

    def _ask_for_token(self, request: Request) -> Response:
        headers = {"WWW-Authenticate": "Bearer"}
        if request.scope["path"] == "/" and "text/html" in request.headers.get("accept", ""):
            self._refused(401, "authentication_error")
            message = "This page needs the server's token: open the link that was printed where it runs, …/?token=…"
            return PlainTextResponse(message, 401, headers)
        message = "this server asks for its token: Authorization: Bearer …"
        return self._no(401, message, "authentication_error", headers)

    def _foreign(self, request: Request) -> Response | None:
        """An answer to what another site's page may have sent."""
        if request.method in _SAFE:
            return None
        origin = request.headers.get("origin")
        if origin is not None and not self._is_own(origin, request):
            return self._no(403, f"pages of {origin} may not ask here; if they should, start with --allow-origin.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return self._no(415, f"send JSON, with Content-Type: application/json; got {kind or 'no type'}.")
        return None

    def _is_own(self, origin: str, request: Request) -> bool:
        own = urlsplit(origin).netloc.lower() == request.headers["host"].lower()
        return own or origin in self._access.origins

    def _no(
        self, status: int, message: str, kind: str = "invalid_request_error", headers: dict[str, str] | None = None
    ) -> Response:
        self._refused(status, kind)
        return JSONResponse(error_object(message, kind), status, headers)


def _cookie_name(request: Request) -> str:
    """Another for each port, as browsers keep one jar for all ports of a host."""
    return f"trajkit-{(request.scope.get('server') or ('', 0))[1]}"


class _Sending:
    """Sends an answer with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _tell_request(request: Request, status: int, seconds: float) -> None:
    path = clean(request.scope["path"])[:_LONGEST_PATH]
    said = {"method": request.method, "path": path, "status": status, "seconds": round(seconds, 4)}
    tell(_log, logging.DEBUG, "request", f"{request.method} {path} {status}", **said)
