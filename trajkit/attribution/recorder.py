"""Cuts running generations into steps, and keeps of each what is needed to explain it later, in another thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from trajkit.attribution.rows import ROOM, Rows
from trajkit.attribution.tap import AttentionTap
from trajkit.attribution.uncertainty import logprob_and_entropy
from trajkit.vlm.model import VLM
from trajkit.vlm.sentences import Span, StepSplitter

if TYPE_CHECKING:
    from trajkit.attribution.explainer import LiveRun


class Keys(Protocol):
    """Who holds the keys of sequences: `AttentionTap`, or `packed.ReadSequence` of its one."""

    scaling: float

    def keys(self, end: int, sequence: int = 0) -> Sequence[Tensor]:
        """Of a sequence's positions before `end`, (H_kv, end, D) per layer."""
        ...


@dataclass(frozen=True, eq=False)
class SeenRows:
    """Rows of a run that predict no step: those of its question, and of steps that it goes on from."""

    run: LiveRun
    rows: Rows
    end: int
    """Position after the last of them."""
    tap: Keys
    sequence: int
    """Which one of its."""


@dataclass(frozen=True, eq=False)
class FinishedStep(SeenRows):
    """A step that has been seen to end, with what it takes to explain it.

    As `SeenRows`; the last of the rows predict the step. logprob, entropy: (n,) of its tokens, nats. seconds: since the
    step before. seen_at: `time.perf_counter` when it was seen.
    """

    span: Span
    text: str
    logprob: Tensor
    entropy: Tensor
    seconds: float
    seen_at: float


class StepRecorder:
    """Takes each token of a batch of generations as it is drawn, and hands over their steps as they end.

    Log-probabilities are of the model's own logits: the scores that a token is drawn from may have been through a
    penalty or a bias, which a replay of the run, on which estimators are trained, would not see.
    """

    def __init__(
        self,
        vlm: VLM,
        tap: AttentionTap,
        runs: Sequence[LiveRun],
        put: Callable[[SeenRows], None],
        end_tokens: frozenset[int],
    ) -> None:
        """put: takes each step, and rows that predict none. runs: in the order of the batch. end_tokens: those that end
        a generation and are no part of its last step."""
        self._vlm, self._put = vlm, put
        self._rows = [_Row(vlm, tap, i, run, end_tokens) for i, run in enumerate(runs)]
        self._logits = torch.empty(0)  # (B, V), of the latest pass
        self._begun = False

    @contextmanager
    def seeing_logits(self) -> Iterator[None]:
        """Take the logits of the passes of this thread."""
        own = get_ident()

        def see(module: Any, inputs: Any, output: Any) -> None:
            if get_ident() == own:
                self._logits = output.logits[:, -1]

        hook = self._vlm.model.register_forward_hook(see)
        try:
            yield
        finally:
            hook.remove()

    def push(self, tokens: Tensor, numbers: Sequence[int]) -> None:
        """Take the (B,) tokens that were drawn after the latest pass, and the same as `numbers`."""
        if not self._begun:  # the prompt has been read
            self._begun = True
            for row in self._rows:
                self._hand_over(row.seen())
        logprob, entropy = logprob_and_entropy(self._logits, tokens.to(self._logits.device))
        for i, row in enumerate(self._rows):
            if not row.over:
                self._hand_over(row.push(numbers[i], logprob[i], entropy[i]))

    def end(self, i: int) -> None:
        """The generation of a row is over: close its last step, and keep no more of it."""
        self._hand_over(self._rows[i].end())

    def end_all(self) -> None:
        for i in range(len(self._rows)):
            self.end(i)

    def at_sentence_end(self, i: int) -> bool:
        """Whether what a row has written looks like a whole sentence."""
        return self._rows[i].splitter.at_sentence_end

    def _hand_over(self, item: SeenRows | None) -> None:
        if item is not None:
            self._put(item)


class _Row:
    """One generation of a batch: what of it has been seen, and what of that was handed over."""

    def __init__(self, vlm: VLM, tap: AttentionTap, i: int, run: LiveRun, end_tokens: frozenset[int]) -> None:
        self.splitter = StepSplitter.of(vlm)
        self.over = False
        self._tap, self._i, self._run, self._end_tokens = tap, i, run, end_tokens
        for token in run.tokens:  # what it goes on from
            self.splitter.push(token)
        self._question = run.prompt.length  # positions before the first token of the generation
        self._taken = run.prompt.first_row
        self._dropped = len(run.tokens)  # tokens whose numbers are no longer kept
        self._told = torch.empty(2, 0)  # log-probability and entropy of tokens behind those, and room for more
        self._n_told = 0
        self._clock = time.perf_counter()

    def seen(self) -> SeenRows | None:
        """Rows of the first pass but the last one, which predicts a token."""
        upto = self._question + len(self._run.tokens) - 1
        if upto <= self._taken:
            return None
        return SeenRows(self._run, self._take(upto), upto, self._tap, self._i)

    def push(self, token: int, logprob: Tensor, entropy: Tensor) -> FinishedStep | None:
        self._run.tokens.append(token)
        self._tell(logprob, entropy)
        span = self.splitter.push(token)
        self._run.closed = self.splitter.closed
        return self._finished(span)

    def end(self) -> FinishedStep | None:
        if self.over:
            return None
        self.over = True
        tokens = self._run.tokens
        ended = len(tokens) > 0 and tokens[-1] in self._end_tokens
        last = self._finished(self.splitter.finish(len(tokens) - ended))
        self._tap.release(self._i)
        return last

    def _finished(self, span: Span | None) -> FinishedStep | None:
        if span is None or span.end <= self._dropped:  # a step that the run goes on from
            return None
        now = time.perf_counter()
        first, last = max(span.start - self._dropped, 0), span.end - self._dropped
        logprob, entropy = self._told[:, first:last].clone()
        upto = self._question + span.end - 1  # row t−1 predicts token t
        item = FinishedStep(
            self._run,
            self._take(upto),
            upto,
            self._tap,
            self._i,
            span,
            self.splitter.text(span),
            logprob,
            entropy,
            now - self._clock,
            now,
        )
        self._clock = now
        self._told = self._told[:, last:].clone()
        self._n_told -= last
        self._dropped = span.end
        return item

    def _tell(self, logprob: Tensor, entropy: Tensor) -> None:
        if self._n_told == self._told.shape[1]:
            room = logprob.new_empty(2, max(ROOM, 2 * self._n_told))
            room[:, : self._n_told] = self._told
            self._told = room
        self._told[0, self._n_told], self._told[1, self._n_told] = logprob, entropy
        self._n_told += 1

    def _take(self, upto: int) -> Rows:
        rows = self._tap.take(upto - self._taken, self._i)
        self._taken = upto
        return rows
