"""JSON from outside, as the standard has it."""

from __future__ import annotations

import json
import math
import reprlib
import sys
from typing import Any


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError on all that Python's parser takes beyond the standard (NaN, Infinity, numbers that overflow), a
    name that stands twice in an object, and what it fails on in another way (nested too deeply, integers of thousands
    of digits).
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise ValueError(f"a number has {len(digits)} digits, and {most} digits are the most") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it gives {reprlib.repr(twice)} twice")
    return found


def _refuse(number: str) -> float:
    raise ValueError(f"{number[:20]} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_object)
"""Made once: to make one takes as long as to read a short text."""
