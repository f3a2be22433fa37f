"""Values of JSON that other tools wrote, held against the form that is expected."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trajkit.errors import InputError
from trajkit.files import read_plain

MOST_BYTES = 2**31
"""Of a file that is read whole; a larger one is refused."""
LONGEST_LINE = 2**29
"""Bytes of a line that are read: with images it may be long. One that is longer is no JSON."""
_PIECE = 2**20


def as_dict(value: Any) -> dict[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` where it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """`value` where it is a text, or a number as one; else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else json.dumps(value)


def error_line(text: Any) -> str:
    """The first and the last line of what a tool says of an error, without the stop at its end: a request, say, stands
    between them."""
    lines = ((as_text(text) or "").strip() or "no reason is told").replace("\\n", "\n").splitlines()
    last = lines[-1].strip()[:300] if len(lines) > 1 else ""
    return " … ".join(filter(None, (lines[0].strip()[: 100 if last else 300], last))).rstrip(".")


def as_number(value: Any) -> float | None:
    """`value` where it is a number or truth value, and finite; else None."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def lenient_json(text: str | bytes) -> Any:
    """The value of a JSON text in which NaN and Infinity may stand bare, as tools write them. Raises InputError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"it is no JSON: {error.msg} at character {error.pos + 1}; it may have been cut off."
        ) from error
    except RecursionError as error:
        raise InputError("it is no JSON that can be read: it is nested too deeply.") from error
    except ValueError as error:  # bytes of no encoding, a number of thousands of digits
        raise InputError(f"it is no JSON that can be read: {error}.") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file, as `lenient_json`. Raises InputError naming the file."""
    try:
        return lenient_json(read_bytes(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, ends included; of one that is longer, the first LONGEST_LINE bytes."""
    for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
        yield line
        while not line.endswith(b"\n") and (line := stream.readline(_PIECE)):
            pass


def read_bytes(path: Path) -> bytes:
    """A whole file. Raises InputError where it cannot be read, or has more than MOST_BYTES."""
    try:
        return read_plain(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
