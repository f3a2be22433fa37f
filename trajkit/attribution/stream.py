"""Stream: effects of every reasoning step while the model is still generating.

A producer thread runs `generate()`, in the loop under watch (`loop`); a worker thread turns each finished step into
effects (`explainer`, which says what of that is done where on the CPU). The producer hands steps over through a queue
without a bound, so it never waits for estimator, monitor or caller; an error in the worker stops the generation and is
raised at the caller.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import Queue
from threading import Thread, current_thread
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from trajkit.attribution.cores import let_go_of_cores
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.explainer import Explainer, LiveRun, LiveStep, Watching
from trajkit.attribution.loop import Callback, ErrorCallback, TokenCallback, WatchedLoop
from trajkit.attribution.regions import Regions, segment
from trajkit.errors import InputError, StreamError, TrajkitError
from trajkit.text import shortened
from trajkit.traces.trace import Trace
from trajkit.vlm.canvas import Images
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.messages import Messages
from trajkit.vlm.model import VLM, Prompt

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.policies import Decision, Policy

_PATIENCE = 0.1
"""Seconds between looks at whether a run that waits for the model was stopped."""


class Stream(Iterator[LiveStep]):
    """A running generation, to be iterated once. Made by `stream`.

    Leaving the loop early stops the generation, at its next token, once nothing refers to the Stream any more; `close`
    stops it now, and waits until it has stopped. So does an interrupt (Ctrl-C) while a step is waited for.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        weakref.finalize(self, run.stop).atexit = False  # the threads refer to the run, and nothing in it to this

    def __repr__(self) -> str:
        return f"Stream({shortened(self.prompt.question)!r}: iterate over it for its steps; trace() has the run)"

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> LiveStep:
        return self._run.next()

    def stop(self) -> None:
        """Have the generation end after its next token, without waiting for that; steps until then can still be read.
        Safe to call at any time and from any thread."""
        self._run.stop()

    def close(self) -> None:
        """Stop generating, and wait until it has ended. Safe to call at any time; steps already finished can still be
        read."""
        self._run.close()

    def trace(self, *, target: str | None = None, group_id: str | None = None) -> Trace:
        """The run as a Trace, without generating again: of a stream that has ended, or of what there is of one that has
        not, which is stopped first (then `meta["stopped"]` is true, and there is no answer).

        Steps keep the monitor's risk and alarm, and effects their half widths, where there were any. target: the right
        answer, by which the run is judged. group_id: the image's hash by default. The steps may have been read or not.
        Of several attempts it is the latest; `meta["attempt"]` says which that is, where it is not the first.

        >>> running = tk.stream(vlm, image, question, estimator=estimator, seed=1)
        >>> first = next(running)
        >>> running.stop()  # enough
        >>> running.trace().steps[0].text == first.text
        True
        """
        return self._run.trace(target, group_id)

    @property
    def prompt(self) -> Prompt:
        """What is being asked."""
        return self._run.prompt

    @property
    def regions(self) -> Regions:
        """The regions that effects are about."""
        return self._run.regions

    @property
    def tokens(self) -> list[int]:
        """The generated ids, of the latest attempt; empty until the generation has ended."""
        return self._run.tokens

    @property
    def closed(self) -> bool:
        """Whether the thinking span was closed; False until the generation has ended."""
        return self._run.closed

    @property
    def ended(self) -> bool:
        """Whether the model ended it, or its limit of tokens; False while it runs, and where it was stopped before."""
        return self._run.attempts[-1].ended

    @property
    def decisions(self) -> list[Decision]:
        """What the policy decided so far, in all attempts."""
        return list(self._run.decisions)

    @property
    def max_backlog(self) -> int:
        """Most steps that ever waited for the worker."""
        return self._run.max_backlog

    @property
    def lagged(self) -> bool:
        """Whether steps had to wait for the worker: attribution is slower than generation, verdicts come late.

        Generation itself is not slowed.
        """
        return self._run.max_backlog > 1

    @property
    def held_bytes(self) -> int:
        """Most memory that attribution held at once beside the model's own cache, bytes."""
        return self._run.held_bytes


class _Run:
    """The two threads of a Stream and what they share."""

    def __init__(
        self,
        watching: Watching,
        sampling: Sampling,
        run: LiveRun,
        on_step: Callback | None,
        on_alarm: Callback | None,
        on_token: TokenCallback | None,
        on_unexplained: ErrorCallback | None,
    ) -> None:
        self.prompt, self.regions = run.prompt, run.regions
        self.tokens: list[int] = []
        self.closed = self._begun = False
        self.attempts = [run]
        self._watching, self._sampling = watching, sampling
        self._out: Queue[LiveStep | BaseException | None] = Queue()
        self._explainer = Explainer(watching.vlm, self._out.put)
        self._loop = WatchedLoop(watching.vlm, self._explainer, on_step, on_alarm, on_token, on_unexplained)
        self._threads = [self._explainer.thread, Thread(target=self._produce, daemon=True)]
        let_go_of_cores()
        try:
            for thread in self._threads:
                thread.start()
        except BaseException as error:
            self._explainer.close()
            if isinstance(error, RuntimeError):
                raise StreamError(f"the run could not begin: {error}. Close other streams, or programs.") from error
            raise
        _running.add(self)

    @property
    def decisions(self) -> list[Decision]:
        return self.attempts[-1].decisions

    @property
    def max_backlog(self) -> int:
        return self._explainer.max_backlog

    @property
    def held_bytes(self) -> int:
        return self._explainer.held_bytes

    def next(self) -> LiveStep:
        """The next step; raises what a thread raised, StopIteration at the end. Ctrl-C stops the run."""
        if not (self._begun or self._loop.stopped) and self._watching.vlm.lock.held_here:
            raise InputError(
                "this run waits for the model, on which the thread that asks for its steps is generating, as in a "
                "callback. Iterate over it when that call has ended."
            )
        let_go_of_cores()
        try:
            item = self._out.get()
        except BaseException:
            self.close()
            raise
        if isinstance(item, LiveStep):
            return item
        self.close()
        self._out.put(None)
        if item is None:
            raise StopIteration
        try:
            own = self._loop.callback_raised and not isinstance(item, StopIteration)  # which would end it as if it had
            if isinstance(item, TrajkitError) or not isinstance(item, Exception) or own:
                raise item
            raise StreamError(f"the run was stopped by {type(item).__name__}: {item}") from item
        finally:
            del item  # which would hold itself, by this frame, and the run's keys

    def stop(self) -> None:
        """Have the generation end after its next token.

        Nothing but a flag is set: the garbage collector may call this at any point of any thread, also of the two here
        and also where a lock is held, so that to wait for a thread or a lock would be to wait for ever.
        """
        self._loop.stopped = True

    def close(self) -> None:
        """Stop, and wait for the threads; one of them, as in a callback, cannot wait for itself or the other."""
        self.stop()
        if current_thread() in self._threads:
            return
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def trace(self, target: str | None, group_id: str | None) -> Trace:
        """As `Stream.trace`."""
        self.close()
        return self.attempts[-1].trace(target=target, group_id=group_id)

    def _produce(self) -> None:
        vlm, end = self._watching.vlm, None
        try:
            while not vlm.lock.acquire(timeout=_PATIENCE):  # another run of this model
                if self._loop.stopped:
                    return
            self._begun = True
            try:
                self._generate()
            finally:
                vlm.lock.release()
        except BaseException as error:
            end = error
        finally:
            self._explainer.close()
            self._out.put(end)
            del end  # as above

    @torch.inference_mode()
    def _generate(self) -> None:
        """The first generation, and those that the policy asks for after it."""
        run, hint = self.attempts[-1], list[int]()
        try:
            while True:
                run.sampling = self._sampling
                decode = partial(self._loop.decode, [run], [0], hints=[hint])
                begun = [run.tokens] if run.tokens else []
                generate(self._watching.vlm, run.prompt.inputs, self._drawing(run), begun=begun, loop=decode)
                again = run.decision
                if again is None or again.action != "ask again" or self._loop.stopped:
                    break
                hint = self._hint(run, again)
                run = run.again(again.keep_tokens)
                run.put.update(range(again.keep_tokens, again.keep_tokens + len(hint)))
                self.attempts.append(run)
        finally:
            self.tokens, self.closed = list(run.tokens), run.closed

    def _drawing(self, run: LiveRun) -> Sampling:
        """How an attempt is drawn: from another seed each."""
        seed = self._sampling.seed
        return self._sampling if seed is None else replace(self._sampling, seed=(seed + run.attempt) % 2**32)

    def _hint(self, run: LiveRun, again: Decision) -> list[int]:
        """What the next attempt is made to begin with: the policy's hint, behind the tag that opened the thinking."""
        policy, tokenizer = self._watching.policy, self._watching.vlm.tokenizer
        if policy is None or not policy.hint:
            return []
        opening = run.tokens[: run.steps[0].token_start] if again.keep_tokens == 0 else []
        apart = " " if again.keep_tokens and not policy.hint[:1].isspace() else ""
        return [*opening, *tokenizer.encode(apart + policy.hint, add_special_tokens=False)]


_running: WeakSet[_Run] = WeakSet()


@atexit.register
def _close_all() -> None:
    """End every run before the interpreter does: torch does not survive to be cut off in a thread."""
    for run in list(_running):
        run.close()


def stream(
    vlm: VLM,
    image: Images | None = None,
    question: str | None = None,
    *,
    messages: Messages | None = None,
    estimator: EffectEstimator,
    monitor: Monitor | None = None,
    policy: Policy | None = None,
    on_step: Callback | None = None,
    on_alarm: Callback | None = None,
    on_token: TokenCallback | None = None,
    on_unexplained: ErrorCallback | None = None,
    regions: Regions | None = None,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    stop_strings: str | Sequence[str] | None = None,
    task_set: str = "",
    form: str = "",
) -> Stream:
    """Generate, and yield each reasoning step with its effects (and the monitor's verdict) as soon as it is finished.

    image: a path, the bytes of a file, an open picture or an array (H, W, 3) of uint8 or of floats in [0, 1]; or
    several in a list. messages: a chat of several turns in place of a question (`VLM.prepare_chat`). regions: as
    from `segment` with the method that the estimator was trained on; made so by default. temperature,
    max_new_tokens, seed, top_p, top_k, stop_strings: as in `Sampling`; None for the model's own settings. task_set,
    form: the question's family and form, where known; only a monitor that reads the task asks for them
    (`Monitor.start`). Breaking out of the loop stops the generation.

    policy: what is done when the monitor speaks; a step that it acts on says so in `decision`, and those of a further
    generation ("ask again") have their `attempt`. on_step, on_alarm: called with each step, and each that alarms, by
    the thread that generates, between two tokens; what they raise ends the run and is raised by the iteration.
    on_token: likewise, with each token's number and the attempt that it is of; `vlm.pieces` makes text of them.
    on_unexplained: likewise, with what explaining a step failed with; the run then goes on without further steps, where
    it would end otherwise.

    Raises EstimatorMismatchError when the estimator (or monitor) was made for another model or other regions,
    InputError when the checkpoint generates in a way that cannot be attributed, or attention or logits are not finite,
    or a policy would make the same run again, StreamError when anything else fails while the model generates.

    See also: `trace`, `watch`, `follow`, `Policy`.

    >>> running = tk.stream(vlm, image, question, estimator=estimator, monitor=monitor, seed=1)
    >>> for step in running:
    ...     if step.index < 3:  # and the region that it rests on most
    ...         print(step.text, int(step.effects.argmax()), step.verdict.alarm)
    row 1 col 1 is red 2. 0 False
    row 3 col 1 is red 3. 9 False
    2 more than 3, no. 9 False
    >>> running.trace().answer
    '2'
    """
    watching = Watching(vlm, estimator, monitor, policy, task_set, form)
    watching.check()
    if regions is not None:
        estimator.check_regions(regions.method)
    sampling = Sampling(temperature, max_new_tokens, seed, top_p, top_k, stop_strings)
    sampling.arguments(vlm)  # so that a setting that is refused is so before anything runs
    if policy is not None and policy.on_alarm == "ask again" and not policy.hint and sampling.greedy(vlm):
        raise InputError(
            "greedy generation gives the same run every time, so asking again would make a copy; give the policy a "
            "hint, or ask for a temperature above 0."
        )
    prompt = vlm.prompt(image, question, messages)
    regions = regions or segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm)
    run = LiveRun(watching, prompt, regions)
    return Stream(_Run(watching, sampling, run, on_step, on_alarm, on_token, on_unexplained))
