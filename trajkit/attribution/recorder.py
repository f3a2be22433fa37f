"""Cuts a running generation into steps, and keeps of each what is needed to explain it later, in another thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from threading import get_ident
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from trajkit.attribution.rows import Rows
from trajkit.attribution.tap import AttentionTap
from trajkit.attribution.uncertainty import logprob_and_entropy
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span, StepSplitter


@dataclass(frozen=True, eq=False)
class FinishedStep:
    """A step that the producer has seen end, with what the worker needs to explain it."""

    span: Span
    text: str
    rows: Rows  # since the step before
    tap: AttentionTap
    logprob: list[Tensor]
    entropy: list[Tensor]
    seconds: float
    seen_at: float


class StepRecorder(LogitsProcessor):
    """Sees every next-token distribution of the model itself, and cuts the tokens into steps as they come.

    The scores that a processor is given may have been through others (a repetition penalty, a bias); a replay of the
    run, which estimators are trained on, would not see those.
    """

    def __init__(self, vlm: VLM, tap: AttentionTap, prompt: Prompt, out: Queue[FinishedStep | None]) -> None:
        self.splitter = StepSplitter.of(vlm)
        self._vlm, self._tap, self._out = vlm, tap, out
        self._prompt_length, self._taken = prompt.length, prompt.first_row
        self._logits = self._before = torch.empty(0)  # of the latest pass, and of the pass before the latest token
        self._logprob: list[Tensor] = []  # of the tokens from `_dropped` on
        self._entropy: list[Tensor] = []
        self._dropped = 0
        self._pushed = 0
        self._clock = time.perf_counter()

    @contextmanager
    def seeing_logits(self) -> Iterator[None]:
        """Take the logits of the passes of this thread."""
        own = get_ident()

        def see(module: Any, inputs: Any, output: Any) -> None:
            if get_ident() == own:
                self._logits = output.logits[0, -1]

        hook = self._vlm.model.register_forward_hook(see)
        try:
            yield
        finally:
            hook.remove()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self._prompt_length:
            self._push(input_ids[0, -1])
        self._before = self._logits
        return scores

    def finish(self, tokens: list[int]) -> None:
        """Take what came after the last call, and close the last step."""
        for token in torch.tensor(tokens[self._pushed :], device=self._before.device):
            self._push(token)
        end = len(tokens) - (len(tokens) > 0 and tokens[-1] in self._vlm.end_tokens)
        self._hand_over(self.splitter.finish(end))

    def _push(self, token: Tensor) -> None:
        logprob, entropy = logprob_and_entropy(self._before, token)
        self._logprob.append(logprob)
        self._entropy.append(entropy)
        self._pushed += 1
        self._hand_over(self.splitter.push(int(token)))

    def _hand_over(self, span: Span | None) -> None:
        if span is None:
            return
        now = time.perf_counter()
        first, last = span.start - self._dropped, span.end - self._dropped
        upto = span.end + self._prompt_length - 1  # row t−1 predicts token t
        rows = self._tap.take(upto - self._taken)
        self._taken = upto
        item = FinishedStep(
            span,
            self.splitter.text(span),
            rows,
            self._tap,
            self._logprob[first:last],
            self._entropy[first:last],
            now - self._clock,
            now,
        )
        self._out.put_nowait(item)
        self._clock = now
        del self._logprob[:last], self._entropy[:last]
        self._dropped = span.end
