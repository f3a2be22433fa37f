"""A fault at the n-th step of writing: a kill, an error of the disk, or no memory left."""

from __future__ import annotations

import builtins
import errno
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
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
            if path == os.devnull or not set(mode) & set("wxa"):
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
    """Do `work` with a fault at step n, in a process of its own where it is a kill; returns the steps it took.

    Raises AssertionError, with what it said, where that process ended in any other way than well or killed.
    """
    faults = Faults(n, act)
    if act is kill:
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                faults.install(patch)
                try:
                    work()
                    os._exit(0)
                except BaseException:
                    os.write(send, traceback.format_exc().encode()[-4000:])
                finally:
                    os._exit(70)
        os.close(send)
        with open(receive, "rb") as stream:
            said = stream.read().decode()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 9), said
        return 0
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        work()
    return faults.count


def order_of(work: Callable[[], object]) -> list[tuple[str, Path]]:
    """What `work` does on the disk, in order: the name of the function, and the file or folder that it is about (of two
    names, the one that is new). Names that nobody can guess are replaced by `*`."""
    done: list[tuple[str, Path]] = []

    def note(name: str, path: Any) -> None:
        path = os.path.realpath(f"/proc/self/fd/{path}" if isinstance(path, int) else path)
        done.append((name, Path(re.sub(r"\.[0-9a-f]{16}\.", ".*.", path))))

    def noted(name: str, function: Callable[..., Any], at: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            note(name, arguments[at])
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, at in (("fsync", 0), ("replace", 1), ("rename", 1), ("mkdir", 0), ("link", 1)):
            patch.setattr(os, name, noted(name, getattr(os, name), at))
        patch.setattr(folders, "_exchange", noted("exchange", folders._exchange, 1))
        work()
    return done
