"""Runs a server until it is told to stop, and lets its clients go with what they have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn

from trajkit.live.app import Server
from trajkit.live.listening import address_of, listen

_GRACE = 10
"""Seconds in which answers are finished after the server was told to stop."""


def serve_forever(server: Server, host: str, port: int, say: Callable[[str], object]) -> None:
    """Listen until SIGINT or SIGTERM. Raises InputError where the address cannot be had."""
    listening = listen(host, port)
    say(f"serving {server.engine.name} at {address_of(listening)} (Ctrl-C stops it)")
    config = uvicorn.Config(
        server.app(), log_level="warning", timeout_graceful_shutdown=_GRACE, timeout_keep_alive=30, access_log=False
    )
    asyncio.run(_Uvicorn(config, server).serve(sockets=[listening]))


class _Uvicorn(uvicorn.Server):
    """Stops the runs too when it is told to stop."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._server.shut_down()
        await super().shutdown(sockets)
        await self._server.finish()
