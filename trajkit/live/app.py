"""The server: OpenAI's API over an engine, and what looks on.

Generation never waits for a client: events of a run pass through a queue without a bound, a few bytes a token, and a
client that goes takes its run with it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trajkit.errors import InputError
from trajkit.live.generation import Begun, Ended, Engine, Event, Explained, Failed, Running, Text, Unexplained
from trajkit.live.history import History, RunLog
from trajkit.live.metrics import CONTENT_TYPE, Metrics
from trajkit.live.places import Full, Places
from trajkit.live.request import ChatRequest, parse_request
from trajkit.live.wire import DONE, Answer, error_object, sse, step_object

_log = logging.getLogger(__name__)
_OPEN = ("/health",)
"""Paths that need no token."""
_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Limits:
    """runs: at once. waiting: requests that may wait for a place. seconds: a run may take, from when it has its place;
    then it is stopped, and what there is of it answered. body: bytes of a request."""

    runs: int = 1
    waiting: int = 32
    seconds: float = 600.0
    body: int = 64 * 2**20


@dataclass(eq=False)
class Server:
    """An engine, and what is known of its runs. token: what requests must bear, None for nothing."""

    engine: Engine
    limits: Limits = Limits()
    token: str | None = None
    history: History = field(default_factory=History)
    metrics: Metrics = field(default_factory=Metrics)
    closing: bool = False

    def __post_init__(self) -> None:
        self.places = Places(self.limits.runs, self.limits.waiting)
        self._open = set[Running]()

    def app(self) -> Starlette:
        """The application, for any ASGI server."""
        routes = [
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/health", self.health),
            Route("/metrics", self.tell_metrics),
            Route("/api/runs", self.runs),
            Route("/api/runs/{id}/events", self.events),
        ]
        middleware = [Middleware(_Guard, token=self.token)]
        return Starlette(routes=routes, middleware=middleware, exception_handlers={404: _not_found, 405: _not_found})

    def shut_down(self) -> None:
        """Take no further requests and stop the runs that there are; their clients get what there is of them."""
        self.closing = True
        for running in list(self._open):
            running.cancel()

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        try:
            asked = await asyncio.to_thread(self._checked, await self._body(request))
        except InputError as error:
            return self._refuse(400, str(error), "invalid_request_error")
        if self.closing:
            return self._refuse(503, "the server is shutting down.", "server_error")
        if self.places.full:
            message = f"{self.places.n} runs are under way and {self.places.waiting} requests wait; try again later."
            return self._refuse(429, message, "rate_limit_error", {"Retry-After": "5"})
        log = self.history.begin({"question": asked.chat.question, "model": self.engine.name})
        headers = {"X-Trajkit-Run": log.id, "X-Trajkit-Waiting": str(self.places.waiting)}
        answer = Answer(log.id, self.engine.name, asked.wish.effects, asked.token_ids)
        if asked.stream:
            chunks = self._chunks(asked, answer, log)
            return StreamingResponse(chunks, media_type="text/event-stream", headers=headers | _STREAM)
        return await self._whole(request, asked, answer, log, headers)

    def _checked(self, body: bytes) -> ChatRequest:
        """What is asked for; not in the loop's thread, as images are decoded. Raises InputError."""
        asked = parse_request(body)
        self.engine.check(asked)
        return asked

    async def _body(self, request: Request) -> bytes:
        """Raises InputError for one that is too long."""
        parts, n = [], 0
        async for part in request.stream():
            n += len(part)
            if n > self.limits.body:
                raise InputError(f"the body has more than {self.limits.body / 2**20:.0f} MB; send smaller images.")
            parts.append(part)
        return b"".join(parts)

    async def _whole(
        self, request: Request, asked: ChatRequest, answer: Answer, log: RunLog, headers: dict[str, str]
    ) -> Response:
        working = asyncio.ensure_future(self._gather(asked, answer, log))
        leaving = asyncio.ensure_future(_gone(request))
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not working.done():
            working.cancel()
        try:
            last = await working
        except asyncio.CancelledError:
            return Response(status_code=499)
        except Full as full:
            return self._refuse(429, f"{full}; try again later.", "rate_limit_error", {"Retry-After": "5"})
        if isinstance(last, Failed):
            return self._failed(last)
        return JSONResponse(answer.whole(last), headers=headers)

    async def _gather(self, asked: ChatRequest, answer: Answer, log: RunLog) -> Ended | Failed:
        async for event in self._events(asked, log):
            if isinstance(event, Failed):
                return event
            answer.chunk(event)
            if isinstance(event, Ended):
                return event
        raise AssertionError("a run tells how it ends")

    async def _chunks(self, asked: ChatRequest, answer: Answer, log: RunLog) -> AsyncIterator[bytes]:
        try:
            async for event in self._events(asked, log):
                if isinstance(event, Failed):
                    yield sse(error_object(event.message, _kind(event)))
                else:
                    yield sse(answer.chunk(event))
                if isinstance(event, Ended) and asked.include_usage:
                    yield sse(answer.usage(event))
        except Full as full:
            yield sse(error_object(f"{full}; try again later.", "rate_limit_error"))
        yield DONE

    async def _events(self, asked: ChatRequest, log: RunLog) -> AsyncIterator[Event]:
        """The events of a run, which is stopped when nobody asks for the next."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
        came = time.monotonic()
        self.metrics.waiting.set(self.places.waiting + 1)
        running: Running | None = None
        outcome = "left"
        try:
            async with self.places.one():
                self.metrics.waiting.set(self.places.waiting)
                self.metrics.running.inc()
                log.about["state"] = "running"
                limit = loop.call_later(self.limits.seconds, lambda: running.cancel() if running else None)
                try:
                    running = self.engine.begin(asked, partial(_put, loop, queue))
                    self._open.add(running)
                    async for event in self._told(queue, log, came):
                        yield event
                        if isinstance(event, Failed):
                            outcome = "failed"
                        elif isinstance(event, Ended):
                            outcome = "stopped" if event.stopped else "ended"
                finally:
                    limit.cancel()
                    self.metrics.running.dec()
                    if running is not None:
                        running.cancel()
                        self._open.discard(running)
        finally:
            self.metrics.waiting.set(self.places.waiting)
            self.metrics.requests.labels(outcome).inc()
            if not log.over:
                log.about["state"] = "stopped"
                log.add("end", {"stopped": True, "reason": "the client went away"})
            _log.info("run %s %s after %.1f s", log.id, outcome, time.monotonic() - came)

    async def _told(self, queue: asyncio.Queue[Event], log: RunLog, came: float) -> AsyncIterator[Event]:
        """Events as they come, told to the log and counted."""
        places: list[list[int]] = []
        while True:
            event = await queue.get()
            if isinstance(event, Begun):
                places = event.regions.boxes
                height, width = event.regions.labels.shape
                log.add("start", {"boxes": places, "height": height, "width": width} | log.about)
            elif isinstance(event, Text):
                if event.text:
                    log.add("text", {"kind": event.kind, "text": event.text, "attempt": event.attempt})
            elif isinstance(event, Explained):
                self._count(event, log, came)
                log.add("step", step_object(event.step, "all", places))
            elif isinstance(event, Unexplained):
                _log.warning("run %s: %s", log.id, event.message)
                log.add("unexplained", {"message": event.message})
            elif isinstance(event, Ended):
                self.metrics.tokens.inc(event.tokens)
                log.about["state"] = "stopped" if event.stopped else "ended"
                log.add("end", {"stopped": event.stopped, "reason": event.reason})
            else:
                log.about["state"] = "failed"
                log.add("end", {"stopped": True, "reason": event.message})
            yield event
            if isinstance(event, Ended | Failed):
                return

    def _count(self, event: Explained, log: RunLog, came: float) -> None:
        step, about = event.step, log.about
        if about["steps"] == 0:
            self.metrics.first_step.observe(time.monotonic() - came)
        about["steps"] += 1
        self.metrics.steps.inc()
        self.metrics.delay.observe(step.delay)
        if step.alarm and about["alarm"] is None:
            about["alarm"] = step.index
            self.metrics.alarms.inc()
        if step.decision is not None:
            self.metrics.decisions.labels(step.decision.action).inc()

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        one = {"id": self.engine.name, "object": "model", "created": 0, "owned_by": "trajkit"}
        return JSONResponse({"object": "list", "data": [one | {"trajkit": self.engine.facts()}]})

    async def health(self, request: Request) -> Response:
        """GET /health: 200 while requests are taken."""
        state = {"running": self.places.taken, "waiting": self.places.waiting}
        return JSONResponse({"status": "closing" if self.closing else "ok"} | state, 503 if self.closing else 200)

    async def tell_metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def runs(self, request: Request) -> Response:
        """GET /api/runs: the latest, the newest first."""
        return JSONResponse({"runs": self.history.latest(200)})

    async def events(self, request: Request) -> Response:
        """GET /api/runs/{id}/events: server-sent, numbered, from `Last-Event-ID` on."""
        log = self.history.get(request.path_params["id"])
        if log is None:
            return self._refuse(404, "there is no such run, or it is no longer kept.", "invalid_request_error")
        last = request.headers.get("Last-Event-ID", "")
        start = int(last) + 1 if last.isdecimal() else 0

        async def told() -> AsyncIterator[bytes]:
            async for number, event in log.follow(start):
                yield f"id: {number}\ndata: {event}\n\n".encode()

        return StreamingResponse(told(), media_type="text/event-stream", headers=_STREAM)

    def _failed(self, event: Failed) -> Response:
        return self._refuse(500 if event.internal else 400, event.message, _kind(event))

    def _refuse(self, status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> Response:
        self.metrics.requests.labels("refused").inc()
        return JSONResponse(error_object(message, kind), status, headers)


def _put(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Event], event: Event) -> None:
    """Hand an event of another thread to the loop; once that is closed nobody listens."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, event)


def _kind(event: Failed) -> str:
    return "server_error" if event.internal else "invalid_request_error"


async def _gone(request: Request) -> None:
    """Return once the client has gone."""
    try:
        while not await request.is_disconnected():
            await asyncio.sleep(0.2)
    except ClientDisconnect:
        return


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse(
        error_object(f"{request.method} {request.url.path} is not served.", "invalid_request_error"), status
    )


class _Guard:
    """Lets requests through that bear the token."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._token is None or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        borne = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(borne, b"Bearer " + self._token.encode()):
            await self._app(scope, receive, send)
            return
        message = "this server asks for its token: Authorization: Bearer …"
        await JSONResponse(error_object(message, "authentication_error"), 401)(scope, receive, send)
