"""Runs that a server has seen, event by event, for whoever looks on, from any point and at any pace.

Viewers read a list that only grows and never hold up who writes it; a viewer that comes back says how far it was.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any


class RunLog:
    """One run. Written in the event loop's thread. events: JSON texts, numbered from 0."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.id = uuid.uuid4().hex[:16]
        self.about = about | {"id": self.id, "began": time.time(), "state": "waiting", "steps": 0, "alarm": None}
        self.events: list[str] = []
        self._more = asyncio.Event()

    @property
    def over(self) -> bool:
        return self.about["state"] in ("ended", "stopped", "failed")

    def add(self, event: str, told: dict[str, Any]) -> None:
        """Tell those who look on."""
        self.events.append(json.dumps({"event": event} | told, ensure_ascii=False, allow_nan=False))
        self._more.set()
        self._more = asyncio.Event()

    async def follow(self, start: int = 0) -> AsyncIterator[tuple[int, str]]:
        """Events from number `start` on, those to come too, until the run is over."""
        at = start
        while True:
            more = self._more
            while at < len(self.events):
                yield at, self.events[at]
                at += 1
            if self.over:
                return
            await more.wait()


class History:
    """The latest runs; those that are over are forgotten once there are more than `most`."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._runs = OrderedDict[str, RunLog]()

    def begin(self, about: dict[str, Any]) -> RunLog:
        log = RunLog(about)
        self._runs[log.id] = log
        for id_, old in list(self._runs.items()):
            if len(self._runs) <= self._most:
                break
            if old.over:
                del self._runs[id_]
        return log

    def get(self, id_: str) -> RunLog | None:
        return self._runs.get(id_)

    def latest(self, n: int) -> list[dict[str, Any]]:
        """About the latest runs, the newest first."""
        return [log.about for log in list(self._runs.values())[::-1][:n]]
