"""Follows runs of another engine in one thread, those that have news together in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.follow import Follower, Followers
from trajkit.errors import untraced

if TYPE_CHECKING:
    from trajkit.traces.trace import Trace


@dataclass(eq=False)
class Followed:
    """A run that is followed. join: begins to. on_step, on_error: called in the thread that follows. n: tokens that
    were handed over."""

    join: Callable[[], Follower]
    on_begun: Callable[[Follower], object]
    on_step: Callable[[LiveStep], object]
    on_error: Callable[[Exception], object]
    follower: Follower | None = None
    failed: bool = field(default=False)


@dataclass(frozen=True, eq=False)
class _News:
    of: Followed
    tokens: Sequence[int] = ()
    over: Callable[[Trace | None], object] | None = None
    left: bool = False


class FollowingThread:
    """One thread for all runs of one model."""

    def __init__(self) -> None:
        self._inbox: Queue[_News | None] = Queue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """News that wait."""
        return self._inbox.qsize()

    def push(self, of: Followed, tokens: Sequence[int]) -> None:
        """The next tokens of a run, or none, to begin it. Does not wait."""
        self._inbox.put(_News(of, tokens))

    def finish(self, of: Followed, then: Callable[[Trace | None], object]) -> None:
        """A run is over. then: called with its trace once its last step is explained, None where it could not be."""
        self._inbox.put(_News(of, over=then))

    def leave(self, of: Followed, then: Callable[[Trace | None], object]) -> None:
        """A run was cut off: explain no more of it. then: called with the trace of what there is."""
        self._inbox.put(_News(of, over=then, left=True))

    def close(self) -> None:
        self._inbox.put(None)

    def _run(self) -> None:
        while (first := self._inbox.get()) is not None:
            news = [first]
            while True:
                try:
                    more = self._inbox.get_nowait()
                except Empty:
                    break
                if more is None:
                    return
                news.append(more)
            self._take(news)

    def _take(self, news: Sequence[_News]) -> None:
        tokens: dict[Followed, list[int]] = {}
        for one in news:
            tokens.setdefault(one.of, []).extend(one.tokens)
        self._read(tokens)
        for one in news:
            if one.over is not None:
                self._end(one)

    def _read(self, tokens: dict[Followed, list[int]]) -> None:
        """One pass over what is new of all runs; where that fails, one of each, so that one alone is to blame."""
        joined = [of for of in tokens if self._joined(of)]
        groups: dict[Followers, list[Followed]] = {}
        for of in joined:
            assert of.follower is not None
            groups.setdefault(of.follower._group, []).append(of)
        for group, members in groups.items():
            self._push(group, members, tokens)

    def _push(self, group: Followers, members: Sequence[Followed], tokens: dict[Followed, list[int]]) -> None:
        try:
            made = group.push({of.follower: tokens[of] for of in members if of.follower is not None})
        except Exception as error:
            if len(members) == 1:
                self._fail(members[0], error)
                return
            for of in members:
                self._push(group, [of], tokens)
            return
        for of in members:
            assert of.follower is not None
            for step in made[of.follower]:
                of.on_step(step)
            if of.follower.error is not None:
                self._fail(of, of.follower.error)

    def _joined(self, of: Followed) -> bool:
        if of.failed:
            return False
        if of.follower is None:
            try:
                of.follower = of.join()
                of.on_begun(of.follower)
            except Exception as error:
                self._fail(of, error)
                return False
        return True

    def _end(self, news: _News) -> None:
        of, trace = news.of, None
        follower = of.follower
        assert news.over is not None
        try:
            if follower is not None and not of.failed:
                if news.left:
                    follower.leave()
                else:
                    for step in follower.finish():
                        of.on_step(step)
                trace = follower.trace()
        except Exception as error:
            self._fail(of, error)
        finally:
            news.over(trace)

    def _fail(self, of: Followed, error: Exception) -> None:
        of.failed = True
        if of.follower is not None:
            of.follower.leave()
        of.on_error(untraced(error))
