"""The engine that is another server: it generates, its stream is passed on at once, and a replica follows it here.

What is passed on does not wait for what is made of it: steps and verdicts come a moment after their text. A policy's
"stop" cuts the upstream request, "ask again" makes another one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from trajkit.attribution.explainer import LiveStep, Watching
from trajkit.attribution.follow import Follower, Followers
from trajkit.errors import InputError, TrajkitError
from trajkit.live.following import Followed, FollowingThread
from trajkit.live.generation import Begun, Ended, Explained, Put, Text, TraceMaker, Unexplained, failed_by
from trajkit.live.request import ChatRequest
from trajkit.live.wishes import facts, wished

if TYPE_CHECKING:
    from trajkit.detection.policies import Decision, Policy
    from trajkit.vlm.model import VLM

_LONGEST_LINE = 2**22


class UpstreamError(TrajkitError):
    """The other server failed, stalled, or sent what cannot be read."""


@dataclass(frozen=True, eq=False)
class UpstreamEngine:
    """Has `url` (…/v1) generate with `model`, and follows with the same checkpoint. watching: where a request asks for
    nothing else. key: its API key. stall: seconds without a byte after which it counts as dead."""

    url: str
    model: str
    watching: Watching
    key: str | None = None
    stall: float = 60.0
    served_name: str = ""
    following: FollowingThread = field(default_factory=FollowingThread)
    _groups: dict[Policy | None, Followers] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.served_name or self.model

    def check(self, request: ChatRequest) -> None:
        """As `Engine.check`."""
        policy = wished(self.watching, request.wish).policy
        if policy is None:
            return
        if policy.on_alarm == "answer now" or policy.enough is not None:
            raise InputError("another server's thinking cannot be closed from here; ask for stop, ask again or flag.")
        if policy.on_alarm == "ask again" and (policy.start != "anew" or policy.hint):
            raise InputError("another server can be asked again from the start only; leave out `from` and `hint`.")

    def begin(self, request: ChatRequest, put: Put) -> UpstreamRun:
        """As `Engine.begin`; to be called in a running event loop."""
        return UpstreamRun(self, self._group(wished(self.watching, request.wish)), request, put)

    def _group(self, watching: Watching) -> Followers:
        """Where runs of one policy are followed, so that they share passes."""
        if watching.policy not in self._groups:
            self._groups[watching.policy] = Followers(
                watching.vlm, estimator=watching.estimator, monitor=watching.monitor, policy=watching.policy
            )
        return self._groups[watching.policy]

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`."""
        return {"engine": "upstream", "upstream": self.url} | facts(self.watching)


async def find_model(url: str, key: str | None, asked: str | None = None) -> str:
    """The model that a server has, or the one of its models that is asked for. Raises UpstreamError."""
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.get(f"{url}/models", headers=_headers(key))
            answer.raise_for_status()
            names = [str(one["id"]) for one in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise UpstreamError(f"{url}/models gives no list of models ({error}); is the server up?") from error
    if asked is not None and asked not in names:
        raise UpstreamError(f"{url} has no model {asked!r}, but {', '.join(names)}.")
    if asked is None and len(names) != 1:
        raise UpstreamError(f"{url} has {len(names)} models ({', '.join(names)}); say which one.")
    return asked or names[0]


class UpstreamRun:
    """One run of an UpstreamEngine. All but `cancel` happens in the event loop's thread."""

    def __init__(self, engine: UpstreamEngine, group: Followers, request: ChatRequest, put: Put) -> None:
        self._engine, self._group, self._request, self._put = engine, group, request, put
        self._loop = asyncio.get_running_loop()
        self._follower: Follower | None = None
        self._attempt = self._n_tokens = 0
        self._decision: Decision | None = None
        self._prompt_ids: list[int] | None = None
        self._cancelled = False
        self._reading: asyncio.Task[str] | None = None
        self._task = self._loop.create_task(self._run())

    def cancel(self) -> None:
        """As `Running.cancel`."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        self._cancelled = True
        if self._reading is not None:
            self._reading.cancel()

    async def _run(self) -> None:
        try:
            await self._generate()
        except Exception as error:
            self._put(failed_by(error, self._trace))

    @property
    def _trace(self) -> TraceMaker | None:
        return self._follower.trace if self._follower is not None else None

    async def _generate(self) -> None:
        while True:
            self._decision, self._prompt_ids, followed = None, None, self._followed()
            self._reading = self._loop.create_task(self._read(followed))
            if self._cancelled:
                self._reading.cancel()
            try:
                reason, cut = await self._reading, False
            except asyncio.CancelledError:
                reason, cut = "stop", True
            except Exception:
                await self._over(followed, cut=True)
                raise
            await self._over(followed, cut)
            again = self._decision is not None and self._decision.action == "ask again" and not self._cancelled
            if not again:
                self._put(Ended(reason, cut, self._n_tokens, self._trace))
                return
            self._attempt += 1

    def _followed(self) -> Followed:
        attempt, loop = self._attempt, self._loop

        def here(function: Any) -> Any:
            return lambda *args: None if loop.is_closed() else loop.call_soon_threadsafe(function, attempt, *args)

        def join() -> Follower:
            if self._follower is not None:
                return self._group.again(self._follower)
            return self._group.join(messages=self._request.messages, prompt_token_ids=self._prompt_ids)

        return Followed(self._group, join, here(self._begun), here(self._explained), here(self._unexplained))

    def _begun(self, attempt: int, follower: Follower) -> None:
        self._follower = follower
        if attempt == 0:
            self._put(Begun(follower.regions, follower.prompt.length, self._engine.watching.monitor))

    def _explained(self, attempt: int, step: LiveStep) -> None:
        if attempt != self._attempt:
            return
        self._put(Explained(step))
        if step.decision is not None:
            self._decision = step.decision
            if step.decision.action in ("stop", "ask again") and self._reading is not None:
                self._reading.cancel()

    def _unexplained(self, attempt: int, error: Exception) -> None:
        self._put(Unexplained.by(error))

    async def _over(self, followed: Followed, cut: bool) -> None:
        """Wait until what came is explained, or until it is left."""
        done = asyncio.Event()

        def then() -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(done.set)

        (self._engine.following.leave if cut else self._engine.following.finish)(followed, then)
        await done.wait()

    async def _read(self, followed: Followed) -> str:
        """Pass an answer on as it comes; why it ended."""
        engine, reason, tokens = self._engine, "", _Tokens(self._engine.watching.vlm)
        begun = False
        async for chunk in self._chunks():
            if not begun:
                begun, self._prompt_ids = True, chunk.get("prompt_token_ids")
                engine.following.push(followed, [])
            for choice in chunk.get("choices") or []:
                delta = choice.get("delta") or {}
                thinking, text = (
                    delta.get("reasoning") or delta.get("reasoning_content") or "",
                    delta.get("content") or "",
                )
                if thinking:
                    self._put(Text("thinking", thinking, self._attempt))
                if text:
                    self._put(Text("answer", text, self._attempt))
                new = tokens.of(choice.get("token_ids"), thinking, text)
                self._n_tokens += len(new)
                if new:
                    engine.following.push(followed, new)
                reason = choice.get("finish_reason") or reason
        if not reason:
            raise UpstreamError(f"{engine.url} ended its answer in the middle.")
        return reason

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        engine = self._engine
        body = self._request.body | {"model": engine.model, "stream": True, "return_token_ids": True}
        if self._attempt and body.get("seed") is not None:
            body["seed"] = (body["seed"] + self._attempt) % 2**32
        timeout, url = httpx.Timeout(10, read=engine.stall), f"{engine.url}/chat/completions"
        try:
            async with (
                httpx.AsyncClient(timeout=timeout) as client,
                client.stream("POST", url, json=body, headers=_headers(engine.key)) as answer,
            ):
                if answer.status_code != 200:
                    said = (await answer.aread())[:500].decode(errors="replace")
                    what = f"{engine.url} answers {answer.status_code}: {said}"
                    raise InputError(what) if 400 <= answer.status_code < 500 else UpstreamError(what)
                async for line in answer.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line[5:].strip()
                    if data == "[DONE]":
                        return
                    yield _object(data, engine.url)
        except httpx.TimeoutException as error:
            raise UpstreamError(f"{engine.url} has sent nothing for {engine.stall:g} s.") from error
        except httpx.HTTPError as error:
            raise UpstreamError(f"{engine.url} cannot be read: {error or type(error).__name__}.") from error


class _Tokens:
    """Token ids of an answer: as the other server tells them, or made from its text."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm
        self._answering = False

    def of(self, told: Any, thinking: str, text: str) -> Sequence[int]:
        if isinstance(told, list):
            return [int(token) for token in told]
        if not thinking and not text:
            return []
        out = self._encoded(thinking)
        if text and not self._answering:
            self._answering = True
            out += [self._vlm.think_end] if self._vlm.think_end is not None else self._encoded("</think>")
        return out + self._encoded(text)

    def _encoded(self, text: str) -> list[int]:
        return list(self._vlm.tokenizer.encode(text, add_special_tokens=False)) if text else []


def _object(data: str, url: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data) if len(data) <= _LONGEST_LINE else None
    except (ValueError, RecursionError):
        chunk = None
    if not isinstance(chunk, dict):
        raise UpstreamError(f"{url} sends what is no chunk of an answer: {data[:80]!r}.")
    if "error" in chunk:
        raise UpstreamError(f"{url} says: {str(chunk['error'])[:300]}")
    return chunk


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
