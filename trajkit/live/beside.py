"""The page beside one run of this process: served by a thread of its own, which computes nothing with torch."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn

from trajkit.live.access import Access
from trajkit.live.generation import Begun, Ended, Event, Explained, Failed, Text
from trajkit.live.history import History
from trajkit.live.listening import address_of, configured, listen
from trajkit.live.telling import Telling
from trajkit.live.view import page_app
from trajkit.vlm.pieces import TextPieces

if TYPE_CHECKING:
    from trajkit.attribution.explainer import LiveStep
    from trajkit.attribution.stream import Stream
    from trajkit.detection.monitor import Monitor
    from trajkit.vlm.model import VLM

_HOST = "127.0.0.1"
_GRACE = 2
"""Seconds in which viewers get what there is, when it is closed."""


class Beside:
    """Shows one `stream` of `vlm` that `monitor` watches on a page, from `begun` on until it is closed.

    `token` and `step` are for the stream's `on_token` and `on_step`; they wait for nothing. address: of the page.
    Raises InputError where the port cannot be had.
    """

    def __init__(self, vlm: VLM, monitor: Monitor | None, port: int = 0) -> None:
        self._vlm, self._monitor = vlm, monitor
        self._pieces: dict[int, TextPieces] = {}
        self._n_tokens = 0
        self._stream: Stream | None = None
        self._telling: Telling | None = None
        listening = listen(_HOST, port)
        self.address = address_of(listening)
        self._history, self._ready = History(), Flag()
        app = page_app([self._history], Access.at(_HOST))
        self._server = uvicorn.Server(configured(app, _GRACE))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._serve, args=(listening,), name="trajkit-page", daemon=True)
        self._thread.start()
        self._ready.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def begun(self, running: Stream) -> None:
        """The run that is to be shown has begun."""
        self._stream = running
        prompt = running.prompt
        self._do(partial(self._begin, running))
        self._put(Begun(running.regions, prompt.length, self._monitor))

    def token(self, token: int, attempt: int) -> None:
        """The next token."""
        self._n_tokens += 1
        if attempt not in self._pieces:
            self._pieces[attempt] = TextPieces(self._vlm)
        for kind, text in self._pieces[attempt].push(token):
            self._put(Text(kind, text, attempt))

    def step(self, step: LiveStep) -> None:
        """The next step."""
        self._put(Explained(step))

    def over(self, error: BaseException | None = None) -> None:
        """The run is over. error: what ended it, if it did not end by itself or by its policy."""
        if self._stream is None:
            return
        for attempt, pieces in self._pieces.items():
            for kind, text in pieces.finish():
                self._put(Text(kind, text, attempt))
        if error is None or isinstance(error, KeyboardInterrupt):
            if error is not None:
                self._do(self._stopping)
            self._put(Ended("stop", not self._stream.ended, self._n_tokens))
        else:
            self._put(Failed(str(error)))

    def close(self) -> None:
        """Serve it no longer. Viewers get what there is of it first."""
        self._server.should_exit = True
        self._thread.join()

    def _serve(self, listening: socket.socket) -> None:
        asyncio.run(self._listen(listening))

    async def _listen(self, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._server.serve(sockets=[listening])

    def _begin(self, running: Stream) -> None:
        log = self._history.begin(running.prompt.question, self._vlm.name)
        self._telling = Telling(log, running.prompt.canvas.picture)

    def _put(self, event: Event) -> None:
        self._do(partial(self._take, event))

    def _take(self, event: Event) -> None:
        if self._telling is not None:
            self._telling.take(event)

    def _stopping(self) -> None:
        if self._telling is not None:
            self._telling.stopping("it was stopped where it was started")

    def _do(self, work: Callable[[], object]) -> None:
        """In the thread of the page, in order."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)
