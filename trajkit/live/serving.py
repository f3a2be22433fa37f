"""Runs a server until it is told to stop, and lets its clients go with what they have."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

from trajkit.live.app import Server
from trajkit.live.listening import address_of, configured, listen
from trajkit.live.logs import tell

_log = logging.getLogger(__name__)
_GRACE = 10
"""Seconds in which answers are finished after the server was told to stop."""


def serve_forever(server: Server, host: str, port: int, say: Callable[[str], object] | None) -> None:
    """Listen until SIGINT or SIGTERM. say: takes a line for a person; None where the log is enough. Raises InputError
    where the address cannot be had."""
    listening = listen(host, port)
    address = address_of(listening)
    if say is None:
        tell(_log, logging.INFO, "listening", f"serving {server.engine.name} at {address}", address=address)
    else:
        say(f"serving {server.engine.name} at {server.access.link(address)} (Ctrl-C stops it)")
    asyncio.run(StoppedInOrder(configured(server.app(), _GRACE), server).serve(sockets=[listening]))


class StoppedInOrder(uvicorn.Server):
    """Stops the runs too when it is told to stop, sends what webhooks wait, and leaves no thread behind."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._server.shut_down()
        await super().shutdown(sockets)
        await self._server.finish()
