"""Follow: the effects of every reasoning step of tokens that another engine generates, as they come.

vLLM and its kind show no attention. The same checkpoint reads their tokens here behind them: each finished step in one
pass, each token once, with the keys of all before at hand (`packed`). Steps and verdicts are those of `stream`.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor

from trajkit.attribution.assemble import of_live
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.explainer import LiveRun, LiveStep, Watching
from trajkit.attribution.packed import Piece, ReadSequence, Seen, read_pieces
from trajkit.attribution.recorder import FinishedStep, SeenRows
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.told import Logprobs, Tokens, check_prompt, checked_logprobs, checked_tokens
from trajkit.attribution.uncertainty import uncertainty_after
from trajkit.errors import InputError, untraced
from trajkit.traces.trace import Trace
from trajkit.vlm.canvas import Images
from trajkit.vlm.messages import Messages
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span, StepSplitter

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.policies import Decision, Policy


class Followers:
    """Follows several runs of one model, whose tokens share passes. Runs join and leave at any time.

        group = tk.Followers(vlm, estimator=estimator, monitor=monitor)
        run, other = group.join(image, question), group.join(prompt)
        for step in group.push({run: [12, 72], other: [54]})[run]: ...
        group.finish(run)

    A run costs memory for the keys and values of all its tokens, until it is finished or left. To be used from one
    thread at a time; between pushes the model is free for others.

    See also: `follow`.

    >>> written = tk.stream(vlm, image, question, estimator=estimator, seed=1)
    >>> n_steps = len(list(written))
    >>> group = tk.Followers(vlm, estimator=estimator, monitor=monitor)
    >>> run = group.join(image, question)
    >>> for token in written.tokens[:20]:  # of several runs at once: {run: [72], other: [54]}
    ...     for step in group.push({run: [token]})[run]:
    ...         print(step.text)
    row 1 col 1 is red 2.
    row 3 col 1 is red 3.
    >>> run in group.open, group.nbytes > 0
    (True, True)
    >>> group.leave(run)
    """

    def __init__(
        self, vlm: VLM, *, estimator: EffectEstimator, monitor: Monitor | None = None, policy: Policy | None = None
    ) -> None:
        """policy: says in a step's `decision` what is to be done; it is for the caller to tell the engine.

        Raises EstimatorMismatchError when the estimator (or monitor) was made for another model.
        """
        self._watching = Watching(vlm, estimator, monitor, policy)
        self._watching.check()
        self._open = WeakSet[Follower]()  # a run that nobody refers to takes its keys with it
        self._joined = 0

    def join(
        self,
        image: Images | Prompt | None = None,
        question: str | None = None,
        *,
        messages: Messages | None = None,
        regions: Regions | None = None,
        prompt_token_ids: Sequence[int] | None = None,
        monitor: Monitor | None = None,
        policy: Policy | None = None,
        task_set: str = "",
        form: str = "",
    ) -> Follower:
        """Follow one more run. Its prompt is read with the next pass.

        image: with a question, or a prompt (`VLM.prepare`, `VLM.prepare_chat`). messages: in their place. regions,
        task_set, form: as for `stream`. prompt_token_ids: those that the other engine made of the prompt, to be
        compared. monitor, policy: of this run; the group's by default. Raises InputError where prompts differ, and as
        `VLM.prompt`; EstimatorMismatchError when the estimator was made for other regions, or the monitor for another
        model.
        """
        vlm, estimator = self._watching.vlm, self._watching.estimator
        if not isinstance(image, Prompt):
            prompt = vlm.prompt(image, question, messages)
        elif question is None and messages is None:
            prompt = image
        else:
            raise InputError("a prompt holds its question already; give no other beside it.")
        if prompt_token_ids is not None:
            check_prompt(prompt.inputs["input_ids"][0].tolist(), prompt_token_ids)
        if regions is not None:
            estimator.check_regions(regions.method)
        regions = regions or segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm)
        watching = replace(
            self._watching,
            monitor=monitor or self._watching.monitor,
            policy=policy or self._watching.policy,
            task_set=task_set,
            form=form,
        )
        watching.check()
        self._joined += 1
        return self._follow(watching, LiveRun(watching, prompt, regions, self._joined - 1))

    def again(self, follower: Follower) -> Follower:
        """Follow another generation of a run's question, from its beginning: the next attempt, as its policy asked.

        Raises InputError where the policy makes no further one.

        See also: `Policy`.

        >>> group = tk.Followers(vlm, estimator=estimator, monitor=monitor, policy=tk.Policy("ask again"))
        >>> run = group.join(image, question)
        >>> second = group.again(run)  # of the same question, from its beginning
        >>> second.push(vlm.tokenizer.encode("row 1 col 1"))
        []
        >>> group.leave(second)
        """
        return self._follow(follower._watching, follower.run.again(0))

    def _follow(self, watching: Watching, run: LiveRun) -> Follower:
        follower = Follower(self, watching, run)
        self._open.add(follower)
        return follower

    @property
    def open(self) -> frozenset[Follower]:
        """The runs that are being followed."""
        return frozenset(self._open)

    @property
    def nbytes(self) -> int:
        """Memory that keys and values of all open runs take, bytes."""
        return sum(follower.nbytes for follower in self._open)

    def push(
        self, tokens: Mapping[Follower, Tokens], logprobs: Mapping[Follower, Logprobs] | None = None
    ) -> dict[Follower, list[LiveStep]]:
        """Take the next tokens of some runs; the steps that they show to be complete, of each.

        All that is to be read is so in one pass. Where a run cannot be explained (attention that is not finite, a
        monitor or estimator that fails) it is left, `Follower.error` says why, and the others go on. logprobs: of the
        other engine, before temperature and the like, which are taken in place of the model's own here; given for each
        push of a run or for none.
        Raises InputError for tokens that this model cannot have written, or too many of them, and a run that is over or
        joined others; then no run has taken any. After a pass that failed, as for want of memory, a push of no tokens
        makes it again.
        """
        if any(follower._group is not self for follower in tokens):
            raise InputError("a run is followed by the group that it joined; push its tokens there.")
        taken = {follower: follower._checked(own, (logprobs or {}).get(follower)) for follower, own in tokens.items()}
        for follower, (ids, given) in taken.items():
            follower._take(ids, given)
        return self._explain(list(taken))

    def finish(self, *followers: Follower) -> dict[Follower, list[LiveStep]]:
        """The generations of these runs are over: their last steps. Their keys are dropped."""
        for follower in followers:
            follower._end()
        made = self._explain(list(followers))
        for follower in followers:
            if follower.error is None:
                follower.run.ended = True
            self.leave(follower)
        return made

    def leave(self, follower: Follower) -> None:
        """Follow a run no longer, wherever it is; its steps so far can still be read, its keys are dropped."""
        follower._over, follower._sequence = True, None
        self._open.discard(follower)

    @torch.inference_mode()
    def _explain(self, followers: Sequence[Follower]) -> dict[Follower, list[LiveStep]]:
        """Read what the finished steps of these runs need, and prompts that have not been read, and explain them."""
        pieces = {follower: piece for follower in followers if (piece := follower._next_piece()) is not None}
        seen = read_pieces(self._watching.vlm, list(pieces.values()))
        made: dict[Follower, list[LiveStep]] = {follower: [] for follower in followers}
        for follower, one in zip(pieces, seen, strict=True):
            try:
                for step in follower._explained(one):
                    made[follower].append(step)
            except Exception as error:  # of this run alone
                follower.error = untraced(error)
                self.leave(follower)
        return made


@dataclass(eq=False)
class _Finished:
    """A step that has been seen to end and is not explained yet."""

    span: Span
    text: str
    seconds: float
    seen_at: float


class Follower(Iterator[LiveStep]):
    """One run that is followed: push what another engine generates, or iterate over steps where `tokens` come by
    themselves. Made by `follow` or `Followers.join`.

    run: what there is of it so far. error: why it could not be explained any further, if it could not. logprobs: the
    model's own here of each token of the steps so far, nats, by its place in the generation.
    """

    def __init__(self, group: Followers, watching: Watching, run: LiveRun) -> None:
        self.run = run
        self.error: Exception | None = None
        self._group, self._vlm, self._watching = group, watching.vlm, watching
        self._splitter = StepSplitter.of(self._vlm)
        self._sequence: ReadSequence | None = ReadSequence(self._vlm, run.prompt)
        self._finished: list[_Finished] = []
        self.logprobs: dict[int, float] = {}
        self._logprobs: list[float] = []  # as given, of all tokens or none
        self._over = False
        self._clock = time.perf_counter()
        self._source: Iterator[tuple[Tokens, Logprobs | None]] | None = None
        self._made = deque[LiveStep]()

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> LiveStep:
        if self._source is None:
            raise InputError("no tokens were given to iterate over; push them, as they come.")
        while not self._made:
            if self._over:
                raise StopIteration
            for tokens, logprobs in self._source:
                self._made += self.push(tokens, logprobs)
                break
            else:
                self._made += self.finish()
        return self._made.popleft()

    def push(self, tokens: Tokens, logprobs: Logprobs | None = None) -> list[LiveStep]:
        """Take the next tokens; the steps that they show to be complete, with effects and verdicts.

        logprobs: of the other engine, as for `Followers.push`. Raises as that does, and what explaining fails with.
        """
        made = self._group.push({self: tokens}, None if logprobs is None else {self: logprobs})[self]
        if self.error is not None:
            raise self.error
        return made

    def finish(self) -> list[LiveStep]:
        """The generation is over: its last step."""
        made = self._group.finish(self)[self]
        if self.error is not None:
            raise self.error
        return made

    def leave(self) -> None:
        """Follow it no longer: it was stopped. Its steps so far can still be read, its keys are dropped."""
        self._group.leave(self)

    def trace(self, *, target: str | None = None, group_id: str | None = None) -> Trace:
        """What there is of the run as a Trace; of one that has not been finished without an answer, and then
        `meta["stopped"]` is true. Followed again, the same tokens have the same transcript_id.

        target: the right answer, by which the run is judged. group_id: the image's hash by default.
        """
        trace = of_live(
            self.run,
            self._vlm,
            self._watching.estimator,
            run_id=hashlib.sha256(f"{self.run.ended} {self.tokens}".encode()).hexdigest(),
            target=target,
            group_id=group_id,
            task_set=self._watching.task_set,
            form=self._watching.form,
            monitor=self._watching.monitor,
        )
        return replace(trace, meta={**trace.meta, "followed": True})

    @property
    def prompt(self) -> Prompt:
        """What is being asked."""
        return self.run.prompt

    @property
    def regions(self) -> Regions:
        """The regions that effects are about."""
        return self.run.regions

    @property
    def tokens(self) -> list[int]:
        """All that were pushed."""
        return self.run.tokens

    @property
    def steps(self) -> list[LiveStep]:
        """Those explained so far."""
        return self.run.steps

    @property
    def closed(self) -> bool:
        """Whether the thinking span was closed."""
        return self.run.closed

    @property
    def decisions(self) -> list[Decision]:
        """What the policy decided so far."""
        return self.run.decisions

    @property
    def nbytes(self) -> int:
        """Memory of its keys and values, bytes; 0 once it is over."""
        return 0 if self._sequence is None else self._sequence.nbytes

    def _checked(self, tokens: Tokens, logprobs: Logprobs | None) -> tuple[list[int], list[float]]:
        """As lists. Raises InputError as `Followers.push` says."""
        if self._over:
            raise InputError("the run that is followed is over; join again for another.")
        ids = checked_tokens(self._vlm, tokens, self.prompt.length + len(self.tokens))
        expected = bool(self._logprobs) if self.tokens else logprobs is not None
        return ids, checked_logprobs(logprobs, len(ids), expected)

    def _take(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        for token in ids:
            self.tokens.append(token)
            self._note(self._splitter.push(token))
        self._logprobs += logprobs
        self.run.closed = self._splitter.closed

    def _end(self) -> None:
        if self._sequence is None:
            raise InputError("the run that is followed is over.")
        if self._over:  # the pass over its last step failed
            return
        self._over = True
        ended = bool(self.tokens) and self.tokens[-1] in self._vlm.end_tokens
        self._note(self._splitter.finish(len(self.tokens) - ended))

    def _note(self, span: Span | None) -> None:
        if span is None:
            return
        now = time.perf_counter()
        self._finished.append(_Finished(span, self._splitter.text(span), now - self._clock, now))
        self._clock = now

    def _next_piece(self) -> Piece | None:
        """What is to be read next: up to the row that predicts the last token of the last finished step, and the prompt
        but for its last row, which goes with the first step."""
        sequence = self._sequence
        if sequence is None:
            return None
        end = self.prompt.length - 1 + (self._finished[-1].span.end if self._finished else 0)
        if end <= sequence.n:
            return None
        prompt, length = self.prompt.inputs["input_ids"][0], self.prompt.length
        tokens = prompt.new_tensor(self.tokens[max(sequence.n - length, 0) : max(end - length, 0)])
        return Piece(sequence, torch.cat([prompt[sequence.n : end], tokens]), self.prompt.first_row)

    def _explained(self, seen: Seen) -> Iterator[LiveStep]:
        """Explain the finished steps, whose rows are the last of those seen; those before one that fails are kept."""
        assert self._sequence is not None
        end, rows = self._sequence.n, seen.rows
        at = end - rows.n  # position of the next row
        question = self.prompt.length - 1
        if at < question and (n := min(question, end) - at) > 0:
            self.run.read(SeenRows(self.run, rows.part(0, n), at + n, self._sequence, 0))
            rows, at = rows.part(n, rows.n), at + n
        while self._finished:
            finished = self._finished[0]
            upto = question + finished.span.end
            own, rows = rows.part(0, upto - at), rows.part(upto - at, rows.n)
            at = upto
            hidden = seen.hidden[len(seen.hidden) - (end - question - finished.span.start) :]
            step = self._step(finished, own, upto, hidden)
            del self._finished[0]
            yield self.run.explain(step, self.run.measure(step))

    def _step(self, step: _Finished, rows: Any, upto: int, hidden: Tensor) -> FinishedStep:
        """hidden: (n, D) of the row that predicts the step's first token and of those behind it."""
        assert self._sequence is not None
        span = step.span
        tokens = torch.tensor(self.tokens[span.start : span.end], device=hidden.device)
        logprob, entropy = uncertainty_after(self._vlm, hidden[: len(tokens)], tokens)
        self.logprobs.update(zip(range(span.start, span.end), logprob.tolist(), strict=True))
        if self._logprobs:
            logprob = logprob.new_tensor(self._logprobs[span.start : span.end])
        return FinishedStep(
            self.run, rows, upto, self._sequence, 0, span, step.text, logprob, entropy, step.seconds, step.seen_at
        )


def follow(
    vlm: VLM,
    image: Images | Prompt | None = None,
    question: str | Iterable[Tokens] | None = None,
    tokens: Iterable[Tokens] | None = None,
    *,
    messages: Messages | None = None,
    estimator: EffectEstimator,
    monitor: Monitor | None = None,
    policy: Policy | None = None,
    regions: Regions | None = None,
    logprobs: Iterable[Logprobs] | None = None,
    prompt_token_ids: Sequence[int] | None = None,
    task_set: str = "",
    form: str = "",
) -> Follower:
    """Yield each reasoning step of tokens that another engine generates with the same model, as soon as it is finished.

    `follow(vlm, image, question, tokens, ...)`, or `follow(vlm, prompt, tokens, ...)` with a prompt of `VLM.prepare` or
    `VLM.prepare_chat`, or `follow(vlm, messages=..., tokens=..., ...)`.

    tokens: the generated ids as they come, one by one or in lists, the first being the one after the prompt; when they
    end, the generation has. Left out, they are given to `Follower.push`, and `finish` says that there are no more.
    logprobs: in the same portions, the other engine's log-probability of each token, nats; the model's own by default.
    policy: as for `Followers`; the rest as for `stream` and `Followers.join`. Raises as those do, and as
    `Followers.push` while it is iterated.

    See also: `Followers`, `stream`, `watch`.

    >>> written = tk.stream(vlm, image, question, estimator=estimator, seed=1)
    >>> texts = [step.text for step in written]
    >>> followed = tk.follow(vlm, image, question, written.tokens, estimator=estimator)  # tokens of another engine
    >>> [step.text for step in followed] == texts
    True
    """
    if question is not None and not isinstance(question, str):
        if not isinstance(image, Prompt) or tokens is not None:
            raise InputError("expected follow(vlm, image, question, tokens, ...) or follow(vlm, prompt, tokens, ...).")
        question, tokens = None, question
    follower = Followers(vlm, estimator=estimator, monitor=monitor, policy=policy).join(
        image,
        question,
        messages=messages,
        regions=regions,
        prompt_token_ids=prompt_token_ids,
        task_set=task_set,
        form=form,
    )
    if tokens is not None:
        follower._source = _portions(tokens, logprobs)
    return follower


def _portions(
    tokens: Iterable[Tokens], logprobs: Iterable[Logprobs] | None
) -> Iterator[tuple[Tokens, Logprobs | None]]:
    if logprobs is None:
        return ((portion, None) for portion in tokens)
    return zip(tokens, logprobs, strict=True)
