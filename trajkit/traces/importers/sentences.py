"""Cuts written text into sentences by the rules that cut tokens into steps (`sentence_ends`), in linear time."""

from __future__ import annotations

import re

from trajkit.sentence_ends import CLOSING, KEPT, ends_sentence

_SPACE = re.compile(r"\s+")
_DIGITS = re.compile(r"\s*\d*")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence in `text`, white space before it included; none is white space alone."""
    spans: list[tuple[int, int]] = []
    sentence = _Sentence(text, 0)
    for space in _SPACE.finditer(text):
        if sentence.ends_at(space.start()):
            spans.append((sentence.start, space.start()))
            sentence = _Sentence(text, space.start())
        newline = text.find("\n", space.start(), space.end())
        if newline >= 0 and sentence.first < newline:
            spans.append((sentence.start, newline + 1))
            sentence = _Sentence(text, newline + 1)
    if sentence.first < len(text):
        spans.append((sentence.start, len(text)))
    return spans


def sentences(text: str) -> list[str]:
    """The sentences of `text`, without the white space around them."""
    return [text[start:end].strip() for start, end in sentence_spans(text)]


class _Sentence:
    """A sentence of `text` that begins at `start`. first: where it holds more than white space, the first time."""

    def __init__(self, text: str, start: int) -> None:
        self._text, self.start = text, start
        space = _SPACE.match(text, start)
        self.first = space.end() if space else start
        self._digits = _DIGITS.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing, too

    def ends_at(self, at: int) -> bool:
        """Whether what lies before `at`, where white space begins, is a whole sentence."""
        last = at
        while last > self.start and self._text[last - 1] in CLOSING:
            last -= 1
        kept = max(last - KEPT, self.start)
        before = "" if kept <= self.first else "0" if kept <= self._digits else "x"
        return ends_sentence(before + self._text[kept:last] + self._text[last:at][:1])
