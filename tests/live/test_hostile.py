"""Requests that nobody means well: answered in words, quickly, and the server goes on."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
from contextlib import contextmanager

import httpx
import pytest
from PIL import Image

from tests.live.conftest import listening, messages_about
from tests.live.scripted import Scripted
from tests.live.scripted import answer as say
from tests.live.test_app import wait_until
from trajkit.live.app import Limits, Server

PATH = "/v1/chat/completions"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MESSAGES = json.dumps(messages_about("s00-0"))


@pytest.fixture(scope="module")
def client():
    with listening(Server(Scripted(), Limits(body=2**22))) as address, httpx.Client(base_url=address) as client:
        yield client


def post(client, body):
    return client.post(PATH, content=body, headers={"Content-Type": "application/json"})


def asked(field):
    return f'{{"messages": {MESSAGES}, {field}}}'.encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"\xef\xbb\xbf{}", "cannot be read"),
        (b"null", "JSON object"),
        (b'{"messages": []', "cannot be read"),
        (b"[" * 200_000 + b"]" * 200_000, "nested"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
        (b'{"x": [' + b"1," * 1_000_001 + b"1]}", "values"),
        (asked('"temperature": NaN'), "NaN"),
        (asked('"temperature": 1e999'), "1e999"),
        (asked('"temperature": 1' + "0" * 5000), "digits"),
        (asked('"seed": 1, "seed": 2'), "twice"),
        (asked('"\\ud800": 1'), "surrogate"),
        (asked('"user": "\\udfff"'), "surrogate"),
        (asked('"temperature": "' + "x" * 2_000_000 + '"'), "temperature"),
        (asked('"top_k": "x"'), "top_k"),
        (asked('"top_k": []'), "top_k"),
        (asked('"top_k": -2'), "top_k"),
        (asked('"top_k": true'), "top_k"),
        (asked('"stop": [1]'), "stop"),
        (asked('"max_tokens": -5'), "max_new_tokens"),
        (asked('"max_tokens": 1.5'), "max_new_tokens"),
        (asked('"seed": -1'), "seed"),
        (asked('"stream": "yes"'), "stream"),
        (asked('"stream": "' + "x" * 2_000_000 + '"'), "stream"),
        (asked('"model": ["a"]'), "model"),
        (asked('"n": 2'), "n = 2"),
        (asked('"n": "1"'), "n = "),
        (asked('"tools": [{"type": "function"}]'), "tools"),
        (asked('"tool_choice": "auto"'), "tool_choice"),
        (asked('"response_format": {"type": "json_object"}'), "response_format"),
        (asked('"trajkit": {"hint": 5, "policy": "ask again"}'), "hint"),
        (asked('"trajkit": {"policy": {}}'), "policy"),
        (asked('"trajkit": []'), "trajkit"),
        (b'{"messages": {"role": "user"}}', "list of turns"),
        (b'{"messages": ["hi"]}', "turn 1"),
        (b'{"messages": [{"role": "tool", "content": "x"}]}', "role"),
        (b'{"messages": [{"role": "user", "content": [null]}]}', "part 1"),
        (b'{"messages": [{"role": "user", "content": {"text": "x"}}]}', "content"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}', "data URL"),
        (b'{"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}', "text"),
        (b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}', "plain text"),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_a_few_words(client, body, said):
    began = time.monotonic()
    answer = post(client, body)
    assert answer.status_code == 400, answer.text
    assert len(answer.content) < 5000
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]
    assert time.monotonic() - began < 2
    assert client.get("/health").is_success


def bomb(side):
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def about(*parts):
    content = [*parts, {"type": "text", "text": "what?"}]
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


def test_pictures_that_are_small_to_send_and_large_to_open_are_refused(client):
    for body, said in ((about(bomb(6500)), "at most 40 million"), (about(*[bomb(3700)] * 30), "together")):
        answer = post(client, body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]


def test_a_body_that_is_too_long_is_refused_before_it_is_all_there(client):
    answer = post(client, b" " * (2**22 + 1))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


def test_a_path_or_a_method_that_is_not_served(client):
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", PATH, 405), ("DELETE", "/v1/models", 405)):
        answer = client.request(method, path, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
        assert path in answer.json()["error"]["message"]
        assert (status == 405) == ("Allow" in answer.headers)


@contextmanager
def connection(client):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as sock:
        sock.settimeout(10)
        yield sock


def test_what_is_no_http_or_tries_to_smuggle_is_refused(client):
    for said in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
    ):
        with connection(client) as sock:
            sock.sendall(said + b"\r\n\r\n")
            head = sock.recv(4096).split(b"\r\n")[0]
            assert head.startswith((b"HTTP/1.1 4",)), (said[:60], head)
    assert client.get("/health").is_success


def test_a_line_end_in_an_address_reaches_no_header(client):
    answer = client.get("/nothing%0d%0aSet-Cookie:%20a=b")
    assert answer.status_code == 404
    assert "Set-Cookie" not in answer.headers


def test_a_client_that_goes_in_the_middle_of_its_body_is_no_error(client, caplog):
    with connection(client) as sock:
        sock.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        time.sleep(0.1)
    assert client.get("/health").is_success
    assert not [record for record in caplog.records if record.exc_info]


def test_bodies_that_come_slowly_or_all_at_once_are_given_up():
    server = Server(Scripted(), Limits(body=2**20))
    server._bodies._seconds = 0.3
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {2**20}\r\n\r\n"
    )
    with listening(server) as address, httpx.Client(base_url=address) as client:
        with connection(client) as sock:
            sock.sendall(head.encode() + b"{")
            assert sock.recv(4096).startswith(b"HTTP/1.1 408")
        server._bodies._seconds = 20
        socks = [socket.create_connection((client.base_url.host, client.base_url.port)) for _ in range(5)]
        for sock in socks:
            sock.settimeout(10)
            sock.sendall(head.encode() + b" " * (2**20 - 1))
        wait_until(lambda: client.get("/health").is_success)
        answers = []
        for sock in socks:
            sock.sendall(b" ")
            answers.append(sock.recv(4096).split(b"\r\n")[0].split()[1])
            sock.close()
        assert b"503" in answers
        assert set(answers) <= {b"503", b"400"}
        assert server._bodies._held == 0


def test_a_bug_is_told_as_openais_clients_read_it_and_its_words_stay_here(caplog):
    class Broken(Scripted):
        def facts(self):
            raise KeyError("what nobody is to read")

    with listening(Server(Broken())) as address:
        answer = httpx.get(f"{address}/v1/models")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "KeyError" in answer.text
    assert "nobody" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_half_of_a_character_from_another_server_breaks_no_stream():
    broken = Scripted(lambda put, cancelled: say(put, "a\ud83d b"))
    asked = {"messages": messages_about("s00-0"), "stream": True}
    with listening(Server(broken)) as address:
        text = httpx.post(f"{address}{PATH}", json=asked).text
    assert "a? b" in text
    assert text.endswith("data: [DONE]\n\n")
