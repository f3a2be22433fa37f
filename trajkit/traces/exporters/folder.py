"""Folders that exports fill, and may fill again: what was written is listed, so that nothing else is ever lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trajkit.errors import InputError
from trajkit.files import HALF, read_plain, write_text
from trajkit.folders import check_folder, replacing_folder
from trajkit.strict_json import parse_json

MARK = ".trajkit-export"
"""A file in every folder that is exported to: the files that were written, and the SHA-256 of each."""
_MOST_BYTES = 2**24


def check_ours(folder: Path) -> None:
    """Raise InputError unless `folder` is new, empty, or holds nothing but what an export wrote there, as it was."""
    check_folder(folder)
    if not folder.is_dir():
        return
    written = _written(folder)
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in written:
            raise InputError(f"{folder} holds another file, {name}; name a new or empty folder to export to.")
        if written[name] != _hash(path):
            raise InputError(
                f"{path} was changed after it was exported, and would be lost; move it away, or name another folder."
            )


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends well; write its files with `replacing`.

    Raises InputError as `check_ours`, WriteError where it cannot be written.
    """
    check_ours(folder)
    with replacing_folder(folder) as new:
        for path in _files(new):
            path.unlink()
        yield new
        written = {path.relative_to(new).as_posix(): _hash(path) for path in _files(new)}
        write_text(new / MARK, json.dumps(written, indent=1) + "\n")


def _files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink())
    return [path for path in found if path != folder / MARK and not HALF.fullmatch(path.relative_to(folder).parts[0])]


def _written(folder: Path) -> dict[str, str]:
    try:
        found = parse_json(read_plain(folder / MARK, _MOST_BYTES).decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
