"""Files that belong together, written to a folder all at once or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.files import (
    HALF,
    halves,
    locked_folder,
    make_folder,
    real_path,
    remove_left_over,
    sync_folder,
    temporary,
    told,
    try_out,
)

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux
_FIXED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a folder that cannot get another name, though it may be written to."""


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends well; write its files with `replacing`.

    It begins with the files that `folder` has. Where the system can exchange two names (Linux), there is never a moment
    without a whole folder; elsewhere a kill between two renames leaves the old one beside, and `restore_folder` brings
    it back. A folder that cannot be exchanged, being a mount point or within one that may not be written to, gets the
    new files one by one, after all of them are on the disk in it: a kill or a fault meanwhile leaves a mixture, of
    which `restore_folder` makes the new content; only a file that the block removed may then stay.
    Raises WriteError when it cannot be written.
    """
    with told(folder):
        folder = _real(folder)
        make_folder(folder.parent)
        restore_folder(folder)
        if folder.exists():
            for aside in halves(folder.parent, "old", folder.name):
                shutil.rmtree(aside, ignore_errors=True)
        stays = _is_fixed(folder)
        remove_left_over(folder if stays else folder.parent, folder.name)
        new = temporary(folder / folder.name if stays else folder)
        try:
            with contextlib.ExitStack() as held:
                while not new.exists():  # again where it was taken for a left-over before it was locked
                    new.mkdir()
                    with contextlib.suppress(FileNotFoundError):
                        held.enter_context(locked_folder(new))
                _copy(folder, new)
                yield new
                sync_folder(new)
                if stays or not _swap_in(new, folder):
                    _fill_in(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Raise InputError where `replacing_folder` could not write `folder` now: ask before the work, not after it."""
    with told(folder):
        folder = _real(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; name a folder to write to.")
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        try_out(folder / folder.name if _is_fixed(folder) else folder)


def check_own(folder: Path, mark: str) -> None:
    """Raise InputError unless `folder` is new, empty, or holds the file `mark`, which says that it is ours to fill; and
    where it cannot be written to."""
    check_folder(folder)
    if not folder.is_dir() or (folder / mark).exists():
        return
    if any(not HALF.fullmatch(entry.name) for entry in folder.iterdir()):
        raise InputError(
            f"{folder} holds other files, and they might be overwritten; name a new or empty folder. If an older "
            "trajkit wrote them, remove them first."
        )


def restore_folder(folder: Path) -> None:
    """Bring a folder that a kill left between two contents to one of them: see `replacing_folder`. What cannot be
    written to stays as it is."""
    with contextlib.suppress(OSError):
        if not folder.exists():
            for aside in halves(folder.parent, "old", folder.name)[:1]:
                os.rename(aside, folder)
        for ready in halves(folder, "new", folder.name):
            with locked_folder(ready) as ours:
                if ours:
                    _finish(ready, folder)


def _real(folder: Path) -> Path:
    """Where links lead. Raises InputError where this process stands in it: it would stand in the old one afterwards."""
    folder, here = real_path(folder), Path(os.path.realpath(os.curdir))
    if folder in (here, *here.parents):
        raise InputError(f"{folder} is the folder you are in, and would be exchanged for another; name one in it.")
    return folder


def _is_fixed(folder: Path) -> bool:
    """Whether a folder is there and is known to be one that cannot be exchanged."""
    return folder.is_dir() and (os.path.ismount(folder) or not os.access(folder.parent, os.W_OK | os.X_OK))


def _copy(folder: Path, new: Path) -> None:
    """All files of `folder`, if it is there, in `new` too, but for what is half done."""
    if folder.exists():
        shutil.copytree(
            folder,
            new,
            symlinks=True,
            copy_function=_link,
            dirs_exist_ok=True,
            ignore=lambda _, names: [name for name in names if HALF.fullmatch(name)],
        )


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name; a copy where the file system has no such links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
        if not os.path.islink(target):
            with open(target, "rb") as file:
                os.fsync(file.fileno())


def _swap_in(new: Path, folder: Path) -> bool:
    """Give `new` the name `folder`; what had it is then called `new`, or is gone. Whether that could be."""
    try:
        if not folder.exists():
            os.rename(new, folder)
        elif not _exchange(new, folder):
            aside = new.with_suffix(".old")
            os.rename(folder, aside)
            try:
                os.rename(new, folder)
            except OSError:
                os.rename(aside, folder)
                raise
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        if error.errno in _FIXED and folder.is_dir():
            return False
        raise
    sync_folder(folder.parent)
    return True


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


def _fill_in(new: Path, folder: Path) -> None:
    """Give `folder` the files of `new`, one by one; one that has no place in `new` goes."""
    inner = new
    if new.parent != folder:  # on another file system, perhaps
        inner = temporary(folder / folder.name)
        inner.mkdir()
    with locked_folder(inner):
        try:
            if inner != new:
                _copy(new, inner)
            sync_folder(inner)
            gone = set(_files(folder)) - set(_files(inner))
            ready = inner.with_suffix(".new")
            os.rename(inner, ready)  # from here on the new content is what `restore_folder` makes
            sync_folder(folder)
        finally:
            shutil.rmtree(inner, ignore_errors=True)
        for name in gone:
            (folder / name).unlink()
        _finish(ready, folder)


def _finish(ready: Path, folder: Path) -> None:
    """Put the files of `ready`, which is in `folder`, in their places; done again, it comes to the same."""
    for name in _files(ready):
        source, target = ready / name, folder / name
        if os.path.lexists(target) and os.path.samestat(source.lstat(), target.lstat()):
            continue  # a rename of one onto the other would do nothing
        make_folder(target.parent)
        new = temporary(folder / name.name)
        _link(source, new)
        os.replace(new, target)
        sync_folder(target.parent)
    done = ready.with_suffix(".tmp")
    os.rename(ready, done)
    shutil.rmtree(done, ignore_errors=True)
    remove_left_over(folder)


def _files(folder: Path) -> list[Path]:
    """Files and links in a folder and below, by their names from there, but for what is half done."""
    found = []
    for place, folders, names in os.walk(folder):
        names += [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name).relative_to(folder) for name in names if not HALF.fullmatch(name)]
        folders[:] = [name for name in folders if not HALF.fullmatch(name)]
    return found
