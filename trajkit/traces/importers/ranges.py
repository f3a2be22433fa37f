"""Which items of a pool a log of inspect refers to, as [[start, end], …]: ranges that may be long and overlap."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_list

MOST_ITEMS = 100_000
"""Messages of a sample."""


def items_at(ranges: Any, between: Callable[[int, int], Sequence[Any]]) -> list[Any]:
    """The items of all ranges, one after the other. between: those from a start, at least 0, up to an end.

    Raises InputError where `ranges` are none, or of more than MOST_ITEMS.
    """
    found: list[Any] = []
    for pair in as_list(ranges):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(edge) is int for edge in pair)):
            raise InputError(f"its messages are no ranges: {reprlib.repr(pair)}.")
        found += between(max(pair[0], 0), max(pair[1], 0))
        if len(found) > MOST_ITEMS:
            raise InputError(f"it has more than {MOST_ITEMS:,} messages.")
    return found
