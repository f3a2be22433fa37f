"""Text of a generation as it comes: thinking and answer apart, in pieces that are never taken back.

Tokens do not fall apart into characters: a piece is held back until it is whole. Tags of the thinking span belong to
neither side, whether they are tokens or text (`sentences`).
"""

from __future__ import annotations

from collections.abc import Iterator

from trajkit.sentence_ends import CLOSE, OPEN
from trajkit.traces.trace import StepKind
from trajkit.vlm.model import VLM

_BROKEN = "�"
Piece = tuple[StepKind, str]


class TextPieces:
    """Feed it the generated tokens one by one; it returns what text each one settles, thinking and answer apart."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm
        self._tokens: list[int] = []
        self._from = self._read = 0  # decoded from the one on, of which the text before the other is out
        self._held = ""  # text that may turn out to be a tag
        self._begun = False
        self.kind: StepKind = "thinking"

    def push(self, token: int) -> list[Piece]:
        """The text that this token settles, mostly one piece, or none."""
        if token in self._vlm.end_tokens:
            return []
        if self.kind == "thinking" and token == self._vlm.think_end:
            out = self.finish()
            self._start_anew("answer")
            return out
        if token == self._vlm.think_start and not self._begun:
            self._start_anew("thinking")
            return []
        self._tokens.append(token)
        before, text = self._decode(self._from, self._read), self._decode(self._from, len(self._tokens))
        if len(text) <= len(before) or text.endswith(_BROKEN):
            return []
        self._from, self._read = self._read, len(self._tokens)
        return list(self._apart(text[len(before) :]))

    def finish(self) -> list[Piece]:
        """What was held back, at the end of the generation."""
        text = self._held + self._decode(self._from, len(self._tokens))[len(self._decode(self._from, self._read)) :]
        self._held, self._from, self._read = "", len(self._tokens), len(self._tokens)
        return [(self.kind, text)] if text else []

    def _start_anew(self, kind: StepKind) -> None:
        self.kind, self._tokens, self._from, self._read, self._held = kind, [], 0, 0, ""

    def _decode(self, start: int, end: int) -> str:
        return self._vlm.tokenizer.decode(self._tokens[start:end], skip_special_tokens=True)

    def _apart(self, text: str) -> Iterator[Piece]:
        """Cut at tags that are text."""
        if self.kind == "answer":
            yield self.kind, text
            return
        text, self._held = self._held + text, ""
        if not self._begun and self._vlm.think_start is None:
            if OPEN.startswith(text.strip()) and text.strip() != OPEN:
                self._held = text
                return
            text = text.lstrip().removeprefix(OPEN) if text.lstrip().startswith(OPEN) else text
        self._begun = self._begun or bool(text.strip())
        if self._vlm.think_end is None:
            thinking, tag, answer = text.partition(CLOSE)
            if tag:
                if thinking:
                    yield "thinking", thinking
                self.kind = "answer"
                if answer:
                    yield "answer", answer
                return
            kept = next((n for n in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:n])), 0)
            text, self._held = text[: len(text) - kept], text[len(text) - kept :]
        if text:
            yield "thinking", text
