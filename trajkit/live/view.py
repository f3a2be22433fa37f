"""The page and what it asks for, over any sources of runs: live ones, saved ones, or both.

Who may ask, and the headers that every answer bears, are the guard's (`live.guard`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trajkit.errors import InputError
from trajkit.live.access import Access
from trajkit.live.errors import error_object
from trajkit.live.guard import guarded
from trajkit.live.query import Numbered, Query, Row, RunSource, find
from trajkit.traces.labels import check_label

PAGE = Path(__file__).parent / "page"
STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers of answers that come bit by bit."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_QUIET = 15.0
"""Seconds without an event after which a viewer is sent a sign of life, so that nobody between drops the connection."""
_BODY = 10_000
"""Bytes that a request about a label may have."""


def page_app(sources: Sequence[RunSource], access: Access) -> ASGIApp:
    """The page alone, for any ASGI server, for whoever may ask."""
    missing = {404: not_found, 405: not_found}
    return guarded(Starlette(routes=View(sources).routes(), exception_handlers=missing), access)


async def not_found(request: Request, error: Exception) -> Response:
    """The answer to a path, or a method, that is not served."""
    status, headers = getattr(error, "status_code", 404), getattr(error, "headers", None)
    message = f"{request.method} {request.scope['path']} is not served."
    return JSONResponse(error_object(message, "invalid_request_error"), status, headers)


class View:
    """Routes of the page and its API. sources: those of one run are asked in this order, so live ones come first."""

    def __init__(self, sources: Sequence[RunSource]) -> None:
        self._sources = tuple(sources)

    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/page/{name}", self.file),
            Route("/api/runs", self.runs),
            Route("/api/runs/{id:path}/events", self.events),
            Route("/api/runs/{id:path}/label", self.label, methods=["PUT"]),
            Route("/api/runs/{id:path}", self.run),
        ]

    async def page(self, request: Request) -> Response:
        """GET /."""
        return _file("index.html")

    async def file(self, request: Request) -> Response:
        """GET /page/{name}: a file of the page."""
        return _file(request.path_params["name"])

    async def runs(self, request: Request) -> Response:
        """GET /api/runs: those that a `Query` asks for, some at a time, and what else could be asked for."""
        try:
            query = Query.parse(request.query_params.multi_items())
        except InputError as error:
            return _refused(400, str(error))
        listed = [source.rows() for source in self._sources]
        return await asyncio.to_thread(self._found, listed, query)

    async def run(self, request: Request) -> Response:
        """GET /api/runs/{id}: the whole run; of a live one, its row."""
        return await self._whole(request.path_params["id"])

    async def _whole(self, name: str) -> Response:
        for source in self._sources:
            try:
                found = await asyncio.to_thread(source.document, name)
            except InputError as error:
                return _refused(500, str(error), "server_error")
            if found is not None:
                return await asyncio.to_thread(_json, found)
        return _unknown()

    async def events(self, request: Request) -> Response:
        """GET /api/runs/{id}/events: server-sent, numbered, from `Last-Event-ID` on."""
        name, last = request.path_params["id"], request.headers.get("Last-Event-ID", "")
        start = int(last) + 1 if last.isdecimal() and len(last) < 16 else 0
        for source in self._sources:
            if (events := source.follow(name, start)) is not None:
                return _Viewed(events)
        return await self._whole(f"{name}/events")  # a run may be called so

    async def label(self, request: Request) -> Response:
        """PUT /api/runs/{id}/label: `{"label": …}`, null to take it away; answers with the row."""
        try:
            label = _label(await _body(request))
        except InputError as error:
            return _refused(400, str(error))
        name = request.path_params["id"]
        for source in self._sources:
            try:
                known = await asyncio.to_thread(source.set_label, name, label)
            except InputError as error:
                return _refused(409, str(error))
            if known and (row := next((row for row in source.rows() if row["id"] == name), None)) is not None:
                return _json(row)
        return _unknown()

    def _found(self, listed: list[Sequence[Row]], query: Query) -> Response:
        rows, known = list[Row](), set[str]()
        for each in listed:  # a run that several sources have is the first one's
            rows += [row for row in each if row["id"] not in known] if known else each
            known = {row["id"] for row in rows} if len(listed) > 1 else known
        found = find(rows, query)
        return _json(
            {
                "total": len(found.rows),
                "all": len(rows),
                "runs": found.rows[query.offset : query.offset + query.limit],
                "facets": found.facets,
                "labels": any(source.labels for source in self._sources),
                "live": any(source.live for source in self._sources),
                "trouble": " ".join(filter(None, (source.trouble for source in self._sources))),
            }
        )


class _Viewed(StreamingResponse):
    """Events as they come. Lets go of them as soon as who looks on goes, which Starlette leaves to the collector of
    garbage."""

    def __init__(self, events: AsyncGenerator[Numbered, None]) -> None:
        super().__init__(self._told(), media_type="text/event-stream", headers=STREAM)
        self._events = events
        self._coming: asyncio.Future[Numbered | None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._coming is not None:
                self._coming.cancel()
                await asyncio.wait([self._coming])
            await self._events.aclose()

    async def _told(self) -> AsyncIterator[bytes]:
        while (several := await self._next()) is not None:
            yield several

    async def _next(self) -> bytes | None:
        """Events, or a sign of life where none come; None once all were told."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(_next(self._events))
        await asyncio.wait([self._coming], timeout=_QUIET)
        if not self._coming.done():
            return b": still here\n\n"
        several, self._coming = self._coming.result(), None
        if several is None:
            return None
        return "".join(f"id: {number}\ndata: {event}\n\n" for number, event in several).encode()


async def _next(events: AsyncIterator[Numbered]) -> Numbered | None:
    return await anext(events, None)


def _file(name: str) -> Response:
    found = next((file for file in PAGE.iterdir() if file.name == name and file.suffix in _TYPES), None)
    if found is None:
        return _refused(404, "the page has no such file.")
    return Response(found.read_bytes(), media_type=_TYPES[found.suffix], headers={"Cache-Control": "no-cache"})


async def _body(request: Request) -> bytes:
    """Raises InputError for one that is too long."""
    parts = b""
    async for part in request.stream():
        parts += part
        if len(parts) > _BODY:
            raise InputError(f"the body has more than {_BODY} bytes.")
    return parts


def _label(body: bytes) -> str | None:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body must be a JSON object; it cannot be read ({error}).") from error
    if not isinstance(given, dict) or set(given) != {"label"}:
        raise InputError('the body must be {"label": …}.')
    label = given["label"]
    if label is not None and not isinstance(label, str):
        raise InputError(f"a label must be a text or null; got {label!r}.")
    check_label(label)
    return label


def _json(value: Mapping[str, Any]) -> Response:
    return JSONResponse(value)


def _unknown() -> Response:
    return _refused(404, "there is no such run, or it is no longer kept.")


def _refused(status: int, message: str, kind: str = "invalid_request_error") -> Response:
    return JSONResponse(error_object(message, kind), status)
