"""What scores of other tools mean as numbers, and whether the run they are of succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trajkit.traces.importers.reading import as_number

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""inspect's letters: correct, incorrect, partly correct, no answer."""
_WORDS = {"yes": 1.0, "true": 1.0, "correct": 1.0, "no": 0.0, "false": 0.0, "incorrect": 0.0}


def value_of(score: Any) -> tuple[float | None, bool | None]:
    """(number, success) of a score: a truth value, number, letter, word, or a mapping that holds one of them.

    Success is known of 0 and 1 alone: what a score between them is worth, the log does not say. (None, None) of no
    score, one that is no number, and a mapping of several.
    """
    if isinstance(score, Mapping):
        return value_of(next(iter(score.values()))) if len(score) == 1 else (None, None)
    if isinstance(score, str):
        score = _of_text(score.strip())
    number = as_number(score)
    return number, None if number is None else {0.0: False, 1.0: True}.get(number)


def _of_text(text: str) -> float | None:
    found = _LETTERS.get(text, _WORDS.get(text.lower()))
    if found is not None:
        return found
    try:
        return float(text)
    except ValueError:
        return None
