"""Images as logs name them: data URIs, bare base64, and names of files."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from trajkit.errors import InputError
from trajkit.files import read_plain
from trajkit.traces.images import MAX_BYTES

_DATA = re.compile(r"data:[^,]{0,200};base64,")


def image_bytes(named: str, folder: Path) -> bytes:
    """The encoded image that a log names: a data URI, or a file by its path in `folder`, or there by its name alone.

    Raises InputError for anything that would have to be fetched, and where there is no such file.
    """
    if data := _DATA.match(named[:256]):
        return _decoded(named[data.end() :])
    if re.match(r"[a-z][a-z0-9+.-]+:", named[:32], re.I) and not re.match(r"(file|[a-z]):", named[:8], re.I):
        raise InputError(
            f"its image is named as {named[:60]!r}, and nothing is fetched; give its file with --questions."
        )
    if len(named) > 4096:
        raise InputError(f"its image, {named[:40]!r}…, is neither a data URI nor the name of a file.")
    plain = named.removeprefix("file://").replace("\0", "")
    names = (plain, PurePosixPath(plain).name, PureWindowsPath(plain).name)
    for name in dict.fromkeys(filter(None, names)):
        file = folder / name
        if is_in(file, folder):
            return _file(file)
    raise InputError(f"its image {named[:80]!r} is not in {folder}; say with --images which folder it is in.")


def is_in(file: Path, folder: Path) -> bool:
    """Whether it is a file that is in a folder, also where links lead."""
    try:
        return file.is_file() and file.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name that no file can have
        return False


def _decoded(text: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise InputError(f"its image has more than {MAX_BYTES >> 20} MiB.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"its image is no base64 that can be read ({error}).") from error


def _file(file: Path) -> bytes:
    try:
        return read_plain(file, MAX_BYTES)
    except OSError as error:
        raise InputError(f"its image {file} cannot be read ({error.strerror or error}).") from error
