"""One run between its client, its engine and its place: none is lost, whoever goes, stalls or breaks."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from tests.live.conftest import listening, messages_about
from tests.live.scripted import Scripted, answer, until_cancelled
from tests.live.test_app import wait_until
from trajkit.live.app import Limits, Server
from trajkit.live.generation import Ended, Text

PATH = "/v1/chat/completions"
ASKED = {"messages": messages_about("s00-0")}


@contextmanager
def serving(engine, **limits):
    server = Server(engine, Limits(**{"runs": 1, "waiting": 4, **limits}))
    with listening(server) as address, httpx.Client(base_url=address, timeout=20) as client:
        yield server, client


def raw(client, body=ASKED, stream=True):
    """A connection that has sent a request, and reads nothing of itself."""
    sock = socket.create_connection((client.base_url.host, client.base_url.port))
    content = json.dumps(body | {"stream": stream}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return sock


def outcomes(server):
    return {name: server.metrics.requests.labels(name)._value.get() for name in ("ended", "stopped", "left", "failed")}


def test_a_client_that_never_reads_keeps_no_place_and_hides_nothing_from_who_looks_on():
    def long(put, cancelled):
        for _ in range(80):
            put(Text("thinking", "x" * 100_000))
        put(Ended("stop", False, 200))

    with serving(Scripted(long)) as (server, client):
        with raw(client):
            wait_until(lambda: server.places.taken == 0 and server.engine.begun)
            wait_until(lambda: client.get("/api/runs").json()["runs"][0]["state"] == "ended")
            server.engine.play = lambda put, cancelled: answer(put)
            assert client.post(PATH, json=ASKED).json()["choices"][0]["message"]["content"] == "yes"
        assert outcomes(server) == {"ended": 2, "stopped": 0, "left": 0, "failed": 0}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_stops_its_run_whose_place_is_free_when_it_has_ended(stream):
    may_end, ended = threading.Event(), []

    def slow_to_stop(put, cancelled):
        put(Text("thinking", "hm"))
        assert cancelled.wait(20)
        assert may_end.wait(20)
        ended.append(time.monotonic())
        put(Ended("stop", True, 1))

    with serving(Scripted(slow_to_stop)) as (server, client):
        gone = raw(client, stream=stream)
        wait_until(lambda: server.engine.begun == 1)
        server.engine.play = lambda put, cancelled: answer(put)
        gone.close()
        answers = []
        second = threading.Thread(target=lambda: answers.append(client.post(PATH, json=ASKED)))
        second.start()
        wait_until(lambda: server.places.waiting == 1)
        time.sleep(0.1)
        assert (server.places.taken, server.engine.begun) == (1, 1)
        may_end.set()
        second.join(20)
        assert answers[0].status_code == 200
        wait_until(lambda: server.places.taken == 0)
        assert outcomes(server) == {"ended": 1, "stopped": 0, "left": 1, "failed": 0}


def test_clients_that_go_at_once_or_while_they_wait_lose_no_place():
    with serving(Scripted(until_cancelled), waiting=30) as (server, client):
        held = raw(client)
        wait_until(lambda: server.engine.begun == 1)
        waiting = [raw(client) for _ in range(10)]
        wait_until(lambda: server.places.waiting == 10)
        for sock in waiting:
            sock.close()
        for _ in range(10):
            raw(client).close()
        wait_until(lambda: server.places.waiting == 0)
        held.close()
        wait_until(lambda: server.places.taken == 0)
        server.engine.play = lambda put, cancelled: answer(put)
        assert client.post(PATH, json=ASKED).is_success
        wait_until(lambda: not server.history.open)
        assert not server._open


def test_an_engine_that_breaks_is_told_to_the_client_and_costs_no_place():
    class Broken(Scripted):
        def begin(self, request, put):
            raise RuntimeError("no memory")

    with serving(Broken()) as (server, client):
        for _ in range(3):
            whole = client.post(PATH, json=ASKED)
            assert (whole.status_code, whole.json()["error"]["type"]) == (500, "server_error")
            streamed = client.post(PATH, json=ASKED | {"stream": True})
            assert "no memory" in streamed.text
            assert streamed.text.endswith("data: [DONE]\n\n")
        assert server.places.taken == 0
        assert outcomes(server)["failed"] == 6
        assert {run["state"] for run in client.get("/api/runs").json()["runs"]} == {"failed"}


def test_when_the_server_ends_those_who_run_have_what_there_is_and_those_who_wait_are_told():
    with serving(Scripted(until_cancelled)) as (server, client):
        answers: dict = {}

        def ask(name):
            answers[name] = client.post(PATH, json=ASKED)

        threads = [threading.Thread(target=ask, args=(name,)) for name in ("running", "waiting")]
        threads[0].start()
        wait_until(lambda: server.engine.begun == 1)
        threads[1].start()
        wait_until(lambda: server.places.waiting == 1)
        server.shut_down()
        for thread in threads:
            thread.join(20)
        assert answers["running"].json()["trajkit"]["stopped"]
        assert "shutting down" in answers["waiting"].json()["error"]["message"]
        assert client.post(PATH, json=ASKED).status_code == 503
        assert client.get("/health").status_code == 503
        assert server.engine.begun == 1


def test_a_run_over_its_time_is_stopped_and_answered():
    with serving(Scripted(until_cancelled), seconds=0.05) as (server, client):
        whole = client.post(PATH, json=ASKED).json()
        assert whole["trajkit"]["stopped"]
        assert outcomes(server)["stopped"] == 1
