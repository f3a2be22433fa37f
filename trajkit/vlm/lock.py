"""The lock of a model: who taps its attention holds it, and can be told that it does."""

from __future__ import annotations

from threading import RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary


class ModelLock:
    """A lock that the thread that holds it may take again, and release as often."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._depth, self._holder = 0, 0

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for it, `timeout` seconds at most (-1: for ever); whether it was taken."""
        taken = self._lock.acquire(timeout=timeout)
        if taken:
            self._depth, self._holder = self._depth + 1, get_ident()
        return taken

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._holder = 0
        self._lock.release()

    @property
    def held_here(self) -> bool:
        """Whether this thread holds it, so that no other will while this one waits."""
        return self._holder == get_ident()

    def __enter__(self) -> ModelLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


_LOCKS: WeakKeyDictionary[Any, ModelLock] = WeakKeyDictionary()


def lock_of(model: Any) -> ModelLock:
    """The one lock of a model of transformers; it is freed with it."""
    return _LOCKS.setdefault(model, ModelLock())
