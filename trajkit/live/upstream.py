"""The engine that is another server: it generates, its stream is passed on at once, and a replica follows it here.

What is passed on does not wait for what is made of it: steps and verdicts come a moment after their text. A policy's
"stop" cuts the upstream request, "ask again" makes another one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trajkit.attribution.explainer import LiveStep, Watching
from trajkit.attribution.follow import Follower, Followers
from trajkit.attribution.tokens import (
    Tokens,
    TokensError,
    logprob_difference,
    model_doubt,
    opens_thinking,
    prompt_doubt,
    rounding_of,
)
from trajkit.errors import InputError
from trajkit.live.following import End, Followed, FollowingThread
from trajkit.live.generation import Begun, Ended, Explained, Put, Text, TraceMaker, Unexplained, failed_by
from trajkit.live.other_server import OtherServer, UpstreamError, count, said_in
from trajkit.live.request import ChatRequest
from trajkit.live.wishes import facts, wished

if TYPE_CHECKING:
    from trajkit.detection.policies import Decision


@dataclass(frozen=True, eq=False)
class UpstreamEngine:
    """Has `url` (…/v1) generate with `model`, and follows with the same checkpoint. watching: where a request asks for
    nothing else. key, stall: as of `OtherServer`. check_logprobs: whether log-probabilities are asked for, to be held
    against those here, also where a client does not ask for them."""

    url: str
    model: str
    watching: Watching
    key: str | None = None
    stall: float = 60.0
    served_name: str = ""
    check_logprobs: bool = False
    following: FollowingThread = field(default_factory=FollowingThread)

    @property
    def name(self) -> str:
        return self.served_name or self.model

    @cached_property
    def server(self) -> OtherServer:
        """Who generates."""
        return OtherServer(self.url, self.key, self.stall)

    @cached_property
    def group(self) -> Followers:
        """Where all runs are followed, so that they share passes."""
        return Followers(self.watching.vlm, estimator=self.watching.estimator)

    @cached_property
    def opened(self) -> bool:
        """As `opens_thinking`."""
        return opens_thinking(self.watching.vlm)

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
        return UpstreamRun(self, wished(self.watching, request.wish), request, put)

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`."""
        return {"engine": "upstream", "upstream": self.url} | facts(self.watching)

    async def close(self) -> None:
        """As `Engine.close`."""
        await asyncio.to_thread(self.following.close)
        await self.server.close()


class UpstreamRun:
    """One run of an UpstreamEngine. All but `cancel` happens in the event loop's thread."""

    def __init__(self, engine: UpstreamEngine, watching: Watching, request: ChatRequest, put: Put) -> None:
        self._engine, self._watching, self._request, self._put = engine, watching, request, put
        self._loop = asyncio.get_running_loop()
        self._follower: Follower | None = None
        self._attempt = self._n_tokens = 0
        self._decision: Decision | None = None
        self._usage: dict[str, Any] = {}
        self._tokens = Tokens(engine.watching.vlm, engine.opened)
        self._facts: dict[str, Any] = {}
        self._cancelled = self._unexplained = self._lost = self._prompt_told = False
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
            self._put(failed_by(error, self._trace, self._n_tokens))

    @property
    def _trace(self) -> TraceMaker | None:
        return self._follower.trace if self._follower is not None else None

    async def _generate(self) -> None:
        while True:
            self._decision, self._usage, self._lost = None, {}, False
            self._tokens, followed = Tokens(self._watching.vlm, self._engine.opened), self._followed()
            self._reading = self._loop.create_task(self._read(followed))
            if self._cancelled:
                self._reading.cancel()
            try:
                reason, cut = await self._reading, False
            except asyncio.CancelledError:
                reason, cut = "stop", True
            except Exception:
                await self._over(followed, "broken off")
                raise
            await self._over(followed, "cut" if cut else "whole")
            self._check(followed, None if cut else reason)
            again = self._decision is not None and self._decision.action == "ask again" and not self._cancelled
            if not again:
                counted = count(self._usage, "prompt_tokens")
                self._put(Ended(reason, cut, self._n_tokens, counted, self._facts, self._trace))
                return
            self._attempt += 1

    def _followed(self) -> Followed:
        attempt, loop, engine, watching = self._attempt, self._loop, self._engine, self._watching

        def here(function: Any) -> Any:
            return lambda *args: None if loop.is_closed() else loop.call_soon_threadsafe(function, attempt, *args)

        def join() -> Follower:
            if self._follower is not None:
                return engine.group.again(self._follower)
            return engine.group.join(messages=self._request.messages, monitor=watching.monitor, policy=watching.policy)

        return Followed(engine.group, join, here(self._begun), here(self._explained), here(self._left))

    def _begun(self, attempt: int, follower: Follower) -> None:
        self._follower = follower
        if attempt == 0:
            self._put(Begun(follower.regions, follower.prompt.length, self._watching.monitor))

    def _explained(self, attempt: int, step: LiveStep) -> None:
        if attempt != self._attempt:
            return
        self._put(Explained(step))
        if step.decision is not None:
            self._decision = step.decision
            if step.decision.action in ("stop", "ask again") and self._reading is not None:
                self._reading.cancel()

    def _left(self, attempt: int, error: Exception) -> None:
        self._say_once(Unexplained.by(error))

    def _say_once(self, unexplained: Unexplained) -> None:
        if not self._unexplained:
            self._unexplained = True
            self._put(unexplained)

    async def _over(self, followed: Followed, end: End) -> None:
        """Wait until what came is explained, as far as `end` says."""
        done = asyncio.Event()

        def then() -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(done.set)

        self._engine.following.finish(followed, end, then)
        await done.wait()

    def _check(self, followed: Followed, reason: str | None) -> None:
        """Hold what was followed against what the server tells, and say once what is wrong. reason: why an attempt
        ended, None where it was cut off."""
        follower, tokens, doubt = followed.follower, self._tokens, None
        told = count(self._usage, "completion_tokens")
        self._facts = {"token_ids": tokens.source(told)}
        if follower is None:
            return
        if reason is not None and not self._prompt_told:
            doubt = prompt_doubt(follower.prompt.length, count(self._usage, "prompt_tokens"))
        if reason is not None and doubt is None:
            doubt = tokens.doubt(told, reason, bool(self._request.sampling.stop_strings))
        difference, n = logprob_difference(tokens, follower)
        if n:
            self._facts["logprob_difference"] = round(difference, 6)
            doubt = doubt or model_doubt(difference, n, rounding_of(self._watching.vlm))
        if doubt is not None:
            self._say_once(Unexplained(doubt, quotes=False))

    async def _read(self, followed: Followed) -> str:
        """Pass an answer on as it comes; why it ended."""
        engine, reason, before, begun = self._engine, "", self._n_tokens, False
        try:
            async for chunk in engine.server.chunks(*self._asked()):
                if not begun:  # and not before, which would hold up the first token where cores are few
                    begun, prompt = True, chunk.get("prompt_token_ids")
                    self._prompt_told = prompt is not None
                    engine.following.push(followed, prompt=prompt)
                self._usage = chunk.get("usage") or self._usage
                for choice in chunk.get("choices") or []:
                    self._take(choice, followed)
                    reason = choice.get("finish_reason") or reason
        except (AttributeError, KeyError, TypeError) as error:
            raise UpstreamError(f"{engine.url} sends what is no chunk of an answer ({error!r}).") from error
        except UpstreamError:
            if not reason:
                raise
        if not reason:
            raise UpstreamError(f"{engine.url} ended its answer in the middle.")
        self._n_tokens = before + (count(self._usage, "completion_tokens") or self._tokens.n)
        return reason

    def _take(self, choice: dict[str, Any], followed: Followed) -> None:
        """A choice of a chunk: its text is passed on, its tokens are followed."""
        (thinking, text), asked = said_in(choice), self._request
        self._follow(choice, thinking, text, followed)
        told = tuple(choice.get("token_ids") or ()) if asked.token_ids else ()
        logprobs = choice.get("logprobs") if asked.logprobs else None
        if thinking or ((told or logprobs) and not text):
            self._put(Text("thinking", thinking, self._attempt, told, logprobs))
            told, logprobs = (), None
        if text:
            self._put(Text("answer", text, self._attempt, told, logprobs))

    def _follow(self, choice: dict[str, Any], thinking: str, text: str, followed: Followed) -> None:
        """Has tokens followed, up to the first that cannot be known."""
        if self._lost:
            return
        try:
            new = self._tokens.of(choice, thinking, text)
        except TokensError as error:
            self._lost = True
            self._engine.following.fail(followed, error)
            return
        self._n_tokens += len(new)
        if new:
            self._engine.following.push(followed, new)

    def _asked(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The request that is passed on, and what is asked for besides."""
        engine, asked = self._engine, self._request
        body = asked.body | {"model": engine.model, "stream": True}
        if self._attempt and body.get("seed") is not None:
            body["seed"] = (body["seed"] + self._attempt) % 2**32
        besides: list[dict[str, Any]] = [{"return_token_ids": True}]
        options = body.get("stream_options")
        besides.append({"stream_options": (options if isinstance(options, dict) else {}) | {"include_usage": True}})
        if engine.check_logprobs and not asked.logprobs:
            besides.append({"logprobs": True})
        return body, besides
