"""The one progress bar: a line that moves on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from trajkit.console import console
from trajkit.text import clean


class Bar(Protocol):
    """A running progress bar."""

    def advance(self, note: str = "", steps: int = 1) -> None:
        """Count `steps` more and show `note` beside them."""


class _Terminal:
    def __init__(self, bar: object, task: object) -> None:
        self._bar, self._task = bar, task

    def advance(self, note: str = "", steps: int = 1) -> None:
        self._bar.update(self._task, advance=steps, note=clean(note))  # type: ignore[attr-defined]


class _Log:
    """Prints at most every ten seconds, with the time left; a job that takes less prints nothing."""

    def __init__(self, title: str, total: int, completed: int) -> None:
        self._title, self._total, self._done, self._start = title, total, completed, completed
        self._began = self._printed = time.monotonic()

    def advance(self, note: str = "", steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        last = self._done >= self._total and self._printed > self._began
        if now - self._printed < 10 and not last:
            return
        self._printed = now
        left = (now - self._began) / max(self._done - self._start, 1) * (self._total - self._done)
        parts = (f"{self._title} {self._done}/{self._total}", f"{left / 60:.1f} min left", note)
        line = " · ".join(filter(None, parts))
        console(stderr=True, soft_wrap=True, highlight=False).print(clean(line), markup=False)


@contextmanager
def progress(title: str, total: int, completed: int = 0) -> Iterator[Bar]:
    """A progress bar on stderr with count, time taken and time left; plain lines where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _Log(title, total, completed)
        return
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=screen) as bar:
        yield _Terminal(bar, bar.add_task(title, total=total, completed=completed, note=""))
