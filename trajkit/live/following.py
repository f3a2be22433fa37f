"""Follows runs of another engine in one thread, those that have news together in one pass."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.follow import Follower, Followers
from trajkit.errors import InputError, untraced


@dataclass(eq=False)
class Followed:
    """A run that is followed in `group`. join: begins to. The others are called in the thread that follows."""

    group: Followers
    join: Callable[[], Follower]
    on_begun: Callable[[Follower], object]
    on_step: Callable[[LiveStep], object]
    on_error: Callable[[Exception], object]
    follower: Follower | None = None
    failed: bool = False


@dataclass(frozen=True, eq=False)
class _News:
    of: Followed
    tokens: Sequence[int] = ()
    over: Callable[[], object] | None = None
    left: bool = False


class FollowingThread:
    """One thread for all runs of one model."""

    def __init__(self) -> None:
        self._inbox: Queue[_News | None] = Queue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        atexit.register(self.close)  # torch does not survive to be cut off in a thread

    def push(self, of: Followed, tokens: Sequence[int]) -> None:
        """The next tokens of a run, or none, to begin it. Does not wait."""
        self._inbox.put(_News(of, tokens))

    def finish(self, of: Followed, then: Callable[[], object]) -> None:
        """A run is over. then: called once its last step is explained, or cannot be."""
        self._inbox.put(_News(of, over=then))

    def leave(self, of: Followed, then: Callable[[], object]) -> None:
        """A run was cut off: explain no more of it. then: called when that is so."""
        self._inbox.put(_News(of, over=then, left=True))

    def close(self) -> None:
        """End the thread once it has done what it was told, and wait for it."""
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
        left = {one.of for one in news if one.left}
        tokens: dict[Followed, list[int]] = {}
        for one in news:
            if one.of not in left:
                tokens.setdefault(one.of, []).extend(one.tokens)
        groups: dict[Followers, list[Followed]] = {}
        for of in filter(self._joined, tokens):
            groups.setdefault(of.group, []).append(of)
        for group, members in groups.items():
            self._push(group, {of: tokens[of] for of in members})
        for one in news:
            if one.over is not None:
                self._end(one.of, one.left)
                one.over()

    def _joined(self, of: Followed) -> bool:
        if of.follower is None and not of.failed:
            try:
                of.follower = of.join()
                of.on_begun(of.follower)
            except Exception as error:
                self._fail(of, error)
        return not of.failed

    def _push(self, group: Followers, tokens: dict[Followed, list[int]]) -> None:
        """One pass over what is new of runs; where that fails, one of each, so that one alone is to blame."""
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
            self._tell(of, made[of.follower] if of.follower is not None else [])

    def _tell(self, of: Followed, steps: Sequence[LiveStep]) -> None:
        for step in steps:
            of.on_step(step)
        if of.follower is not None and of.follower.error is not None:
            self._fail(of, of.follower.error)

    def _end(self, of: Followed, left: bool) -> None:
        if of.follower is None or of.failed:
            return
        if left:
            of.follower.leave()
            return
        try:
            self._tell(of, of.group.finish(of.follower)[of.follower])
        except Exception as error:
            self._fail(of, error)

    def _fail(self, of: Followed, error: Exception) -> None:
        of.failed = True
        if of.follower is not None:
            of.follower.leave()
        of.on_error(untraced(error))
