"""The server: OpenAI's API over an engine, and what looks on.

Generation never waits for a client: events of a run pass through a queue without a bound, a few bytes a token, and a
client that goes takes its run with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trajkit.errors import InputError
from trajkit.live.access import Access
from trajkit.live.account import Account
from trajkit.live.bodies import Bodies
from trajkit.live.errors import Refused, error_object
from trajkit.live.generation import Ended, Engine, Failed
from trajkit.live.guard import guarded
from trajkit.live.history import History
from trajkit.live.logs import tell
from trajkit.live.metrics import CONTENT_TYPE, Metrics
from trajkit.live.places import Full, Places
from trajkit.live.query import RunSource
from trajkit.live.request import ChatRequest, parse_request
from trajkit.live.run import STOPPED, ServedRun
from trajkit.live.view import STREAM, View, not_found
from trajkit.live.webhooks import Webhooks
from trajkit.live.wire import DONE, Answer, sse

_log = logging.getLogger(__name__)
_WINDING_DOWN = 10.0
"""Seconds in which runs that were stopped come to their end."""


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
    """An engine, and what is known of its runs. access: who may ask. sources: of further runs that the page shows.
    webhooks: are told of what happens in runs."""

    engine: Engine
    limits: Limits = Limits()
    access: Access = field(default_factory=Access)
    history: History = field(default_factory=History)
    metrics: Metrics = field(default_factory=Metrics)
    sources: Sequence[RunSource] = ()
    webhooks: Webhooks | None = None
    closing: bool = False

    def __post_init__(self) -> None:
        self.places = Places(self.limits.runs, self.limits.waiting)
        self._bodies = Bodies(self.limits.body)
        self._open = set[ServedRun]()
        if self.webhooks is not None:
            self.webhooks.metrics = self.metrics
        self.metrics.running.set_function(lambda: self.places.taken)
        self.metrics.waiting.set_function(lambda: self.places.waiting)
        self.metrics.viewers.set_function(lambda: self.history.viewers)

    def app(self) -> ASGIApp:
        """The application, for any ASGI server."""
        routes = [
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/health", self.health),
            Route("/metrics", self.tell_metrics),
            *View([self.history, *self.sources]).routes(),
        ]
        handlers: dict[Any, Any] = {404: not_found, 405: not_found, Refused: self.refuse, Exception: _broken}
        inside = Starlette(routes=routes, exception_handlers=handlers)
        return guarded(inside, self.access, self._count_refused)

    def shut_down(self) -> None:
        """Take no further requests and stop the runs that there are; their clients get what there is of them."""
        self.closing = True
        tell(_log, logging.INFO, "closing", f"the server stops; {len(self._open)} runs are stopped")
        for run in list(self._open):
            run.stop(STOPPED)

    async def finish(self) -> None:
        """Wait until the runs that were stopped are over, all of them are kept, and who waits for webhooks has them, as
        far as that can be; then no thread of theirs is left."""
        end = time.monotonic() + _WINDING_DOWN
        while self.history.open and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await asyncio.gather(
            self.engine.close(),
            *(asyncio.to_thread(source.close) for source in (self.history, *self.sources)),
            *([self.webhooks.close()] if self.webhooks is not None else []),
        )

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        try:
            async with self._bodies.of(request) as body:
                asked = await asyncio.to_thread(self._checked, body)
        except InputError as error:
            raise Refused(400, str(error)) from error
        except ClientDisconnect:
            return Response(status_code=499)
        run, headers = self._run(asked)
        answer = Answer(run.id, self.engine.name, asked.wish.effects, asked.token_ids)
        if asked.stream:
            return _Streamed(run, _chunks(run, asked, answer), headers)
        return await self._whole(request, run, answer, headers)

    def _checked(self, body: bytes) -> ChatRequest:
        """What is asked for; not in the loop's thread, as images are decoded. Raises InputError."""
        try:
            asked = parse_request(body)
            self.engine.check(asked)
        except RecursionError as error:
            raise InputError("the body is nested too deeply.") from error
        return asked

    def _run(self, asked: ChatRequest) -> tuple[ServedRun, dict[str, str]]:
        """A run that waits for its turn, and headers about it. Raises Refused where too many wait."""
        if self.closing:
            raise Refused(503, "the server is shutting down.", "server_error")
        waiting = self.places.waiting
        try:
            turn = self.places.join()
        except Full as full:
            message = f"{self.places.n} runs are under way and {full.waiting} requests wait; try again later."
            raise Refused(429, message, "rate_limit_error", {"Retry-After": "5"}) from full
        name, question = self.engine.name, asked.chat.question
        log = self.history.begin(question, name)
        account = Account(log.id, name, question, self.metrics, self.webhooks)
        run = ServedRun(self.engine, asked, turn, log, account, self.limits.seconds, self._open.discard)
        self._open.add(run)
        return run, {"X-Trajkit-Run": log.id, "X-Trajkit-Waiting": str(waiting)}

    async def _whole(self, request: Request, run: ServedRun, answer: Answer, headers: dict[str, str]) -> Response:
        gathering = asyncio.ensure_future(_gathered(run, answer))
        leaving = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait([gathering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not gathering.done():
                return Response(status_code=499)
            last = gathering.result()
        finally:
            gathering.cancel()
            leaving.cancel()
            run.leave()
        if isinstance(last, Failed):
            return JSONResponse(error_object(last.message, _kind(last)), 500 if last.internal else 400, headers)
        return JSONResponse(answer.whole(last), headers=headers)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        one = {"id": self.engine.name, "object": "model", "created": 0, "owned_by": "trajkit"}
        return JSONResponse({"object": "list", "data": [one | {"trajkit": self.engine.facts()}]})

    async def health(self, request: Request) -> Response:
        """GET /health: 200 while requests are taken, also while runs cannot be kept; `saving` says why they cannot."""
        state: dict[str, Any] = {"running": self.places.taken, "waiting": self.places.waiting}
        if trouble := self.history.trouble:
            state |= {"saving": trouble}
        return JSONResponse({"status": "closing" if self.closing else "ok"} | state, 503 if self.closing else 200)

    async def tell_metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def refuse(self, request: Request, refused: Refused) -> Response:
        """The answer to a request that is not served."""
        self._count_refused(refused.status, refused.kind)
        return JSONResponse(error_object(refused.message, refused.kind), refused.status, refused.headers)

    def _count_refused(self, status: int, kind: str) -> None:
        self.metrics.requests.labels("refused").inc()
        tell(_log, logging.INFO, "refused", f"refused with {status} ({kind})", status=status, kind=kind)


class _Streamed(StreamingResponse):
    """A run as server-sent events, which ends with its client."""

    def __init__(self, run: ServedRun, chunks: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers=headers | STREAM)
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._run.leave()


async def _gathered(run: ServedRun, answer: Answer) -> Ended | Failed:
    async for event in run.events():
        if isinstance(event, Failed):
            return event
        answer.chunk(event)
        if isinstance(event, Ended):
            return event
    raise AssertionError("a run tells how it ends")


async def _chunks(run: ServedRun, asked: ChatRequest, answer: Answer) -> AsyncIterator[bytes]:
    async for event in run.events():
        if isinstance(event, Failed):
            yield sse(error_object(event.message, _kind(event)))
        else:
            yield sse(answer.chunk(event))
        if isinstance(event, Ended) and asked.include_usage:
            yield sse(answer.usage(event))
    yield DONE


def _kind(event: Failed) -> str:
    return "server_error" if event.internal else "invalid_request_error"


async def _gone(request: Request) -> None:
    """Return once the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _broken(request: Request, error: Exception) -> Response:
    message = f"this is a bug in trajkit ({type(error).__name__}); its log says where."
    return JSONResponse(error_object(message, "server_error"), 500)
