"""Places to generate in: so many runs at once, and a queue of those that wait, which says how long it is."""

from __future__ import annotations

import asyncio
from collections import deque


class Full(Exception):
    """No place, and no room to wait. waiting: how many do."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests wait already")
        self.waiting = waiting


class Places:
    """At most `n` runs at once, in the order in which they came; at most `room` wait."""

    def __init__(self, n: int, room: int) -> None:
        self.n, self.room, self.taken = n, room, 0
        self._waiting = deque[Turn]()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether whoever comes now is refused."""
        return self.taken >= self.n and self.waiting >= self.room

    def join(self) -> Turn:
        """Come in behind those who wait; to be left again, whatever happens. Raises Full where too many wait."""
        if self.full:
            raise Full(self.waiting)
        turn = Turn(self)
        if self.taken < self.n:
            self.taken += 1
            turn.call()
        else:
            self._waiting.append(turn)
        return turn

    def left(self, turn: Turn) -> None:
        """Its place goes to who waits longest; who had none yet waits no longer."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif self._waiting:
            self._waiting.popleft().call()
        else:
            self.taken -= 1


class Turn:
    """A place, or a turn for the next one: `come` before it is used, `leave` afterwards, or before."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places
        self._called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Wait for the place."""
        await asyncio.wait([self._called])  # which, unlike the future itself, may be cancelled and comes to no harm

    def call(self) -> None:
        """It has its place."""
        self._called.set_result(None)

    def leave(self) -> None:
        """Give it up; a second time does nothing."""
        places, self._places = self._places, None
        if places is not None:
            places.left(self)
