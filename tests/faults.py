"""A fault at the n-th step of writing: a kill, an error of the disk, or no memory left."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from typing import IO, Any

import pytest

from trajkit import folders

STEPS = ("fsync", "replace", "rename", "mkdir", "link", "unlink", "rmdir")
"""Functions of `os` that change what is on the disk, or bring it there."""


def kill() -> None:
    os._exit(9)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken_disk() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_memory() -> None:
    raise MemoryError


class _File:
    """A file whose first two writes are steps; the others leave what the second leaves, a part of a file."""

    def __init__(self, file: IO[bytes], step: Callable[[], None]) -> None:
        self._file, self._step, self._left = file, step, 2

    def write(self, data: Any) -> int:
        if self._left:
            self._left -= 1
            self._step()
        return self._file.write(data)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Faults:
    """While installed, the n-th step of writing (from 1; 0 for none) does `act`. `count`: steps so far."""

    def __init__(self, n: int, act: Callable[[], None]) -> None:
        self._n, self._act, self.count = n, act, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self._n:
            self._act()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real_open = builtins.open

        def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not set(mode) & set("wxa"):
                return real_open(path, mode, *rest, **options)
            self.step()
            return _File(real_open(path, mode, *rest, **options), self.step)

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                self.step()
                return function(*arguments, **options)

            return call

        patch.setattr(builtins, "open", opened)
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(folders, "_exchange", counted(folders._exchange))


def run_with_fault(work: Callable[[], object], n: int, act: Callable[[], None]) -> int:
    """Do `work` with a fault at step n, in a process of its own where it is a kill; returns the steps it took."""
    faults = Faults(n, act)
    if act is kill:
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                faults.install(patch)
                try:
                    work()
                finally:
                    os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 9)
        return 0
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        work()
    return faults.count
