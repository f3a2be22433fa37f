"""Webhooks against receivers that listen for real: that fail, stall, redirect, are gone, and check what is signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import math
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tests.live.conftest import listening, run_alone
from trajkit.errors import InputError
from trajkit.live.webhooks import Patience, Signer, Webhooks

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
QUICK = Patience(tries=4, first=0.02, longest=0.1, timeout=0.3)


class Receiver:
    """answers: to the first, second, … request; 204 to the others. wait: seconds before each."""

    def __init__(self, *answers, wait=0.0):
        self.answers, self.wait = list(answers), wait
        self.got, self.redirected = [], 0

    async def take(self, request):
        self.got.append((dict(request.headers), await request.body(), time.monotonic()))
        await asyncio.sleep(self.wait)
        answer = self.answers.pop(0) if self.answers else 204
        return answer if isinstance(answer, Response) else Response(status_code=answer)

    async def elsewhere(self, request):
        self.redirected += 1
        return Response()

    @contextmanager
    def listening(self):
        routes = [Route("/hook", self.take, methods=["POST"]), Route("/else", self.elsewhere, methods=["POST", "GET"])]
        with listening(Starlette(routes=routes)) as address:
            yield f"{address}/hook"

    @property
    def numbers(self):
        """Of the events that came, each time."""
        return [json.loads(body)["data"]["n"] for _, body, _ in self.got]


def counts(hooks):
    return {outcome: hooks.metrics.webhooks.labels(outcome)._value.get() for outcome in ("sent", "failed", "dropped")}


async def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def send(urls, n, patience=QUICK, then=None, close=2.0, secret=SECRET):
    """What became of n events. then: a coroutine function of the webhooks, before they are closed."""

    async def play():
        hooks = Webhooks(urls, Signer(secret), patience=patience)
        for number in range(n):
            hooks.tell("run.ended", {"n": number, "max_risk": math.inf})
        await asyncio.sleep(0)
        if then is not None:
            await then(hooks)
        await hooks.close(close)
        return counts(hooks)

    return run_alone(play())


def test_a_signature_is_that_of_the_scheme():
    """The example of the reference implementations of Standard Webhooks."""
    made = Signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_what_arrives_is_signed_json_and_an_old_secret_signs_beside_a_new_one():
    other = "whsec_" + base64.b64encode(b"k" * 24).decode()
    receiver = Receiver()
    with receiver.listening() as url:
        assert send([url], 1, secret=f"{other} {SECRET}") == {"sent": 1, "failed": 0, "dropped": 0}
    ((headers, body, _),) = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (b"k" * 24, bytes(range(32)))
    ]
    assert headers["webhook-signature"].split(" ") == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert headers["content-type"] == "application/json"
    told = json.loads(body)
    assert (told["type"], told["data"]) == ("run.ended", {"n": 0, "max_risk": None})
    assert told["timestamp"].endswith("Z")


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_????", SECRET[6:]])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret):
    with pytest.raises(InputError, match="whsec_") as caught:
        Signer(secret)
    said = secret.removeprefix("whsec_")
    assert not said or said not in str(caught.value)


@pytest.mark.parametrize("url", ["example.org/hook", "ftp://example.org", "http://", "https://a:b/", "file:///etc"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InputError, match="goes to an address"):
        Webhooks([url], Signer(SECRET))


def test_one_that_fails_is_tried_again_later_and_later_and_the_order_is_kept():
    receiver = Receiver(500, 404, RedirectResponse("/else", 307))
    with receiver.listening() as url:
        assert send([url], 3, then=lambda hooks: until(lambda: counts(hooks)["sent"] == 3)) == {
            "sent": 3,
            "failed": 3,
            "dropped": 0,
        }
    assert receiver.numbers == [0, 0, 0, 0, 1, 2]
    assert receiver.redirected == 0
    ids = [headers["webhook-id"] for headers, _, _ in receiver.got]
    assert len(set(ids[:4])) == 1
    assert len(set(ids)) == 3
    times = [at for _, _, at in receiver.got]
    waits = [later - earlier for earlier, later in pairwise(times[:4])]
    assert all(wait >= least for wait, least in zip(waits, (0.01, 0.02, 0.04), strict=True))


def test_one_is_given_up_after_so_many_tries_and_the_next_has_its_own(caplog):
    receiver = Receiver(*[500] * 5)
    with receiver.listening() as url, caplog.at_level(logging.INFO, "trajkit.live.webhooks"):
        found = send([url], 2, then=lambda hooks: until(lambda: counts(hooks)["sent"] == 1))
    assert found == {"sent": 1, "failed": 5, "dropped": 1}
    assert receiver.numbers == [0, 0, 0, 0, 1, 1]
    said = [record.getMessage() for record in caplog.records]
    assert ["tried again" in said[0], "given up after 4 tries" in said[1], "takes webhooks again" in said[2]] == [
        True
    ] * 3
    assert len(said) == 3
    assert {record.event for record in caplog.records} == {"webhook"}


def test_a_receiver_that_asks_to_be_left_alone_is_for_as_long_as_we_have_patience():
    receiver = Receiver(Response(status_code=429, headers={"Retry-After": "3600"}))
    with receiver.listening() as url:
        send(
            [url],
            1,
            patience=Patience(first=0.01, longest=0.3),
            then=lambda hooks: until(lambda: len(receiver.got) == 2),
        )
    assert receiver.got[1][2] - receiver.got[0][2] >= 0.29


def test_who_is_gone_for_good_is_told_nothing_more():
    receiver = Receiver(410)

    async def more(hooks):
        await until(lambda: counts(hooks)["dropped"] == 2)
        hooks.tell("run.ended", {"n": 9})

    with receiver.listening() as url:
        assert send([url], 2, then=more) == {"sent": 0, "failed": 1, "dropped": 3}
    assert receiver.numbers == [0]


def test_one_that_stalls_or_is_not_there_holds_up_no_other_and_nobody_who_tells():
    async def stall(reader, writer):
        await reader.read()

    async def play():
        server = await asyncio.start_server(stall, "127.0.0.1", 0)
        stalling = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        receiver = Receiver()
        with receiver.listening() as url:
            hooks = Webhooks([stalling, "http://127.0.0.1:1/", url], Signer(SECRET), patience=QUICK)
            began = time.perf_counter()
            for number in range(200):
                hooks.tell("run.ended", {"n": number})
            telling = time.perf_counter() - began
            await until(lambda: len(receiver.got) == 200)
            assert receiver.numbers == list(range(200))
            closing = time.monotonic()
            await hooks.close(0.5)
            assert time.monotonic() - closing < 2
        server.close()
        assert telling < 0.2
        return counts(hooks)

    found = run_alone(play())
    assert (found["sent"], found["dropped"]) == (200, 400)
    assert found["failed"] > 1


def test_of_too_many_the_oldest_are_dropped_and_counted_and_that_is_said_once(caplog):
    receiver = Receiver(wait=0.05)
    with receiver.listening() as url, caplog.at_level(logging.WARNING, "trajkit.live.webhooks"):
        patience = Patience(queue=5, timeout=2)
        found = send([url], 20, patience=patience, then=lambda hooks: until(lambda: counts(hooks)["sent"] == 5))
    assert found == {"sent": 5, "failed": 0, "dropped": 15}
    assert receiver.numbers == [15, 16, 17, 18, 19]
    assert sum("oldest are dropped" in record.getMessage() for record in caplog.records) == 1


def test_what_waits_when_the_server_ends_is_sent_at_once():
    receiver = Receiver(503)
    slow = Patience(first=30, longest=60)
    with receiver.listening() as url:
        began = time.monotonic()
        found = send([url], 3, patience=slow, then=lambda hooks: until(lambda: counts(hooks)["failed"] == 1))
    assert found == {"sent": 3, "failed": 1, "dropped": 0}
    assert time.monotonic() - began < 10


def test_what_cannot_be_sent_when_the_server_ends_is_dropped_in_time_and_said(caplog):
    with caplog.at_level(logging.WARNING, "trajkit.live.webhooks"):
        found = send(["http://user:password@127.0.0.1:1/secret"], 3, patience=Patience(first=30), close=1.0)
    assert (found["sent"], found["dropped"]) == (0, 3)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "http://127.0.0.1:1" in said
    assert "password" not in said
    assert "secret" not in said


def test_an_answer_without_an_end_is_not_read():
    async def endless(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def play():
        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        hooks = Webhooks([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"], Signer(SECRET), patience=QUICK)
        hooks.tell("run.ended", {"n": 0})
        await hooks.close(2.0)
        server.close()
        return counts(hooks)

    assert run_alone(play()) == {"sent": 1, "failed": 0, "dropped": 0}
