"""Connections that are closed where nothing comes of them: a server has so many, and each holds a file."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """One of uvicorn's that is closed where the head of a request has not come after `head` seconds, from its first
    byte or from the connection on, its body after `body` more, and where the client has read nothing for `unread`
    seconds of what waits for it."""

    head = 20.0
    body = 150.0
    unread = 120.0
    _awaited: float | None = None
    _coming: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(self.head)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            self._await(None)
        elif self.cycle is None or self.cycle.response_complete:
            self._await(self.head)
        else:
            self._await(self.body if self.cycle.more_body else None)

    def on_response_complete(self) -> None:
        self._await(None)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.unread, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading = _stopped(self._reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self._reading = _stopped(self._reading)
        super().connection_lost(exc)

    def _await(self, seconds: float | None) -> None:
        """Close it unless this is called with something else within so many seconds; None for never."""
        if seconds == self._awaited:
            return
        self._awaited, self._coming = seconds, _stopped(self._coming)
        if seconds is not None:
            self._coming = self.loop.call_later(seconds, self.transport.close)


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """In place of a timer that is not to go off."""
    if timer is not None:
        timer.cancel()
    return None
