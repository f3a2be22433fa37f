"""Listening: answers go out at once, and an address that is taken is said."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.live.conftest import run_alone
from trajkit.errors import InputError
from trajkit.live.listening import address_of, listen


def test_what_is_written_is_sent_at_once():
    """With the wait of Nagle's algorithm every small answer takes 40 ms more."""

    async def options() -> list[int]:
        found = []

        def met(reader, writer):
            own = writer.get_extra_info("socket")
            found.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listening:
            async with await asyncio.start_server(met, sock=listening):
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                await reader.read()
                writer.close()
        return found

    assert run_alone(options()) == [1]


def test_an_address_that_is_taken_is_said():
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening) == f"http://127.0.0.1:{port}"
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port} cannot be listened at .* choose another --port"):
            listen("127.0.0.1", port)


def test_a_host_that_is_not_this_machine_is_not_said_to_be_a_matter_of_the_port():
    for host in ("no-such-host.invalid", "192.0.2.1"):
        with pytest.raises(InputError, match="choose another --host"):
            listen(host, 0)
