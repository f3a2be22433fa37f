"""JSON from outside, as the standard has it."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError on all that Python's parser takes beyond the standard (NaN, Infinity, numbers that overflow) or
    fails on in another way (nested too deeply, integers of thousands of digits).
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(number: str) -> float:
    raise ValueError(f"{number[:20]} is no JSON number")
