"""Places to generate in: so many runs at once, and a queue of those that wait, which says how long it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Full(Exception):
    """No place, and no room to wait. waiting: how many do."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests wait already")
        self.waiting = waiting


class Places:
    """At most `n` runs at once, in the order in which they came; at most `room` wait."""

    def __init__(self, n: int, room: int) -> None:
        self.n, self.room, self.taken = n, room, 0
        self._waiting = deque[asyncio.Future[None]]()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether whoever comes now is refused."""
        return self.taken >= self.n and self.waiting >= self.room

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Full where too many wait."""
        if self.full:
            raise Full(self.waiting)
        if self.taken < self.n and not self._waiting:
            self.taken += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._give()

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came as the client went
                self._give()
            else:
                self._waiting.remove(turn)
            raise

    def _give(self) -> None:
        """Hand a place to who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
