"""Bodies of requests: read within limits of size, of time, and of memory for all that are being read at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from trajkit.live.errors import Refused

_TOGETHER = 4
"""Times the largest body, which all that are held at once may take."""
_AT_ONCE = 2
"""Bodies of which something is made at once: what is made of one takes several times its memory."""


class Bodies:
    """most: bytes of one. seconds: in which it must have come."""

    def __init__(self, most: int, seconds: float = 120.0) -> None:
        self._most, self._seconds, self._held = most, seconds, 0
        self._making = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, while it is in use. Raises Refused for one that is too long, too slow, or for which
        there is no memory now, and ClientDisconnect."""
        parts, n = list[bytes](), 0
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    async for part in request.stream():
                        parts.append(part)
                        n += len(part)
                        self._held += len(part)
                        self._check(n)
            except TimeoutError:
                raise Refused(408, f"the body did not come within {self._seconds:g} s.") from None
            async with self._making:
                yield b"".join(parts)
        finally:
            self._held -= n

    def _check(self, n: int) -> None:
        if n > self._most:
            raise Refused(413, f"the body has more than {self._most / 2**20:.0f} MB; send smaller images.")
        if self._held > _TOGETHER * self._most:
            message = "too many large requests come at once; try again later."
            raise Refused(503, message, "server_error", {"Retry-After": "5"})
