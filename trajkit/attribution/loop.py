"""The decoding loop under watch: transformers' own, with something done between two tokens.

Every token goes to a recorder, finished steps to an explainer in another thread, explained ones to callbacks, and what
a policy decides is done. Nothing here draws a number, or changes a score before a policy forces a token, so that a run
is the same with and without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from trajkit.attribution.explainer import Explainer, LiveRun, LiveStep
from trajkit.attribution.recorder import StepRecorder
from trajkit.attribution.tap import AttentionTap
from trajkit.errors import TrajkitError, untraced
from trajkit.sentence_ends import CLOSE
from trajkit.vlm.model import VLM

if TYPE_CHECKING:
    from trajkit.detection.policies import Decision

PATIENCE = 64
"""Tokens that a sentence is waited for to end before the thinking is closed in the middle of it."""

Callback = Callable[[LiveStep], object]
TokenCallback = Callable[[int, int], object]
"""Of a token and the attempt that it is of."""
ErrorCallback = Callable[[Exception], object]


class WatchedLoop:
    """Decodes a batch of runs, and calls back between two tokens, in the thread that generates.

    What a callback raises, or attribution, ends the generation and comes out of `decode`; steps made so far are kept.
    """

    def __init__(
        self,
        vlm: VLM,
        explainer: Explainer,
        on_step: Callback | None = None,
        on_alarm: Callback | None = None,
        on_token: TokenCallback | None = None,
        on_unexplained: ErrorCallback | None = None,
    ) -> None:
        """on_unexplained: is told once what the explainer failed with, and the runs go on without steps; where there is
        none, they end."""
        self.stopped = False
        """Set it, from any thread, to end all runs at their next token."""
        self.callback_raised = False
        """Whether it was a callback that ended the run."""
        self._vlm, self._explainer = vlm, explainer
        self._on_step, self._on_alarm, self._on_token = on_step, on_alarm, on_token
        self._on_unexplained, self._unexplained = on_unexplained, False

    def decode(
        self,
        runs: Sequence[LiveRun],
        padding: Sequence[int],
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: Any,
        *,
        hints: Sequence[Sequence[int]] = (),
        **model_kwargs: Any,
    ) -> Any:
        """As transformers' `_sample`, for a batch of `runs` with `padding` tokens at the left of each.

        hints: tokens that each is made to begin with. When it returns, all steps have been explained and called back.
        """
        first_rows = [run.prompt.first_row for run in runs]
        with AttentionTap(self._vlm, first_rows, padding) as tap:
            recorder = StepRecorder(self._vlm, tap, runs, self._explainer.put, _end_tokens(generation_config))
            between = _Between(self, stopping_criteria, runs, recorder, tap)
            between.forced.fill(hints)
            processors = LogitsProcessorList([*logits_processor, between.forced])
            try:
                with recorder.seeing_logits():
                    result = type(model)._sample(
                        model, input_ids, processors, between, generation_config, **model_kwargs
                    )
            except BaseException as error:
                if self.callback_raised or not isinstance(error, TrajkitError):
                    recorder.end_all()  # of a callback, a streamer, the model, or an interrupt: no token is lost
                self._explainer.flush()
                raise
            recorder.end_all()
            self._explainer.flush()
        between.deliver()
        return result

    def close_tokens(self) -> list[int]:
        """Tokens that close the thinking span."""
        if self._vlm.think_end is not None:
            return [self._vlm.think_end]
        return list(self._vlm.tokenizer.encode(CLOSE, add_special_tokens=False))

    def tell(self, run: LiveRun, token: int) -> None:
        """Call back for a token of a run."""
        if self._on_token is not None:
            with self._calling():
                self._on_token(token, run.attempt)

    def call_back(self) -> list[LiveStep]:
        """Call back for every step explained since the last call, and return them."""
        error = self._explainer.error
        if self._on_unexplained is None or not isinstance(error, Exception):
            self._explainer.check()
        steps = list(self._explainer.made())
        with self._calling():
            for step in steps:
                if self._on_step is not None:
                    self._on_step(step)
                if self._on_alarm is not None and step.alarm:
                    self._on_alarm(step)
            if self._on_unexplained is not None and isinstance(error, Exception) and not self._unexplained:
                self._unexplained = True
                self._on_unexplained(untraced(error))
        return steps

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Within, what is raised is a callback's."""
        try:
            yield
        except BaseException:
            self.callback_raised = True
            raise


class _Between(StoppingCriteriaList):
    """Criteria that tell what was drawn to a recorder, and end rows that a policy or the program stops.

    A list of the criteria that it was made of, as transformers' loop looks through it.
    """

    def __init__(
        self,
        loop: WatchedLoop,
        criteria: Sequence[Any],
        runs: Sequence[LiveRun],
        recorder: StepRecorder,
        tap: AttentionTap,
    ) -> None:
        super().__init__(criteria)
        self.forced = Forced()
        self._loop, self._runs, self._recorder, self._tap = loop, runs, recorder, tap
        self._over = [False] * len(runs)
        self._stopping = [False] * len(runs)
        self._closing: dict[int, int] = {}  # row → tokens that its sentence may still take

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        ended = super().__call__(input_ids, scores, **kwargs)
        tokens = input_ids[:, -1]
        numbers, done = tokens.tolist(), ended.tolist()
        self._recorder.push(tokens, numbers)
        for row, run in enumerate(self._runs):
            if not self._over[row]:
                self._loop.tell(run, numbers[row])
            if done[row] and not self._over[row]:
                run.ended = True
                self._end(row)
        self.deliver()
        for row in [*self._closing]:
            self._close(row)
        stopping = [
            row for row, over in enumerate(self._over) if not over and (self._stopping[row] or self._loop.stopped)
        ]
        for row in stopping:
            self._end(row)
        return ended.index_fill(0, torch.tensor(stopping, device=ended.device), True) if stopping else ended

    def deliver(self) -> None:
        """Call back for steps that have been explained, and begin what was decided after them."""
        with self._tap.resting():  # a callback may use the model
            steps = self._loop.call_back()
        for step in steps:
            if step.decision is not None:
                self._act(step.row, step.decision)

    def _act(self, row: int, decision: Decision) -> None:
        if decision.action in ("stop", "ask again"):
            self._stopping[row] = True
        elif decision.action in ("answer now", "enough"):
            self._closing[row] = PATIENCE

    def _close(self, row: int) -> None:
        """Close the thinking of a row at the end of its sentence; it may have been closed by itself."""
        if self._over[row] or self._runs[row].closed:
            del self._closing[row]
        elif self._recorder.at_sentence_end(row) or self._closing[row] <= 0:
            self.forced.put(row, self._loop.close_tokens())
            del self._closing[row]
        else:
            self._closing[row] -= 1

    def _end(self, row: int) -> None:
        self._over[row] = True
        self._recorder.end(row)


class Forced(LogitsProcessor):
    """Leaves one token possible in rows that are made to say something."""

    def __init__(self) -> None:
        self._tokens: dict[int, deque[int]] = {}

    def put(self, row: int, tokens: Sequence[int]) -> None:
        """Have a row say `tokens` next."""
        if tokens:
            self._tokens[row] = deque(tokens)

    def fill(self, tokens: Sequence[Sequence[int]]) -> None:
        for row, hint in enumerate(tokens):
            self.put(row, hint)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self._tokens:
            return scores
        scores = scores.clone()
        for row, tokens in list(self._tokens.items()):
            scores[row] = float("-inf")
            scores[row, tokens.popleft()] = 0.0
            if not tokens:
                del self._tokens[row]
        return scores


def _end_tokens(config: Any) -> frozenset[int]:
    ids = config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or [])
