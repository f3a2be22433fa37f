"""The records of a log in JSON: a line each, the items of a list, or one object."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_dict, lenient_json, lines_of, read_json
from trajkit.traces.importers.run import Wanted

BOM = b"\xef\xbb\xbf"
FIRST = 2**27
"""Bytes of a file in which its first record is looked for; one with images may be long."""


def records(path: Path, wanted: Wanted) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of each record; lines that are none are told to `wanted.set_aside`.

    Raises InputError, naming the file, where the first line is no JSON, nor the whole file.
    """
    if _is_lines(path):
        yield from _lines(path, wanted)
    else:
        whole = read_json(path)
        yield from (
            (number, as_dict(one)) for number, one in enumerate(whole if isinstance(whole, list) else [whole], 1)
        )


def _lines(path: Path, wanted: Wanted) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(lines_of(stream), 1):
                with aside(f"line {number}", wanted.set_aside):
                    value = lenient_json(line.removeprefix(BOM)) if line.strip() else []
                    for at, one in enumerate(value if isinstance(value, list) else [value]):
                        yield number + at, as_dict(one)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


def first_record(path: Path, head: bytes) -> dict[str, Any]:
    """The first record of a file that begins with `head`, where that is an object; {} of any other file."""
    start = head.removeprefix(BOM).lstrip()[:1]
    if start not in (b"{", b"["):
        return {}
    about = path.stat()
    return _first(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4)
def _first(path: Path, size: int, changed: int) -> dict[str, Any]:
    """Remembered, as each format asks for it. size, changed: of the file, so that another one is read anew."""
    del changed
    line = _first_line(path)
    try:
        value = lenient_json(line)
    except InputError:
        if size > FIRST:
            return {}
        try:
            value = read_json(path)
        except InputError:
            return {}
    return as_dict(value[0] if isinstance(value, list) and value else value)


def _is_lines(path: Path) -> bool:
    try:
        lenient_json(_first_line(path))
    except InputError:
        return False
    return True


def _first_line(path: Path) -> bytes:
    """The first line that is not blank. Raises InputError where the file cannot be read."""
    try:
        with path.open("rb") as stream:
            for line in iter(lambda: stream.readline(FIRST), b""):
                if line.strip():
                    return line.removeprefix(BOM)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    return b""
