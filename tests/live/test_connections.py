"""Connections of which nothing comes are closed, and those that are in use are not."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests.live.test_app import wait_until
from trajkit.live.connections import Connection
from trajkit.live.listening import configured


async def hello(request):
    return PlainTextResponse(f"hello {len(await request.body())}")


async def slow(request):
    async def parts():
        for _ in range(6):
            await asyncio.sleep(0.1)
            yield b"x"

    return StreamingResponse(parts())


async def large(request):
    async def parts():
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            ENDED.set()

    return StreamingResponse(parts())


ENDED = threading.Event()


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(Connection, "head", 0.3)
    monkeypatch.setattr(Connection, "body", 0.8)
    monkeypatch.setattr(Connection, "unread", 0.3)
    routes = [Route("/", hello, methods=["GET", "POST"]), Route("/slow", slow), Route("/large", large)]
    config = configured(Starlette(routes=routes))
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


@contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(5)
        yield sock


def test_who_sends_no_request_or_one_byte_now_and_then_is_cut_off(port):
    with connected(port) as idle, connected(port) as dripping:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 100:
                dripping.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < 1.5
        assert idle.recv(100) == b""


def test_a_second_request_that_does_not_come_to_its_end_is_cut_off_too(port):
    with connected(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"hello 0"):
            answer += sock.recv(4096)
        time.sleep(0.4)  # between requests there is more time
        sock.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        assert sock.recv(4096) == b""
        assert 0.2 < time.monotonic() - began < 1.5


def test_who_asks_and_waits_or_sends_a_long_body_is_left_alone(port):
    assert httpx.get(f"http://127.0.0.1:{port}/slow").text == "x" * 6

    def body():
        for _ in range(6):
            time.sleep(0.1)
            yield b"x"

    assert httpx.post(f"http://127.0.0.1:{port}/", content=body()).text == "hello 6"


def test_a_body_that_comes_byte_by_byte_is_cut_off(port):
    with connected(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"x")
                time.sleep(0.05)
        assert 0.5 < time.monotonic() - began < 3


def test_who_does_not_read_is_cut_off(port):
    ENDED.clear()
    with connected(port) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ENDED.wait(5)


def test_a_thousand_idle_connections_are_gone_soon_and_hold_up_nobody(port):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    socks = []
    try:
        for _ in range(1000):
            socks.append(socket.create_connection(("127.0.0.1", port)))
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "hello 0"
        assert time.monotonic() - began < 2
        for sock in socks:
            sock.settimeout(5)
            assert sock.recv(1) == b""
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
