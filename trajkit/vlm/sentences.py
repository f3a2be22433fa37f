"""Cuts a generation into steps: the sentences of its thinking span, then the answer.

Works token by token, so that a live run and a saved one are cut alike, by the rules of `sentence_ends`: a sentence ends
before the token that starts with white space after a final mark, or after a line break. The thinking tags are single
tokens in some tokenizers and ordinary text over several tokens in others; an opening tag may be in the prompt, in the
output, or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trajkit.sentence_ends import CLOSE, KEPT, OPEN, ends_sentence, shortened
from trajkit.traces.trace import StepKind
from trajkit.vlm.model import VLM

_KEPT = KEPT
"""Tokens that are decoded again with every new one: more than any character, tag or abbreviation has."""
_CONTEXT = 4
"""Tokens before those, decoded with them for what a token takes from its neighbours."""


@dataclass(frozen=True)
class Span:
    """Tokens [start, end) of the generation that make up one step."""

    start: int
    end: int
    kind: StepKind


class StepSplitter:
    """Feed it the generated tokens one by one; it returns the step that each one completes, if any.

    A step's text is not decoded anew with each token, which would take a time that grows with its square: tokens that
    lie some way back are decoded once, and only what their text means for the next cut is kept.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        think_start: int | None,
        think_end: int | None,
        marks: Sequence[str] = (),
    ) -> None:
        """think_start, think_end: the tags as tokens, None where they are text. marks: text left out of an answer."""
        self._decode, self._think_start, self._think_end, self._marks = decode, think_start, think_end, marks
        self._tokens: list[int] = []
        self._start = 0
        self._text = ""  # of the step so far, `shortened`
        self._settled = ""  # its part before the tokens that are decoded again
        self._anchor, self._skip = 0, 0  # decoded again from this token on, but for so many characters
        self._kind: StepKind = "thinking"

    @classmethod
    def of(cls, vlm: VLM) -> StepSplitter:
        """A splitter for a model's generation."""

        def decode(ids: Sequence[int]) -> str:
            return vlm.tokenizer.decode(ids, skip_special_tokens=True)

        return cls(decode, vlm.think_start, vlm.think_end, vlm.adapter.marks)

    @property
    def closed(self) -> bool:
        """Whether the thinking span has ended."""
        return self._kind == "answer"

    @property
    def at_sentence_end(self) -> bool:
        """Whether the thinking so far looks like whole sentences; what comes next may show otherwise ("3." and "5")."""
        text = self._text.rstrip()
        return not self.closed and bool(text) and (self._text.endswith("\n") or ends_sentence(text))

    def push(self, token: int) -> Span | None:
        """Take the next token; return the step that it shows to be complete."""
        at = len(self._tokens)
        self._tokens.append(token)
        if self._kind == "answer":
            return None
        if token == self._think_end:
            done = self._close(at)
            self._start, self._kind = at + 1, "answer"
            return done
        if token == self._think_start and not self._text.strip():
            self._begin(at + 1)
            return None
        longer = self._settled + self._decode(self._tokens[self._anchor :])[self._skip :]
        if self._think_end is None and CLOSE in longer:
            done = self._close(self._token_at(longer.index(CLOSE)))
            self._start, self._kind = at + 1, "answer"
            return done
        if self._think_start is None and longer.strip() == OPEN:
            self._begin(at + 1)
            return None
        piece = longer[len(self._text) :]
        breaks = piece[:1].isspace() and ends_sentence(self._text.rstrip())
        if breaks or (self._text.endswith("\n") and self._text.strip()):
            done = self._close(at)
            self._text = self._decode(self._tokens[at:])
            return done
        self._text = longer
        if len(self._tokens) - self._anchor > 2 * _KEPT + _CONTEXT:
            self._settle()
        return None

    def finish(self, end: int | None = None) -> Span | None:
        """The last step, when the generation is over; `end` leaves out a closing special token."""
        return self._close(len(self._tokens) if end is None else end)

    def text(self, span: Span) -> str:
        text = self._decode(self._tokens[span.start : span.end])
        for mark in self._marks if span.kind == "answer" else ():
            text = text.replace(mark, "")
        return text.strip()

    def _token_at(self, character: int) -> int:
        """The token in which a character of `longer` lies that the latest token has shown to begin the closing tag."""
        settled = len(self._settled)
        if character < settled:  # a tag of more tokens than are decoded again: most of them have no text
            self._begin(self._start)
            return self._token_at(self._decode(self._tokens[self._start :]).index(CLOSE))
        end = self._anchor
        while settled + len(self._decode(self._tokens[self._anchor : end + 1])[self._skip :]) <= character:
            end += 1
        return end

    def _begin(self, start: int) -> None:
        """A step, so far without text, from token `start` on."""
        self._start = self._anchor = start
        self._skip, self._text, self._settled = 0, "", ""

    def _settle(self) -> None:
        """Decode all but the latest tokens for the last time, if the text falls apart there without a change."""
        cut = len(self._tokens) - _KEPT
        whole = self._decode(self._tokens[self._anchor :])[self._skip :]
        earlier = self._decode(self._tokens[self._anchor : cut])[self._skip :]
        context = self._decode(self._tokens[cut - _CONTEXT : cut])
        later = self._decode(self._tokens[cut - _CONTEXT :])
        if not context or not later.startswith(context) or earlier + later[len(context) :] != whole:
            return
        self._settled = shortened(self._settled + earlier)
        self._anchor, self._skip = cut - _CONTEXT, len(context)
        self._text = self._settled + later[len(context) :]

    def _close(self, end: int) -> Span | None:
        start, text = self._start, self._decode(self._tokens[self._start : end])
        self._begin(end)
        return Span(start, end, self._kind) if text.strip() else None


class Split(NamedTuple):
    """Steps of a whole generation with their texts, and whether its thinking span was closed."""

    spans: list[Span]
    texts: list[str]
    closed: bool


def split_steps(tokens: Sequence[int], vlm: VLM) -> Split:
    """Cut a whole generation into steps."""
    splitter = StepSplitter.of(vlm)
    spans = [span for token in tokens if (span := splitter.push(token))]
    end = len(tokens) - (len(tokens) > 0 and tokens[-1] in vlm.end_tokens)
    last = splitter.finish(end)
    spans += [last] if last else []
    return Split(spans, [splitter.text(span) for span in spans], splitter.closed)
