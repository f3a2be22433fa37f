"""Files written whole or not at all, and folders that one process at a time writes to.

`replacing` builds the new content beside the old one under a name that nobody can guess, brings it to the disk, and
swaps it in with one rename; a process that is killed at any moment leaves the old content or the new one, and what it
left half done is removed by the next call. `folders` does the same for files that belong together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trajkit.errors import InputError, WriteError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

HALF = re.compile(r"\.(.+)\.[0-9a-f]{16}\.(tmp|old|new)")
"""Names that are made here: of what is being written (tmp), and, of folders, of what is put aside meanwhile (old) and
of what is whole and being put in its place (new)."""

_AGAIN = 0.005
"""Seconds after which a lock is tried again."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file `path` when the block ends well; otherwise nothing is left of it.

    A file that is replaced keeps its permissions. A link is followed. A device or pipe, such as /dev/stdout, is written
    to as it is. Raises WriteError when it cannot be written.
    """
    with told(path):
        if _is_special(path):
            with open(path, "wb") as stream:
                yield stream
            return
        path = real_path(path)
        make_folder(path.parent)
        remove_left_over(path.parent, path.name)
        new = temporary(path)
        try:
            with _locked_file(new) as stream:
                with contextlib.suppress(FileNotFoundError):
                    new.chmod(path.stat().st_mode & 0o777)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(new, path)
        finally:
            with contextlib.suppress(OSError):
                new.unlink()
        sync_folder(path.parent)


def _locked_file(path: Path) -> IO[bytes]:
    """A new file `path`, locked so that nobody takes it for a left-over: made again where that happened in between."""
    while True:
        stream = open(path, "xb")  # noqa: SIM115  the caller closes it
        try_lock(stream.fileno())
        if path.exists():
            return stream
        stream.close()


def write_text(path: Path, text: str) -> None:
    """Make `text` the content of the file `path`, as by `replacing`; UTF-8, halves of surrogate pairs as `?`."""
    with replacing(path) as stream:
        stream.write(text.encode("utf-8", errors="replace"))


def check_file(path: Path) -> None:
    """Raise WriteError where `replacing` could not write the file `path` now: ask before the work, not after it."""
    with told(path):
        if _is_special(path):
            return
        path = real_path(path)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file is expected")
        if os.path.ismount(path):
            raise OSError(errno.EBUSY, "it is mounted on its own and cannot be replaced; name another file")
        try_out(path)


def real_path(path: Path) -> Path:
    """Where links lead. Raises OSError where they lead round in a circle."""
    path = Path(os.path.realpath(path))
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return path


def try_out(path: Path) -> None:
    """Make the temporary file of `path`, and remove it; where folders above are missing, that of the first of them.
    Raises OSError where that cannot be."""
    below = []
    while not os.path.lexists(path.parent):
        below.append(path)
        path = path.parent
    for each in below:  # no name may be too long
        with contextlib.suppress(FileNotFoundError):
            (path.parent / temporary(each).name).lstat()
    new = temporary(path)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    new.unlink()


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a file. Raises OSError, and does not open it, where it is no plain file (a pipe would wait for ever)
    or has more than `most` bytes."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is a folder, pipe or device")
    if about.st_size > most:
        raise OSError(errno.EFBIG, f"it has {about.st_size / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB are the most")
    with open(path, "rb") as file:
        return file.read(most)


def halves(folder: Path, kind: str, name: str | None) -> list[Path]:
    """Entries of `folder` with a name made here: of `name`, or of any where it is None."""
    if not folder.is_dir():
        return []
    found = ((entry, HALF.fullmatch(entry.name)) for entry in folder.iterdir())
    return [entry for entry, match in found if match and match[2] == kind and name in (None, match[1])]


def remove_left_over(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half written in `folder`, of the file or folder `name` or of any; what a living
    one is writing stays, and so do files that were not made here."""
    for left_over in halves(folder, "tmp", name):
        with contextlib.suppress(OSError):
            handle = os.open(left_over, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if not try_lock(handle):
                    continue
                shutil.rmtree(left_over) if stat.S_ISDIR(os.fstat(handle).st_mode) else left_over.unlink()
            finally:
                os.close(handle)


def hold(folder: Path) -> IO[bytes]:
    """Take `folder` for this process, made if need be: a file whose lock ends when it is closed, or with the process.

    Raises InputError when another process (or another writer in this one) holds it, or it cannot be written to.
    """
    try:
        make_folder(folder)
        try_out(folder / "runs")
        lock = open(folder / ".lock", "ab")  # noqa: SIM115  the holder closes it
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}; expected a folder, or a new name."
        ) from error
    if not try_lock(lock.fileno()):
        lock.close()
        raise InputError(f"another process is writing to {folder}; wait for it, or give this one its own folder.")
    return lock


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before the next."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """OSError as a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = "free some space" if full else "check the path and its permissions"
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. Nothing already written is lost; "
            f"{todo}, then run it again."
        ) from error


def _is_special(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def temporary(path: Path) -> Path:
    """A name beside `path` that nobody can guess."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def try_lock(handle: int) -> bool:
    """Whether the lock could be had; always, where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # others: a file system without locks
    return True


@contextlib.contextmanager
def lock_file(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock of a file, made if need be, within the block; whether that could be within `patience` seconds.
    Raises OSError where there can be no such file."""
    make_folder(path.parent)
    until = time.monotonic() + patience
    with open(path, "ab") as file:
        while not (ours := try_lock(file.fileno())) and time.monotonic() < until:
            time.sleep(_AGAIN)
        yield ours


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Hold a folder that exists within the block; whether that could be."""
    if fcntl is None:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield try_lock(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where a folder can be opened and synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
