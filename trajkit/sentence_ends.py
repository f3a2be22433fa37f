"""Where a sentence ends, and the tags of the thinking span: the rules by which tokens (`vlm.sentences`) and written
text (`traces.importers.sentences`) are cut into the same steps.

A sentence ends before white space that follows a final mark (. ! ? and their full-width forms), or after a line break.
List numbers ("1."), initials and common abbreviations do not end one.
"""

from __future__ import annotations

import re
from string import whitespace

OPEN, CLOSE = "<think>", "</think>"
CLOSING = "\"'”’)]"
"""Characters that may stand between a final mark and the white space behind it."""
FINAL = re.compile(rf"[.!?。！？…][{re.escape(CLOSING)}]*$")
NOT_FINAL = re.compile(r"(^\s*\d+|\b(e\.g|i\.e|etc|vs|cf|Fig|fig|Eq|No|Dr|Mr|Mrs|Ms|Prof|approx|[A-Z]))\.$")
_REPEATED = re.compile(rf"\s+(?=\s)|[{re.escape(CLOSING)}]+(?=[{re.escape(CLOSING)}])")
KEPT = 16
"""Characters that decide whether a sentence ends: more than any tag or abbreviation has."""


def ends_sentence(text: str) -> bool:
    """Whether `text`, without white space behind it, is a whole sentence."""
    return bool(FINAL.search(text)) and not NOT_FINAL.search(text)


def shortened(text: str) -> str:
    """A short text that no rule of this file tells from `text`, whatever is written behind both.

    What counts is how it ends, whether it holds more than white space, and whether it is a number alone.
    """
    text = _REPEATED.sub("", text)
    at = len(text.rstrip(CLOSING + whitespace)) - KEPT
    if at <= 0:
        return text
    left_out, kept = text[:at], text[at:]
    return ("0" if re.fullmatch(r"\s*\d+", left_out) else "x" if left_out.strip() else "") + kept
