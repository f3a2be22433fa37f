"""Runs a server until it is told to stop, and lets its clients go with what they have."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from trajkit.errors import InputError
from trajkit.live.app import Server
from trajkit.live.connections import Connection
from trajkit.live.logs import tell

_log = logging.getLogger(__name__)
_GRACE = 10
"""Seconds in which answers are finished after the server was told to stop."""


def serve_forever(server: Server, host: str, port: int, say: Callable[[str], object] | None) -> None:
    """Listen until SIGINT or SIGTERM. say: takes a line for a person; None where the log is enough. Raises InputError
    where the address cannot be had."""
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    if say is None:
        tell(_log, logging.INFO, "listening", f"serving {server.engine.name} at {address}", address=address)
    else:
        say(f"serving {server.engine.name} at {server.access.link(address)} (Ctrl-C stops it)")
    asyncio.run(_Uvicorn(configured(server.app()), server).serve(sockets=[listening]))


def configured(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn is to serve an application."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
    )


class _Uvicorn(uvicorn.Server):
    """Stops the runs too when it is told to stop, and sends what webhooks wait."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._server.shut_down()
        await super().shutdown(sockets)
        await self._server.finish()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InputError(f"{host}:{port} cannot be listened at ({error.strerror}); choose another --port.") from error
    listening.listen(128)
    return listening
