"""Files and folders written whole or not at all, and folders that one process at a time writes to.

`replacing` is for one file, `replacing_folder` for files that belong together. Both build the new content beside the
old one under a name that nobody can guess, bring it to the disk, and swap it in with one rename; a process that is
killed at any moment leaves the old content or the new one, and what it left half done is removed by the next call.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trajkit.errors import InputError, WriteError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux
_HALF = re.compile(r"\.(.+)\.[0-9a-f]{16}\.(tmp|old)")
"""Names that are made here: of what is being written, and of a folder that is put aside meanwhile."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file `path` when the block ends well; otherwise nothing is left of it.

    A link is followed. A device or pipe, such as /dev/stdout, is written to as it is. Raises WriteError when it cannot
    be written.
    """
    with _told(path):
        if _is_special(path):
            with open(path, "wb") as stream:
                yield stream
            return
        path = Path(os.path.realpath(path))
        make_folder(path.parent)
        remove_left_over(path.parent, path.name)
        temporary = _temporary(path)
        try:
            with open(temporary, "xb") as stream:
                _try_lock(stream.fileno())  # so that nobody takes it for a left-over
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Make `text` the content of the file `path`, as by `replacing`; UTF-8, halves of surrogate pairs as `?`."""
    with replacing(path) as stream:
        stream.write(text.encode("utf-8", errors="replace"))


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends well; write its files with `replacing`.

    It begins with the files that `folder` has. Where the system can exchange two names (Linux), there is never a moment
    without a whole folder; elsewhere a kill between two renames leaves the old one beside, and `restore_folder` brings
    it back. Raises WriteError when it cannot be written.
    """
    with _told(folder):
        folder = Path(os.path.realpath(folder))
        if folder == Path(os.path.realpath(os.curdir)):
            raise InputError(f"{folder} is the folder you are in, and would be exchanged for another; name one in it.")
        make_folder(folder.parent)
        restore_folder(folder)
        remove_left_over(folder.parent, folder.name)
        temporary = _temporary(folder)
        try:
            temporary.mkdir()
            with _locked_folder(temporary):
                if folder.exists():
                    shutil.copytree(folder, temporary, symlinks=True, copy_function=_link, dirs_exist_ok=True)
                yield temporary
                _sync_folder(temporary)
                _swap_in(temporary, folder)
            _sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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


def check_own(folder: Path, mark: str) -> None:
    """Raise InputError unless `folder` is new, empty, or holds the file `mark`, which says that it is ours to fill."""
    if folder.suffix in (".md", ".html", ".csv") or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is a file, or named like one; name a folder to write to.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        raise InputError(f"{folder} holds other files, and they might be overwritten; name a new or empty folder.")


def restore_folder(folder: Path) -> None:
    """Bring back a folder that a kill left beside its name, on systems that cannot exchange two names at once."""
    if folder.exists():
        return
    for aside in _halves(folder.parent, "old", folder.name):
        with contextlib.suppress(OSError):
            os.rename(aside, folder)
            return


def _halves(folder: Path, kind: str, name: str | None) -> list[Path]:
    """Entries of `folder` with a name made here: of `name`, or of any where it is None."""
    if not folder.is_dir():
        return []
    found = ((entry, _HALF.fullmatch(entry.name)) for entry in folder.iterdir())
    return [entry for entry, match in found if match and match[2] == kind and name in (None, match[1])]


def remove_left_over(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half written in `folder`, of the file or folder `name` or of any; what a living
    one is writing stays, and so do files that were not made here."""
    for left_over in _halves(folder, "tmp", name):
        with contextlib.suppress(OSError):
            handle = os.open(left_over, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if not _try_lock(handle):
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
        lock = open(folder / ".lock", "ab")  # noqa: SIM115  the holder closes it
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}; expected a folder, or a new name."
        ) from error
    if not _try_lock(lock.fileno()):
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
        _sync_folder(each.parent)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _try_lock(handle: int) -> bool:
    """Whether the lock could be had; always, where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # others: a file system without locks
    return True


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _try_lock(handle)
        yield
    finally:
        os.close(handle)


def _link(source: str, target: str) -> None:
    """The same file under another name; a copy where the file system has no such links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _swap_in(new: Path, folder: Path) -> None:
    """Give `new` the name `folder`; what had it is then called `new`, or is gone."""
    if not folder.exists():
        os.rename(new, folder)
        return
    if _exchange(new, folder):
        return
    aside = new.with_suffix(".old")
    os.rename(folder, aside)
    try:
        os.rename(new, folder)
    except OSError:
        os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system and the file system can."""
    call: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync_folder(folder: Path) -> None:
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
