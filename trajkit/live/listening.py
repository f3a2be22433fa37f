"""Listening at an address until told to stop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from trajkit.errors import InputError
from trajkit.live.connections import Connection

_GRACE = 2
"""Seconds in which answers are finished after the server was told to stop."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # or asyncio leaves Nagle's wait on
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        other = "--host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else "--port"
        raise InputError(f"{host}:{port} cannot be listened at ({error.strerror}); choose another {other}.") from error
    listening.listen(128)
    return listening


def address_of(listening: socket.socket) -> str:
    """http://…, as a browser opens it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def configured(app: ASGIApp, grace: int = _GRACE) -> uvicorn.Config:
    """How uvicorn is to serve an application. grace: seconds in which answers are finished once it is to stop."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
        timeout_keep_alive=30,
    )


def serve_page(app: ASGIApp, listening: socket.socket, began: Callable[[], object]) -> None:
    """Answer until SIGINT or SIGTERM. began: called once answers can be had."""

    async def serve() -> None:
        server = uvicorn.Server(configured(app))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            began()
        await serving

    asyncio.run(serve())
