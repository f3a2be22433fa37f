"""Asks another server for runs: many at once, again where that may help, and no more than can be taken."""

from __future__ import annotations

import asyncio
import base64
import io
import random
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from trajkit.attribution.tokens import Tokens, opens_thinking
from trajkit.errors import InputError, TrajkitError
from trajkit.live.other_server import OtherServer, UpstreamError, count, said_in
from trajkit.vlm.messages import Chat

if TYPE_CHECKING:
    from trajkit.attribution.item import Item
    from trajkit.vlm.generation import Sampling
    from trajkit.vlm.model import VLM

_CHUNKS_OF_A_TOKEN = 4
"""Chunks that a token of an answer may have, most."""


@dataclass(frozen=True)
class Patience:
    """tries: of one request, most. first: seconds before the second try, doubled for each after it. longest: seconds
    before any, also where a server asks for more."""

    tries: int = 6
    first: float = 0.5
    longest: float = 60.0

    def pause(self, tried: int, after: float) -> float:
        """Seconds to wait after so many tries, where the server asks to be left alone for `after`: not the same for all
        who were turned away together."""
        return min(self.longest, max(after, self.first * 2.0 ** (tried - 1))) * random.uniform(0.75, 1.25)


@dataclass(frozen=True, eq=False)
class Wanted:
    """A run to ask for."""

    item: Item
    repeat: int

    @property
    def id(self) -> str:
        """Its transcript_id."""
        return f"{self.item.id}-{self.repeat}"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a server wrote. tokens: ids, the one that ends the answer among them where the model ended it. logprobs: of
    the first of them, nats, as far as they are told. prompt: ids that it made of the prompt, and n_prompt their number,
    where they are told. facts: for the `meta` of its Trace."""

    wanted: Wanted
    tokens: list[int]
    logprobs: list[float]
    prompt: list[int] | None
    n_prompt: int | None
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Unanswered:
    """A run that could not be had, and why."""

    wanted: Wanted
    error: TrajkitError


@dataclass(eq=False)
class Asking:
    """Asks `server` for runs of its `model`, which is `vlm`, in a thread of its own, until it is closed.

    sampling: as `generate` takes it; each run has a seed of its own, made of that, its question and its repeat.
    concurrency: requests in flight, most.
    """

    vlm: VLM
    server: OtherServer
    model: str
    sampling: Sampling
    concurrency: int = 16
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._settings = self.sampling.arguments(self.vlm)
        self._stops = self.sampling.stops(self.vlm)
        self._opened = opens_thinking(self.vlm)
        self._places = asyncio.Semaphore(self.concurrency)
        ready = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._until_closed(ready)), name="trajkit-asking", daemon=True)
        self._thread.start()
        ready.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def draws_plainly(self) -> bool:
        """Whether a token's log-probability is the same before the settings of sampling and after them: servers tell
        the one or the other."""
        own = self._settings
        wide = own.get("temperature") == 1 and not own.get("top_k") and own.get("top_p") in (None, 1)
        return not own["do_sample"] or wide

    def close(self) -> None:
        """Cut off what is under way."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closed.set)
            self._thread.join()

    def answers(self, wanted: Iterable[Wanted], most: int = 32) -> Iterator[list[Answer | Unanswered]]:
        """What has come of runs, as soon as there is some and in the order in which it came, `most` at a time.

        `wanted` is gone through in this thread, as far as there is room: for `concurrency` runs in flight, and twice
        `most` that wait to be taken.
        """
        room = self.concurrency + 2 * most
        source, under_way = iter(wanted), dict[Future[Answer], Wanted]()
        done = SimpleQueue[Future[Answer]]()
        while True:
            for one in source:
                future = asyncio.run_coroutine_threadsafe(self._ask(one), self._loop)
                under_way[future] = one
                future.add_done_callback(done.put)
                if len(under_way) >= room:
                    break
            if not under_way:
                return
            yield [_outcome(future, under_way.pop(future)) for future in _taken(done, most)]

    async def _until_closed(self, ready: Event) -> None:
        self._loop, self._closed = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._closed.wait()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.close()

    async def _ask(self, wanted: Wanted) -> Answer:
        """Raises UpstreamError where the server failed every time, InputError where it has no answer to this."""
        async with self._places:
            body = await asyncio.to_thread(self._body, wanted)
            for tried in range(1, self.patience.tries + 1):
                try:
                    return await self._read(wanted, body)
                except UpstreamError as error:
                    if tried == self.patience.tries:
                        raise
                    await asyncio.sleep(self.patience.pause(tried, error.after))
        raise AssertionError("it is tried at least once")

    async def _read(self, wanted: Wanted, body: Mapping[str, Any]) -> Answer:
        """One answer, from its first chunk to its last."""
        reading = _Reading(Tokens(self.vlm, self._opened), self._settings["max_new_tokens"], self.server.url)
        besides = self._besides(wanted)
        async with aclosing(self.server.chunks(body, besides)) as chunks:
            while (chunk := await _next(chunks, reading)) is not None:
                reading.take(chunk)
        refused = [name for fields in besides[: self.server.without] for name in fields]
        facts = {"server_refuses": refused} if refused else {}
        return reading.answer(wanted, self._stops, facts)

    def _body(self, wanted: Wanted) -> dict[str, Any]:
        """A request, but for what not every server takes."""
        chat, settings = Chat.about(wanted.item.image, wanted.item.question), self._settings
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_sent(turn) for turn in chat.for_template(self.vlm.system)],
        }
        body |= {"stream": True, "max_tokens": settings["max_new_tokens"], "temperature": 0.0}
        if settings["do_sample"]:
            body["temperature"] = settings["temperature"]
            body |= {} if settings.get("top_p") is None else {"top_p": settings["top_p"]}
        return body | ({"stop": self._stops} if self._stops else {})

    def _besides(self, wanted: Wanted) -> list[dict[str, Any]]:
        """What is asked for besides, first what is missed least."""
        besides: list[dict[str, Any]] = [{"logprobs": True}, {"return_token_ids": True}]
        besides.append({"stream_options": {"include_usage": True}})
        if self._settings["do_sample"]:
            besides.append({"top_k": self._settings["top_k"] or -1})  # servers say -1 for all
        if self.sampling.seed is not None:
            besides.append({"seed": seed_of(wanted.id, self.sampling.seed)})
        return besides


class _Reading:
    """One answer while it comes."""

    def __init__(self, tokens: Tokens, most: int, url: str) -> None:
        """most: tokens that it may have."""
        self.reason = ""
        self._tokens, self._most, self._url = tokens, most, url
        self._ids: list[int] = []
        self._usage: dict[str, Any] = {}
        self._prompt: list[int] | None = None
        self._n_chunks = 0

    def take(self, chunk: Mapping[str, Any]) -> None:
        """The next chunk. Raises UpstreamError for what is none, or too many, TokensError as `Tokens.of`."""
        self._n_chunks += 1
        try:
            self._prompt = chunk.get("prompt_token_ids") or self._prompt
            self._usage = chunk.get("usage") or self._usage
            for choice in chunk.get("choices") or []:
                self._ids += self._tokens.of(choice, *said_in(choice))
                self.reason = choice.get("finish_reason") or self.reason
        except InputError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UpstreamError(f"{self._url} sends what is no chunk of an answer ({error!r}).") from error
        if len(self._ids) > self._most or self._n_chunks > _CHUNKS_OF_A_TOKEN * self._most + 100:
            raise UpstreamError(f"{self._url} was asked for {self._most} tokens and goes on beyond.")

    def answer(self, wanted: Wanted, stops: list[str], facts: dict[str, Any]) -> Answer:
        """All of it. Raises UpstreamError where it has no end, InputError where it ended for want of anything but
        words, or where its tokens are not those that the server counts."""
        if not self.reason:
            raise UpstreamError(f"{self._url} ended its answer in the middle.")
        if self.reason not in ("stop", "length"):
            raise InputError(f"{self._url} ended its answer with {self.reason!r}: it is no run of the model.")
        told = count(self._usage, "completion_tokens")
        if doubt := self._tokens.doubt(told, self.reason, bool(stops)):
            raise InputError(doubt)
        ids = self._ids
        if self.reason == "stop" and not stops:
            ids = self._tokens.ended(ids)
        facts = facts | {"token_ids": self._tokens.source(told)}
        return Answer(wanted, ids, self._tokens.logprobs, self._prompt, count(self._usage, "prompt_tokens"), facts)


async def _next(chunks: AsyncIterator[dict[str, Any]], reading: _Reading) -> dict[str, Any] | None:
    """The next chunk, None behind the last one: an answer that has ended may break off after that."""
    try:
        return await anext(chunks, None)
    except UpstreamError:
        if not reading.reason:
            raise
        return None


def seed_of(run: str, seed: int) -> int:
    """The seed of one run, in the range that all servers take: 0 to 2³¹ − 1."""
    return zlib.crc32(run.encode(), seed) >> 1


def _taken(done: SimpleQueue[Future[Answer]], most: int) -> Iterator[Future[Answer]]:
    """Those that are done, once one is."""
    yield done.get()
    for _ in range(most - 1):
        try:
            yield done.get_nowait()
        except Empty:
            return


def _outcome(future: Future[Answer], wanted: Wanted) -> Answer | Unanswered:
    try:
        return future.result()
    except TrajkitError as error:
        return Unanswered(wanted, error)
    except CancelledError:
        return Unanswered(wanted, UpstreamError("it was cut off."))


def _sent(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as servers take it, its images as data URLs."""
    return {**turn, "content": [_sent_part(part) for part in turn["content"]]}


def _sent_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    stream = io.BytesIO()
    part["image"].save(stream, format="PNG", compress_level=1)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"},
    }
