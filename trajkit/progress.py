"""What a long job says of itself on stderr: a line that moves on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any, Protocol

from trajkit.console import console
from trajkit.tables.words import duration
from trajkit.text import clean

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SLOW = 1.0
"""Seconds that a job may take without a word."""
LOG_EVERY = 10.0
"""Seconds between two lines of a log."""
_WINDOW = 60.0
"""Seconds that the pace is measured over."""
_LEAST = 4
"""Marks, at least, behind a pace: fewer say nothing of what is to come."""
_BURST, _EARLY = 10, 10.0
"""A gap so many times as long as all before it, so early (seconds), ends what was found done or took no work."""


_silent: ContextVar[bool] = ContextVar("silent", default=False)


class Bar(Protocol):
    """A running progress bar."""

    def advance(self, note: str = "", steps: int = 1) -> None:
        """Count `steps` more and show `note` beside them."""

    def expect(self, steps: int) -> None:
        """So many more are to come than was said so far."""


class Pace:
    """How fast a job goes and what is left of it, by its last marks. The first mark is where the count begins: what
    comes before it is mostly loading and warming up, and steps that were found done are no measure either."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self._done = total, done
        self._marks: deque[tuple[float, int]] = deque()
        self._began = 0.0
        self._longest = 0.0

    def mark(self, steps: int, now: float) -> None:
        """Count `steps` more, done at the time `now`, seconds."""
        self._done += steps
        if self._marks:
            gap = now - self._marks[-1][0]
            if now - gap - self._began < _EARLY and len(self._marks) > 1 and gap > _BURST * self._longest:
                self._marks.clear()
                self._began, self._longest = now, 0.0
            else:
                self._longest = max(self._longest, gap)
        else:
            self._began = now
        self._marks.append((now, self._done))
        while len(self._marks) > _LEAST and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """Steps a second; None until there is something to tell it by."""
        if len(self._marks) < _LEAST:
            return None
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began) if now > began and last > first else None

    def left(self, now: float) -> float | None:
        """Seconds to go at the time `now`; None where the rate is not known."""
        if self.rate is None:
            return None
        return max((self.total - self._done) / self.rate - (now - self._marks[-1][0]), 0.0)

    def said(self, now: float) -> str:
        """Rate and time left in words; "" where they are not known."""
        rate, left = self.rate, self.left(now)
        if rate is None or left is None:
            return ""
        each = f"{duration(1 / rate)} each" if rate < 1 else f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
        return f"{each} · {duration(left)} left" if self._done < self.total else each


class _Terminal:
    def __init__(self, bar: Progress, task: TaskID, pace: Pace) -> None:
        self._bar, self._task, self._pace = bar, task, pace

    def advance(self, note: str = "", steps: int = 1) -> None:
        if steps:
            self._pace.mark(steps, time.monotonic())
        self._bar.update(self._task, advance=steps, note=clean(note))

    def expect(self, steps: int) -> None:
        self._pace.total += steps
        self._bar.update(self._task, total=self._pace.total)


class _Log:
    """Prints every ten seconds or more, with the time left; a job that takes less prints nothing."""

    def __init__(self, title: str, total: int, completed: int) -> None:
        self._title, self._total, self._done = title, total, completed
        self._pace = Pace(total, completed)
        self._began = self._printed = time.monotonic()

    def advance(self, note: str = "", steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if steps:
            self._pace.mark(steps, now)
        last = steps > 0 and self._done >= self._total and self._printed > self._began
        if now - self._printed < LOG_EVERY and not last:
            return
        self._print(now, note)

    def expect(self, steps: int) -> None:
        self._total += steps
        self._pace.total += steps

    def begin(self) -> None:
        """Say what is going on where nothing has been done yet."""
        if self._printed == self._began:
            self._print(time.monotonic(), "")

    def _print(self, now: float, note: str) -> None:
        self._printed = now
        line = " · ".join(filter(None, (f"{self._title} {self._done}/{self._total}", self._pace.said(now), note)))
        console(stderr=True, soft_wrap=True, highlight=False).print(clean(line), markup=False)


class _Silent:
    def advance(self, note: str = "", steps: int = 1) -> None:
        """Say nothing."""

    def expect(self, steps: int) -> None:
        """Say nothing."""


@contextmanager
def silent() -> Iterator[None]:
    """Inside, jobs say nothing of themselves: whoever reads stderr takes other lines."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def progress(title: str, total: int, completed: int = 0) -> Iterator[Bar]:
    """A progress bar on stderr with count, time taken, rate and time left; plain lines where stderr is no terminal."""
    screen = console(stderr=True)
    if _silent.get():
        yield _Silent()
        return
    if not screen.is_terminal:
        log = _Log(title, total, completed)
        with _later(log.begin, lambda: None, LOG_EVERY):
            yield log
        return
    pace = Pace(total, completed)
    with _bar(screen, pace) as bar:
        yield _Terminal(bar, bar.add_task(title, total=total, completed=completed, note=""), pace)


@contextmanager
def progress_if_slow(title: str, total: int) -> Iterator[Bar]:
    """The same for what is mostly quick: shown on a terminal only, once it has taken SLOW seconds, and gone when it is
    done."""
    screen = console(stderr=True)
    if _silent.get() or not screen.is_terminal:
        yield _Silent()
        return
    pace = Pace(total)
    bar = _bar(screen, pace, transient=True)
    with _later(bar.start, bar.stop, SLOW):
        yield _Terminal(bar, bar.add_task(title, total=total, note=""), pace)


@contextmanager
def status(doing: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is being done: a spinner on a terminal, elsewhere a line once it has taken SLOW seconds.

    Yields what to call with other words.
    """
    from rich.text import Text

    if _silent.get():
        yield lambda words: None
        return
    screen = console(stderr=True, highlight=False, soft_wrap=True)
    if screen.is_terminal:
        with screen.status(Text(clean(doing), "dim")) as spinner:
            yield lambda words: spinner.update(Text(clean(words), "dim"))
        return

    def say(words: str) -> None:
        nonlocal doing
        doing = words

    with _later(lambda: screen.print(f"{clean(doing)} …", markup=False), lambda: None, SLOW):
        yield say


@contextmanager
def _later(begin: Callable[[], None], end: Callable[[], None], after: float) -> Iterator[None]:
    """Call `begin` when the block has taken `after` seconds, and then `end` at its end; neither where it took less."""
    lock, over, begun = Lock(), False, False

    def late() -> None:
        nonlocal begun
        with lock:
            if not over:
                begun = True
                begin()

    timer = Timer(after, late)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
            if begun:
                end()


def _bar(screen: Any, pace: Pace, transient: bool = False) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.finished else pace.said(time.monotonic()), "cyan")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Left(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Progress(*columns, console=screen, transient=transient)
