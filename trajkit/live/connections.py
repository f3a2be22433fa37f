"""Connections that are closed where nothing comes of them: a server has so many, and each holds a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """One of uvicorn's that is closed where the head of a request has not come after `head` seconds, from its first
    byte or from the connection on, and where the client has read nothing for `unread` seconds of what waits for it."""

    head = 20.0
    unread = 120.0
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self._later(self.head, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._head_timer = _stopped(self._head_timer)
        elif self._head_timer is None:
            self._head_timer = self._later(self.head, self.transport.close)

    def on_response_complete(self) -> None:
        self._head_timer = _stopped(self._head_timer)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self._later(self.unread, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_timer = _stopped(self._unread_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer, self._unread_timer = _stopped(self._head_timer), _stopped(self._unread_timer)
        super().connection_lost(exc)

    def _later(self, seconds: float, do: Callable[[], object]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, do)


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """In place of a timer that is not to go off."""
    if timer is not None:
        timer.cancel()
    return None
