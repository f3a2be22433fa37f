"""Runs that a server has seen, event by event, for whoever looks on, from any point and at any pace.

Viewers read a list that only grows and never hold up who writes it; a viewer that comes back says how far it was.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajkit.live.query import Numbered, Row

if TYPE_CHECKING:
    from trajkit.live.generation import TraceMaker
    from trajkit.live.keeping import Keeper

_PATIENCE = 8
"""Times the memory that is meant to be taken, which runs that cannot be kept may take."""
_PACE = 0.2
"""Seconds between what a viewer of a run that goes on is sent: fifty of them then cost a token little."""
_AT_ONCE = 2**16
"""Characters of events that are handed to a viewer together."""
_ROW = Row(
    id="",
    source="live",
    state="waiting",
    question="",
    task="",
    group="",
    model="",
    answer="",
    target="",
    outcome=None,
    n_steps=0,
    n_tokens=0,
    alarm=None,
    risk=None,
    began=None,
    label=None,
    decision=None,
)
"""Of a run of which nothing is known."""


class Folded:
    """A row, as the events of its run make it: the same for one that is told now and one that is read again."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.row: Row = {**_ROW, **{name: known[name] for name in _ROW if name in known}}  # type: ignore[typeddict-item]
        self._attempt = 0
        self._answer: list[str] = []
        self._steps: list[tuple[float | None, int | None]] = []  # of the latest attempt, up to each: as in its row

    def take(self, told: dict[str, Any]) -> None:
        """The next event."""
        event = told["event"]
        if event == "start":
            self._set(told)
        elif event in ("text", "step"):
            if told["attempt"] != self._attempt:
                self._attempt, self._answer = told["attempt"], []
            self._take_text(told) if event == "text" else self._take_step(told)
        elif event == "end":
            self._set(told)

    @property
    def answer(self) -> str:
        return "".join(self._answer).strip()

    def _set(self, told: Mapping[str, Any]) -> None:
        self.row |= {name: told[name] for name in _ROW if name in told}  # type: ignore[typeddict-item]

    def _take_text(self, told: dict[str, Any]) -> None:
        if told["kind"] == "answer":
            self._answer.append(told["text"])

    def _take_step(self, told: dict[str, Any]) -> None:
        del self._steps[told["index"] :]
        risk, alarm = self._steps[-1] if self._steps else (None, None)
        if told["risk"] is not None:
            risk = told["risk"] if risk is None else max(risk, told["risk"])
        if told["alarm"] and alarm is None:
            alarm = len(self._steps)
        self._steps.append((risk, alarm))
        self.row["n_steps"], self.row["n_tokens"] = len(self._steps), told["tokens"][1]
        self.row["risk"], self.row["alarm"] = risk, alarm
        if told["decision"] is not None:
            self.row["decision"] = told["decision"]["action"]


class RunLog:
    """One run, its row and its events. Written in the thread of the event loop, read in any.

    events: JSON texts, numbered from 0. over: whether the last of them is there. trace: makes its Trace, once it is
    over and where there can be one. viewers: who follow it now. unexplained: why it went on without steps, if it did.
    nbytes: of memory that its events take, about. noted: whether its keeper knows that there is something new. changed:
    called after each event.
    """

    def __init__(
        self, id_: str, known: Mapping[str, Any], changed: Callable[[RunLog], object] = lambda log: None
    ) -> None:
        self.id = id_
        self.events: list[str] = []
        self.over = self.noted = False
        self.trace: TraceMaker | None = None
        self.unexplained = ""
        self.nbytes = 0
        self._folded = Folded({**known, "id": id_})
        self._changed = changed
        self.viewers = 0
        self._file: Path | None = None
        self._more = asyncio.Event()

    @classmethod
    def of_events(cls, id_: str, events: list[str], changed: Callable[[RunLog], object]) -> RunLog:
        """One that is read again, whose end is not there yet. Raises LookupError or TypeError where its events are
        none."""
        log = cls(id_, {}, changed)
        if not events:
            raise LookupError("no events")
        for event in events:
            log._folded.take(json.loads(event))
        log.events, log.nbytes = events, sum(map(len, events))
        return log

    @classmethod
    def of_file(cls, file: Path, known: Mapping[str, Any]) -> RunLog:
        """One that is over, whose events are the lines of a file."""
        log = cls(file.stem, known)
        log.over, log._file = True, file
        return log

    @property
    def row(self) -> Row:
        return self._folded.row

    @property
    def answer(self) -> str:
        """What was answered so far."""
        return self._folded.answer

    def set_running(self) -> None:
        """It has its place."""
        self.row["state"] = "running"

    def set_label(self, label: str | None) -> None:
        """It takes the place of an outcome."""
        self.row["label"] = self.row["outcome"] = label

    def add(self, event: str, told: dict[str, Any]) -> None:
        """Tell those who look on."""
        told = {"event": event} | told
        self._folded.take(told)
        if event == "unexplained":
            self.unexplained = told["message"]
        if event == "end":  # with the row, by which it is listed again without reading all events
            told = {**self.row, **told}
        text = json.dumps(told, ensure_ascii=False, allow_nan=False)
        self.events.append(text.encode(errors="replace").decode())  # halves of surrogate pairs cannot be sent
        self.nbytes += len(text)
        self.over = event == "end"
        self._more.set()
        self._more = asyncio.Event()
        self._changed(self)

    def let_go(self, file: Path) -> None:
        """Hold the events of a run that is over no longer: they are the lines of a file."""
        self._file, self.events, self.nbytes = file, [], 0

    async def follow(self, start: int = 0) -> AsyncGenerator[Numbered, None]:
        """Events from number `start` on, those to come too, until the run is over: several at a time, five times a
        second, and a viewer that is behind catches up at once. Its end is told in any case: who comes back after the
        server was killed may have seen more than is left."""
        self.viewers += 1
        try:
            async for several in self._followed(start):
                yield several
        finally:
            self.viewers -= 1

    async def _followed(self, at: int) -> AsyncGenerator[Numbered, None]:
        while True:
            more, over, events = self._more, self.over, self.events
            if self._file is not None:
                events = await asyncio.to_thread(_lines, self._file)
            if over:
                at = min(at, len(events) - 1)
            while 0 <= at < len(events):
                several = _some(events, at)
                yield several
                at += len(several)
            if over:
                return
            await more.wait()
            if not self.over:
                await asyncio.sleep(_PACE)


class History:
    """The latest runs, a source of the page.

    most: of runs that are over, the oldest are forgotten once there are more. most_bytes: of their events; beyond it
    the oldest are read from the disk where a `keeper` has them there, and are forgotten without one. A run that is yet
    to be kept stays in memory, unless eight times as much is taken. To be used in the thread of the event loop, but for
    `rows` and `document`.
    """

    def __init__(self, most: int = 1000, most_bytes: int = 2**26, keeper: Keeper | None = None) -> None:
        self._most, self._most_bytes, self._keeper = most, most_bytes, keeper
        self._runs = OrderedDict[str, RunLog]()
        for log in keeper.restore() if keeper else ():
            self._runs[log.id] = log
        self._trim()
        self._next = 1 + max((int(id_.split("-")[0]) for id_ in self._runs), default=0)

    def begin(self, question: str, model: str) -> RunLog:
        """A run that waits for its place. Ids sort in the order in which runs came, whatever the clock says."""
        id_ = f"{self._next:08d}-{secrets.token_hex(4)}"
        self._next += 1
        log = RunLog(id_, {"question": question, "model": model, "began": time.time()}, self._note)
        self._runs[id_] = log
        self._trim()
        return log

    def get(self, id_: str) -> RunLog | None:
        return self._runs.get(id_)

    @property
    def open(self) -> list[RunLog]:
        """Runs that are not over."""
        return [log for log in self._runs.values() if not log.over]

    @property
    def viewers(self) -> int:
        """Those who follow a run."""
        return sum(log.viewers for log in self._runs.values())

    @property
    def nbytes(self) -> int:
        """Characters of the events that are held."""
        return sum(log.nbytes for log in self._runs.values())

    @property
    def labels(self) -> bool:
        """Whether labels can be kept."""
        return self._keeper is not None

    @property
    def live(self) -> bool:
        """Runs may come at any time."""
        return True

    @property
    def trouble(self) -> str:
        """Why runs are not being kept at the moment, in words; "" where they are, or are not meant to be."""
        return self._keeper.trouble if self._keeper else ""

    def rows(self) -> list[Row]:
        """The newest first."""
        return [log.row.copy() for log in list(self._runs.values())[::-1]]

    def document(self, id_: str) -> dict[str, Any] | None:
        """The row of a run, and that its events tell the rest."""
        log = self.get(id_)
        return None if log is None else {"events": True, **log.row}

    def follow(self, id_: str, start: int = 0) -> AsyncGenerator[Numbered, None] | None:
        """As `RunLog.follow`; None for a run that is not known."""
        log = self.get(id_)
        return None if log is None else log.follow(start)

    def set_label(self, id_: str, label: str | None) -> bool:
        """Whether there is such a run, and its label was kept. Raises InputError."""
        log = self.get(id_)
        if log is None or self._keeper is None:
            return False
        self._keeper.set_label(id_, label)
        log.set_label(label)
        return True

    def close(self) -> None:
        """Have all that there is kept, as far as that can be. Waits for it."""
        if self._keeper is not None:
            self._keeper.close()

    def _note(self, log: RunLog) -> None:
        if self._keeper is not None:
            self._keeper.note(log)
        if log.over:
            self._trim()

    def _trim(self) -> None:
        keeper, runs, held = self._keeper, len(self._runs), self.nbytes
        for log in [log for log in self._runs.values() if log.over]:
            if runs <= self._most and held <= self._most_bytes:
                return
            kept, size = keeper is not None and keeper.is_kept(log), log.nbytes
            if keeper is not None and not kept and held <= _PATIENCE * self._most_bytes:
                continue
            if keeper is not None and kept and runs <= self._most:
                log.let_go(keeper.file_of(log))
            else:
                del self._runs[log.id]
                runs -= 1
                if keeper is not None:
                    keeper.forget(log)
            held -= size


def _some(events: Sequence[str], at: int) -> Numbered:
    """Those from number `at` on that are not much to hold for a viewer that is slow."""
    taken, size = [(at, events[at])], len(events[at])
    for number in range(at + 1, len(events)):
        size += len(events[number])
        if size > _AT_ONCE:
            break
        taken.append((number, events[number]))
    return taken


def _lines(file: Path) -> list[str]:
    """The events in a file; none where it was cleared away meanwhile."""
    try:
        return file.read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return []
