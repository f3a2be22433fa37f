"""An engine that does what a test says, in a thread of its own as engines do."""

from __future__ import annotations

import threading

from trajkit.live.generation import Ended, Text


class Scripted:
    """play: called as play(put, cancelled) for each run; by default it answers "yes" and ends."""

    name = "scripted"

    def __init__(self, play=None):
        self.play = play or (lambda put, cancelled: answer(put))
        self.begun = 0

    def check(self, request):
        pass

    def facts(self):
        return {}

    async def close(self):
        pass

    def begin(self, request, put):
        self.begun += 1
        return _Run(self.play, put)


class _Run:
    def __init__(self, play, put):
        self._cancelled = threading.Event()
        threading.Thread(target=play, args=(put, self._cancelled), daemon=True).start()

    def cancel(self):
        self._cancelled.set()


def answer(put, text="yes", stopped=False):
    put(Text("answer", text))
    put(Ended("stop", stopped, 1))


def until_cancelled(put, cancelled):
    """A run that ends when it is told to."""
    put(Text("thinking", "hm"))
    assert cancelled.wait(20)
    put(Ended("stop", True, 1))
