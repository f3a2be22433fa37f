"""One run of the server, from its request to its end: its place, its generation, and all who are told of it.

What it tells does not depend on its client: a client that reads slowly or not at all holds up neither those who look on
nor the next run, and the place is free when the generation has ended, and not before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial

from trajkit.live.account import Account
from trajkit.live.generation import Ended, Engine, Event, Failed, Running, failed_by
from trajkit.live.history import RunLog
from trajkit.live.places import Turn
from trajkit.live.request import ChatRequest
from trajkit.live.telling import Telling
from trajkit.vlm.canvas import Canvas

_log = logging.getLogger(__name__)
LEFT, STOPPED = "the client went away", "the server was stopped"


class ServedRun:
    """A run that an engine is asked for once it is its turn. seconds: that it may take from then on. over: is called
    once, when it is. Belongs to the event loop's thread. Whoever made it calls `leave`, whatever happens."""

    def __init__(
        self,
        engine: Engine,
        asked: ChatRequest,
        turn: Turn,
        log: RunLog,
        account: Account,
        seconds: float,
        over: Callable[[ServedRun], object],
    ) -> None:
        self._engine, self._asked, self._turn, self._log, self._account = engine, asked, turn, log, account
        self._seconds, self._on_over = seconds, over
        self._telling = Telling(log, Canvas(asked.chat.images).picture)
        self.id = log.id
        self._queue = asyncio.Queue[Event]()
        self._running: Running | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = self._left = self._stopped = False

    async def events(self) -> AsyncIterator[Event]:
        """What happens in it, from its turn on; the last is Ended or Failed."""
        await self._turn.come()
        if self._stopped:
            self._close("stopped")
            yield Failed("the server is shutting down.")
            return
        self._begin()
        while True:
            event = await self._queue.get()
            if isinstance(event, Ended | Failed):
                await self._telling.caught_up()
            yield event
            if isinstance(event, Ended | Failed):
                return

    def stop(self, why: str) -> None:
        """Have it end soon, or, before its turn, not begin."""
        self._stopped = True
        self._telling.stopping(why)
        if self._running is not None:
            self._running.cancel()

    def leave(self) -> None:
        """Its client takes no more of it; what has not ended ends soon."""
        if self._over:
            return
        self._left = True
        self.stop(LEFT)
        if self._running is None:
            self._close("left")

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._log.set_running()
        self._account.begin()
        why = f"it took more than {self._seconds:g} s, the limit of this server"
        self._timer = loop.call_later(self._seconds, self.stop, why)
        try:
            self._running = self._engine.begin(self._asked, partial(_put, loop, self._take))
        except Exception as error:
            self._take(failed_by(error))

    def _take(self, event: Event) -> None:
        self._telling.take(event)
        self._account.see(event)
        self._queue.put_nowait(event)
        if isinstance(event, Ended | Failed):
            self._close("left" if self._left else _outcome(event))

    def _close(self, outcome: str) -> None:
        """It is over."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._running is None:
            self._telling.never_began(STOPPED)
        self._turn.leave()
        self._account.end(outcome)
        self._on_over(self)


def _put(loop: asyncio.AbstractEventLoop, take: Callable[[Event], object], event: Event) -> None:
    """Hand an event of another thread to the loop; once that is closed nobody listens."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(take, event)


def _outcome(event: Ended | Failed) -> str:
    if isinstance(event, Failed):
        return "failed"
    return "stopped" if event.stopped else "ended"
