"""Which of the runs that are watched side by side are told to the test for drift, and in what order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from trajkit.detection.drift import Drift

MOST_WAITING = 10_000
"""Runs that one can keep waiting; it is then given up, as one that nobody ends. One in so many tells of no drift."""


@dataclass(eq=False)
class Place:
    """Of one run, in the order in which runs began. known: whether its maximum is, or never will be (None)."""

    known: bool = False
    most: float | None = None


class FirstRuns:
    """Of each group the run that began first, told to a `Drift` in the order in which they began.

    By the order in which they end, the first of a group would be its shortest, and the first of all a short one too:
    their maxima are smaller than those of the calibration, and drift would be told where there is none
    (tests/detection/test_watched.py). So a run waits for those that began before it. Memory is that of a name a group.
    """

    def __init__(self, drift: Drift, most_waiting: int = MOST_WAITING) -> None:
        self._drift, self._most = drift, most_waiting
        self._seen: set[str] = set()
        self._waiting: deque[Place] = deque()

    def begin(self, group: str) -> Place | None:
        """The place of a run that begins; None for one that does not count, of no group or one that was seen."""
        if not group or group in self._seen:
            return None
        self._seen.add(group)
        self._waiting.append(place := Place())
        if len(self._waiting) > self._most:
            self.end(self._waiting[0], None)
        return place

    def end(self, place: Place | None, most: float | None) -> None:
        """The maximum of a run, None where it will not be known. Of one that has been told nothing changes."""
        if place is None or place.known:
            return
        place.known, place.most = True, most
        while self._waiting and self._waiting[0].known:
            if (first := self._waiting.popleft().most) is not None:
                self._drift.update(first)

    @property
    def p_value(self) -> float | None:
        """As `DriftState.p_value`; None before a run has been told."""
        return self._drift.state.p_value if self._drift.state.n else None
