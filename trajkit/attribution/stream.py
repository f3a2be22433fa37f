"""Stream: effects of every reasoning step while the model is still generating.

A producer thread runs `generate()`; a worker thread turns each finished step into effects. The producer hands steps
over through a queue without a bound, so it never waits; an error in the worker stops the
generation and is raised at the caller.
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from queue import Queue
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StoppingCriteria

from trajkit.attribution.assemble import of_stream
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.features import StepFeatures
from trajkit.attribution.recorder import FinishedStep, StepRecorder
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.tap import AttentionTap
from trajkit.errors import StreamError, TrajkitError
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.canvas import Images
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.model import VLM, Prompt

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor, Verdict

_PATIENCE = 0.1
"""Seconds between looks at whether a run that waits for the model was stopped."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveStep(Step):
    """A step as it comes out of a running model: a Step with its place, its effects (K,) in nats, and the verdict.

    delay: seconds from when its last token was seen until its effects were known. half_width: (K,) nats, measured
    effects lie within this of `effects` about nine times in ten; None when the estimator has no intervals.
    """

    index: int
    delay: float = 0.0
    effects: NDArray[np.float32]
    half_width: NDArray[np.float32] | None = None
    verdict: Verdict | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return super().to_dict() | {
            "index": self.index,
            "delay": self.delay,
            "effects": self.effects.tolist(),
            "half_width": None if self.half_width is None else self.half_width.tolist(),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
        }


class Stream(Iterator[LiveStep]):
    """A running generation, to be iterated once. Made by `stream`.

    Leaving the loop early stops the generation, at its next token, once nothing refers to the Stream any more; `close`
    stops it now, and waits until it has stopped. So does an interrupt (Ctrl-C) while a step is waited for.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        weakref.finalize(self, run.stop).atexit = False  # the threads refer to the run, and nothing in it to this

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> LiveStep:
        return self._run.next()

    def close(self) -> None:
        """Stop generating. Safe to call at any time; steps already finished can still be read."""
        self._run.close()

    def trace(self, *, target: str | None = None, group_id: str | None = None) -> Trace:
        """The run as a Trace, without generating again: of a stream that has ended, or of what there is of one that has
        not, which is stopped first (then `meta["stopped"]` is true, and there is no answer).

        Steps keep the monitor's risk and alarm, and effects their half widths, where there were any. target: the right
        answer, by which the run is judged. group_id: the image's hash by default. The steps may have been read or not.
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
        """The generated ids; empty until the generation has ended."""
        return self._run.tokens

    @property
    def closed(self) -> bool:
        """Whether the thinking span was closed; False until the generation has ended."""
        return self._run.closed

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
        vlm: VLM,
        prompt: Prompt,
        regions: Regions,
        estimator: EffectEstimator,
        monitor: Monitor | None,
        sampling: Sampling,
        task_set: str,
        form: str,
    ) -> None:
        self.prompt, self.regions = prompt, regions
        self.tokens: list[int] = []
        self.closed = False
        self.max_backlog = 0
        self.held_bytes = 0
        self._vlm, self._estimator, self._sampling = vlm, estimator, sampling
        self._task = {"task_set": task_set, "form": form}
        self._made: list[LiveStep] = []
        self._ended = False
        self._watch = monitor.start(task_set, form) if monitor else None
        self._features = StepFeatures(regions, prompt, estimator.binding.pooling)
        self._finished: Queue[FinishedStep | None] = Queue()
        self._out: Queue[LiveStep | BaseException | None] = Queue()
        self._stopped = False
        self._threads = [Thread(target=work, daemon=True) for work in (self._explain, self._produce)]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException as error:
            self._finished.put(None)  # the worker waits for it, where there is no producer to send it
            self.close()
            if isinstance(error, RuntimeError):
                raise StreamError(f"the run could not begin: {error}. Close other streams, or programs.") from error
            raise
        _running.add(self)

    def next(self) -> LiveStep:
        """The next step; raises what a thread raised, StopIteration at the end. Ctrl-C stops the run."""
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
        if isinstance(item, TrajkitError) or not isinstance(item, Exception):
            raise item
        raise StreamError(f"the run was stopped by {type(item).__name__}: {item}") from item

    def stop(self) -> None:
        """Have the generation end after its next token.

        Nothing but a flag is set: the garbage collector may call this at any point of any thread, also of the two here
        and also where a lock is held, so that to wait for a thread or a lock would be to wait for ever.
        """
        self._stopped = True

    def close(self) -> None:
        """Stop, and wait for the threads."""
        self.stop()
        for thread in self._threads:
            if thread is not current_thread() and thread.ident is not None:
                thread.join()

    def trace(self, target: str | None, group_id: str | None) -> Trace:
        """As `Stream.trace`."""
        self.close()
        return of_stream(
            self._vlm,
            self.prompt,
            self.regions,
            self._estimator,
            self._sampling,
            self._made,
            closed=self.closed and self._ended,
            stopped=not self._ended,
            target=target,
            group_id=group_id,
            **self._task,
        )

    def _produce(self) -> None:
        try:
            while not self._vlm.lock.acquire(timeout=_PATIENCE):  # another run of this model
                if self._stopped:
                    return
            try:
                self._generate()
            finally:
                self._vlm.lock.release()
        except BaseException as error:
            self._out.put(error)
        finally:
            self._finished.put(None)

    @torch.inference_mode()
    def _generate(self) -> None:
        with AttentionTap(self._vlm, self.prompt.first_row) as tap:
            recorder = StepRecorder(self._vlm, tap, self.prompt, self._finished)
            with recorder.seeing_logits():
                (self.tokens,) = generate(
                    self._vlm, self.prompt.inputs, self._sampling, watching=[recorder], stopping=[_StopOn(self)]
                )
            self._ended = not self._stopped
            recorder.finish(self.tokens)
            self.closed = recorder.splitter.closed

    @torch.inference_mode()
    def _explain(self) -> None:
        index = 0
        try:
            while (item := self._finished.get()) is not None:
                self.max_backlog = max(self.max_backlog, self._finished.qsize())
                waiting = item.rows.nbytes * (1 + self._finished.qsize())
                self._made.append(self._live_step(index, item))
                self._out.put(self._made[-1])
                held = waiting + self._features.nbytes + self._features.working_bytes
                self.held_bytes = max(self.held_bytes, held)
                index += 1
        except BaseException as error:
            self.stop()
            self._out.put(error)
        self._out.put(None)

    def _live_step(self, index: int, item: FinishedStep) -> LiveStep:
        span = item.span
        logprob, entropy = torch.stack(item.logprob).mean(), torch.stack(item.entropy).mean()
        n_tokens = span.end - span.start
        features = self._features.push(
            item.rows,
            item.tap.keys(span.end + self.prompt.length - 1),
            item.tap.scaling,
            n_tokens,
            (logprob, entropy, torch.tensor(n_tokens, device=logprob.device)),
        )
        effects, half_width = self._estimator.predict_interval(features.cpu().numpy())
        live = LiveStep(
            text=item.text,
            kind=span.kind,
            token_start=span.start,
            token_end=span.end,
            logprob=float(logprob),
            entropy=float(entropy),
            seconds=item.seconds,
            index=index,
            delay=time.perf_counter() - item.seen_at,
            effects=effects,
            half_width=half_width,
        )
        if self._watch is None:
            return live
        verdict = self._watch.update(live)
        return replace(live, verdict=verdict, risk=verdict.risk, alarm=verdict.alarm)


class _StopOn(StoppingCriteria):
    def __init__(self, run: _Run) -> None:
        self._run = run

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._run._stopped, device=input_ids.device)


_running: WeakSet[_Run] = WeakSet()


@atexit.register
def _close_all() -> None:
    """End every run before the interpreter does: torch does not survive to be cut off in a thread."""
    for run in list(_running):
        run.close()


def stream(
    vlm: VLM,
    image: Images,
    question: str,
    *,
    estimator: EffectEstimator,
    monitor: Monitor | None = None,
    regions: Regions | None = None,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    task_set: str = "",
    form: str = "",
) -> Stream:
    """Generate, and yield each reasoning step with its effects (and the monitor's verdict) as soon as it is finished.

    regions: as from `segment` with the method that the estimator was trained on; made so by default. temperature:
    None for the model's own setting, 0 for greedy. task_set, form: the question's family and form, where known; only a
    monitor that reads the task asks for them (`Monitor.start`). Breaking out of the loop stops the generation.
    Raises EstimatorMismatchError when the estimator (or monitor) was made for another model or other regions,
    InputError when the checkpoint generates in a way that cannot be attributed, or attention or logits are not finite,
    StreamError when anything else fails while the model generates.
    """
    estimator.check(vlm.fingerprint, vlm.name)
    if regions is not None:
        estimator.check_regions(regions.method)
    if monitor is not None:
        monitor.check(vlm.name, vlm.fingerprint)
    sampling = Sampling(temperature, max_new_tokens, seed)
    sampling.arguments(vlm)  # so that a setting that is refused is so before anything runs
    prompt = vlm.prepare(image, question)
    regions = regions or segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm)
    return Stream(_Run(vlm, prompt, regions, estimator, monitor, sampling, task_set, form))
