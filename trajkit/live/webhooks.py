"""Tells other servers what happens in runs: alarms, decisions, ends. Each is a POST of JSON, signed by the scheme of
Standard Webhooks 1.0 (https://www.standardwebhooks.com), and tried again until it arrives or is given up.

    {"type": "run.alarm", "timestamp": "2026-11-02T10:15:30.123Z", "data": {"run": "3f0c…", "step": 4, …}}

Nothing waits for it: an event is put into a queue of bounded length for each address, and one task an address sends
them in their order, so that an address that is slow or gone holds up none but itself. A receiver may get one twice
(its answer was lost) and tells by `webhook-id`; `webhook-timestamp` is that of the try.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from trajkit.errors import InputError
from trajkit.events import as_json
from trajkit.live.logs import tell
from trajkit.live.metrics import Metrics

_log = logging.getLogger(__name__)
EventType = Literal["run.alarm", "run.decision", "run.ended", "run.failed"]
_KEY = (24, 64)
"""Bytes of a secret, least and most, as the scheme has it."""
_MAKE = "whsec_$(openssl rand -base64 32)"


@dataclass(frozen=True)
class Patience:
    """How webhooks are tried. tries: of one event. first, longest: seconds before the second try and before any; they
    double from one to the next, and each is drawn from half of that to the whole. timeout: of one try. queue: events
    that wait for an address; the oldest is dropped for one more."""

    tries: int = 8
    first: float = 0.5
    longest: float = 60.0
    timeout: float = 15.0
    queue: int = 1000


class Signer:
    """Signs by one secret or several, as while one takes the place of another. secrets: `whsec_` and base64 of 24 to 64
    bytes, with spaces between several. Raises InputError for what is none."""

    def __init__(self, secrets: str) -> None:
        self._keys = [_key(secret) for secret in secrets.split()]
        if not self._keys:
            raise InputError(f"webhooks are signed: set a secret, such as --webhook-secret {_MAKE}.")

    def headers(self, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three of the scheme. timestamp: unix seconds."""
        signed = f"{id_}.{timestamp}.".encode() + body
        made = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys)
        signature = " ".join(f"v1,{one}" for one in made)
        return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


@dataclass(frozen=True)
class _Message:
    id: str
    body: bytes


@dataclass(eq=False)
class Webhooks:
    """Sends events to `urls`. texts: whether they tell what was asked and what the model writes, too. Raises InputError
    for what is no address of HTTP. `tell` and `close` belong to the event loop's thread."""

    urls: Sequence[str]
    signer: Signer
    texts: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False, timeout=self.patience.timeout)
        self._receivers = [_Receiver(_checked(url), self) for url in self.urls]

    def tell(self, type_: EventType, data: Mapping[str, Any]) -> None:
        """Send an event to every address, some time; never waits. data: JSON-ready, but for numbers that are not
        finite, which become null."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = as_json({"type": type_, "timestamp": now, "data": dict(data)}).encode()
        message = _Message(f"msg_{uuid.uuid4().hex}", body)
        for receiver in self._receivers:
            receiver.put(message)

    async def close(self, seconds: float = 5.0) -> None:
        """Send what waits, each once more and at once, for so many seconds; what then is left is dropped and logged."""
        await asyncio.gather(*(receiver.close(seconds) for receiver in self._receivers))
        await self._client.aclose()

    async def deliver(self, url: str, message: _Message) -> tuple[int, float]:
        """Try once. Returns the status and the seconds that the receiver asks to be left alone for. Raises
        httpx.HTTPError and TimeoutError. What it answers besides is not read."""
        headers = self.signer.headers(message.id, int(time.time()), message.body)
        headers |= {"Content-Type": "application/json", "User-Agent": "trajkit"}
        async with (
            asyncio.timeout(self.patience.timeout),
            self._client.stream("POST", url, content=message.body, headers=headers) as answer,
        ):
            after = answer.headers.get("Retry-After", "")
            return answer.status_code, float(after) if after.isascii() and after.isdigit() else 0.0


class _Receiver:
    """One address: what waits for it, and the task that sends it."""

    def __init__(self, url: str, hooks: Webhooks) -> None:
        self._url, self._hooks, self._patience = url, hooks, hooks.patience
        parts = urlsplit(url)
        self._address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._waiting = deque[_Message]()
        self._now: _Message | None = None
        self._more, self._closing = asyncio.Event(), asyncio.Event()
        self._failures = 0  # one after another
        self._gone = self._overflowing = False
        self._task: asyncio.Task[None] | None = None

    def put(self, message: _Message) -> None:
        """Have it sent after those that wait."""
        if self._gone or self._closing.is_set():
            self._count("dropped")
            return
        if len(self._waiting) >= self._patience.queue:
            self._waiting.popleft()
            self._count("dropped")
            if not self._overflowing:
                self._overflowing = True
                self._say(f"{self._patience.queue} events wait; the oldest are dropped")
        self._waiting.append(message)
        self._more.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, seconds: float) -> None:
        """As `Webhooks.close`."""
        self._closing.set()
        self._more.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=seconds)
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        self._drop_all("were not sent before the server ended")

    async def _run(self) -> None:
        while not self._gone:
            if self._waiting:
                self._now = self._waiting.popleft()
                await self._send(self._now)
                self._now = None
            elif self._closing.is_set():
                return
            else:
                self._more.clear()
                await self._more.wait()
        self._drop_all("are dropped: it answers 410 and wants no more")

    async def _send(self, message: _Message) -> None:
        """Until it has arrived, or so many tries have failed."""
        for tries in range(1, self._patience.tries + 1):
            kind, after = await self._try(message)
            if not kind:
                self._arrived()
                return
            self._count("failed")
            self._failures += 1
            if self._failures == 1 and not self._gone:
                self._say(f"a webhook was not taken ({kind}); it is tried again", kind=kind, tries=tries)
            if self._gone or self._closing.is_set():
                break
            await self._rest(after)
        self._count("dropped")
        self._say(f"a webhook is given up after {tries} tries ({kind})", kind=kind, tries=tries, n_dropped=1)

    async def _try(self, message: _Message) -> tuple[str, float]:
        """What went wrong, "" for nothing, and the seconds that the receiver asks to be left alone for."""
        try:
            status, after = await self._hooks.deliver(self._url, message)
        except Exception as error:  # whatever it is, those behind it are to be sent
            return type(error).__name__, 0.0
        self._gone = status == 410
        return ("" if 200 <= status < 300 else f"status {status}"), after

    async def _rest(self, after: float) -> None:
        """Wait before the next try, unless the server ends."""
        patience = self._patience
        own = patience.first * 2.0 ** min(self._failures - 1, 30) * random.uniform(0.5, 1.0)
        try:
            async with asyncio.timeout(min(max(own, after), patience.longest)):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _arrived(self) -> None:
        self._count("sent")
        if self._failures:
            tell(_log, logging.INFO, "webhook", f"{self._address} takes webhooks again", address=self._address)
        self._failures, self._overflowing = 0, False

    def _drop_all(self, why: str) -> None:
        n = len(self._waiting) + (self._now is not None)
        self._waiting.clear()
        self._now = None
        if n:
            self._count("dropped", n)
            self._say(f"{n} webhooks {why}", n_dropped=n)

    def _count(self, outcome: str, n: int = 1) -> None:
        self._hooks.metrics.webhooks.labels(outcome).inc(n)

    def _say(self, what: str, **fields: Any) -> None:
        tell(_log, logging.WARNING, "webhook", f"{self._address}: {what}", address=self._address, **fields)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or not _KEY[0] <= len(key) <= _KEY[1]:
        raise InputError(
            f"a webhook's secret is whsec_ and base64 of {_KEY[0]} to {_KEY[1]} bytes; make one: {_MAKE}. "
            "What was given is not shown."
        )
    return key


def _checked(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise InputError(f"a webhook goes to an address such as https://example.org/hook; got {url!r}.")
    return url
