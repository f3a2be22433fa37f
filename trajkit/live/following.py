"""Follows runs of another engine in one thread, those that have news together in one pass."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, Queue
from threading import Thread
from typing import Literal

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.follow import Follower, Followers
from trajkit.attribution.told import check_prompt
from trajkit.errors import InputError, untraced


@dataclass(eq=False)
class Followed:
    """A run that is followed in `group`. join: begins to. The others are called in the thread that follows.
    waits_since: when the first of the tokens came that are looked at now, by `time.perf_counter`."""

    group: Followers
    join: Callable[[], Follower]
    on_begun: Callable[[Follower], object]
    on_step: Callable[[LiveStep], object]
    on_error: Callable[[Exception], object]
    follower: Follower | None = None
    failed: bool = False
    waits_since: float = 0.0


End = Literal["whole", "broken off", "cut"]
"""How a run is over: its last step is explained; or those that are complete; or none that is not explained yet."""


@dataclass(frozen=True, eq=False)
class _News:
    of: Followed
    tokens: Sequence[int] = ()
    prompt: Sequence[int] | None = None
    over: Callable[[], object] | None = None
    end: End | None = None
    error: Exception | None = None
    at: float = field(default_factory=time.perf_counter)


class FollowingThread:
    """One thread for all runs of one model."""

    def __init__(self) -> None:
        self._inbox: Queue[_News | None] = Queue()
        self._thread = Thread(target=self._run, name="trajkit-following", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # torch does not survive to be cut off in a thread

    def push(self, of: Followed, tokens: Sequence[int] = (), prompt: Sequence[int] | None = None) -> None:
        """The next tokens of a run, or none, to begin it. prompt: ids that the other engine made of it, to be compared.
        Does not wait."""
        self._inbox.put(_News(of, tokens, prompt))

    def fail(self, of: Followed, error: Exception) -> None:
        """What comes of a run is not to be followed, after what was pushed; `on_error` is called."""
        self._inbox.put(_News(of, error=error))

    def finish(self, of: Followed, end: End, then: Callable[[], object]) -> None:
        """A run is over. then: called once what `end` says is explained, or cannot be."""
        self._inbox.put(_News(of, over=then, end=end))

    def close(self) -> None:
        """End the thread once it has done what it was told, and wait for it."""
        atexit.unregister(self.close)
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            news = [self._inbox.get()]
            try:
                while True:
                    news.append(self._inbox.get_nowait())
            except Empty:
                pass
            going = None not in news
            self._take([one for one in news if one is not None])

    def _take(self, news: Sequence[_News]) -> None:
        cut = {one.of for one in news if one.end == "cut"}
        tokens: dict[Followed, list[int]] = {}
        for one in news:
            if one.of not in cut and one.error is None:
                if one.of not in tokens:
                    one.of.waits_since = one.at
                tokens.setdefault(one.of, []).extend(one.tokens)
        prompts = {one.of: one.prompt for one in news if one.prompt is not None}
        groups: dict[Followers, list[Followed]] = {}
        for of in filter(lambda of: self._joined(of, prompts.get(of)), tokens):
            groups.setdefault(of.group, []).append(of)
        for group, members in groups.items():
            self._push(group, {of: tokens[of] for of in members})
        for one in news:
            if one.error is not None and not one.of.failed:
                self._fail(one.of, one.error)
            if one.over is not None:
                self._end(one.of, one.end)
                one.over()

    def _joined(self, of: Followed, prompt: Sequence[int] | None) -> bool:
        """Whether it can be followed; it is begun where it was not."""
        if of.failed:
            return False
        try:
            if of.follower is None:
                of.follower = of.join()
                of.on_begun(of.follower)
            if prompt is not None:
                check_prompt(of.follower.prompt.inputs["input_ids"][0].tolist(), prompt)
        except Exception as error:
            self._fail(of, error)
        return not of.failed

    def _push(self, group: Followers, tokens: dict[Followed, list[int]]) -> None:
        """One pass over what is new of runs; where that fails, one of each, so that one alone is to blame."""
        taken_at = time.perf_counter()
        try:
            made = group.push({of.follower: new for of, new in tokens.items() if of.follower is not None})
        except Exception as error:
            if len(tokens) == 1:
                self._fail(next(iter(tokens)), error)
                return
            taken = not isinstance(error, InputError)
            for of, new in tokens.items():
                self._push(group, {of: [] if taken else new})
            return
        for of in tokens:
            self._tell(of, made[of.follower] if of.follower is not None else [], taken_at)

    def _tell(self, of: Followed, steps: Sequence[LiveStep], taken_at: float) -> None:
        """taken_at: when its tokens, which may have waited, were looked at."""
        for step in steps:
            of.on_step(replace(step, delay=step.delay + taken_at - of.waits_since))
        if of.follower is not None and of.follower.error is not None:
            self._fail(of, of.follower.error)

    def _end(self, of: Followed, end: End | None) -> None:
        if of.follower is None or of.failed:
            return
        if end != "whole":
            of.follower.leave()
            return
        try:
            taken_at = time.perf_counter()
            self._tell(of, of.group.finish(of.follower)[of.follower], taken_at)
        except Exception as error:
            self._fail(of, error)

    def _fail(self, of: Followed, error: Exception) -> None:
        of.failed = True
        if of.follower is not None:
            of.follower.leave()
        of.on_error(untraced(error))
