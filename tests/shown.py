"""Whether what is printed is what a page or an example shows."""

from __future__ import annotations

import re

NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def difference(said: str, shown: str) -> str:
    """ "" where the words are the same and the numbers are, up to two of their last digits, as machines round
    differently; else what differs. A whole number must be the same."""
    ours, theirs = (NUMBER.sub("#", " ".join(text.split())) for text in (said, shown))
    if ours != theirs:
        return f"{ours!r} is not {theirs!r}"
    for mine, its in zip(NUMBER.findall(said), NUMBER.findall(shown), strict=True):
        digits = len(its.partition(".")[2])
        apart = abs(float(mine.replace(",", "").rstrip(".")) - float(its.replace(",", "").rstrip(".")))
        if apart > (2.1 * 10**-digits if digits else 0):
            return f"{mine} is not {its}"
    return ""
