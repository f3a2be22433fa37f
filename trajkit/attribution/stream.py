"""Stream: effects of every reasoning step while the model is still generating.

A producer thread runs `generate()`; a worker thread turns each finished step into effects. The producer hands steps
over through a queue that holds as many as a run can have, so it never waits; an error in the worker stops the
generation and is raised at the caller.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StoppingCriteria

from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.features import StepFeatures
from trajkit.attribution.recorder import FinishedStep, StepRecorder
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.tap import AttentionTap
from trajkit.errors import InputError, StreamError
from trajkit.traces.trace import Step
from trajkit.vlm.canvas import Images
from trajkit.vlm.logits import TextLogits
from trajkit.vlm.model import VLM, Prompt

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor, Verdict

DEFAULT_NEW_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class LiveStep(Step):
    """A step as it comes out of a running model: a Step with its place, its effects (K,) in nats, and the verdict.

    delay: seconds from when its last token was seen until its effects were known. half_width: (K,) nats, measured
    effects lie within this of `effects` about nine times in ten; None when the estimator has no intervals.
    """

    index: int = 0
    delay: float = 0.0
    effects: NDArray[np.float32] = None  # type: ignore[assignment]
    half_width: NDArray[np.float32] | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Sampling:
    """How to generate. temperature: None for the model's own setting, 0 for greedy. seed: None for no seeding."""

    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None

    def check(self, vlm: VLM, samples: int) -> None:
        """Raise InputError when several samples are asked for and the most likely token is taken every time."""
        greedy = self.temperature == 0 or (self.temperature is None and not vlm.model.generation_config.do_sample)
        if greedy and samples > 1:
            raise InputError(
                f"greedy generation gives the same run every time, so {samples} samples would be copies of one; "
                "ask for one sample, or for a temperature above 0."
            )

    def arguments(self, vlm: VLM) -> dict[str, Any]:
        """Keyword arguments for `generate`."""
        own = vlm.model.generation_config.max_new_tokens
        chosen: dict[str, Any] = {"max_new_tokens": self.max_new_tokens or own or DEFAULT_NEW_TOKENS}
        if self.temperature is not None:
            greedy = self.temperature == 0
            chosen |= {"do_sample": False} if greedy else {"do_sample": True, "temperature": self.temperature}
        return chosen


class Stream(Iterator[LiveStep]):
    """A running generation, to be iterated once. Made by `stream`.

    Leaving the loop early stops the generation as soon as nothing refers to the Stream any more; `close` stops it now.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        weakref.finalize(self, run.close)  # the threads refer to the run, and nothing in it to this

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> LiveStep:
        return self._run.next()

    def close(self) -> None:
        """Stop generating. Safe to call at any time; steps already finished can still be read."""
        self._run.close()

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
        self, vlm: VLM, prompt: Prompt, regions: Regions, estimator: EffectEstimator, monitor: Monitor | None,
        sampling: Sampling,
    ) -> None:  # fmt: skip
        self.prompt, self.regions = prompt, regions
        self.tokens: list[int] = []
        self.closed = False
        self.max_backlog = 0
        self.held_bytes = 0
        self._vlm, self._estimator, self._sampling = vlm, estimator, sampling
        self._watch = monitor.start() if monitor else None
        self._features = StepFeatures(regions, prompt, estimator.binding.pooling)
        limit = sampling.arguments(vlm)["max_new_tokens"] + 2
        self._finished: Queue[FinishedStep | None] = Queue(limit)
        self._out: Queue[LiveStep | BaseException | None] = Queue()
        self._stop = Event()
        self._threads = [Thread(target=work, daemon=True) for work in (self._produce, self._explain)]
        for thread in self._threads:
            thread.start()

    def next(self) -> LiveStep:
        """The next step; raises what a thread raised, StopIteration at the end."""
        item = self._out.get()
        if isinstance(item, LiveStep):
            return item
        self.close()
        self._out.put(None)
        if item is None:
            raise StopIteration
        if isinstance(item, InputError) or not isinstance(item, Exception):
            raise item
        raise StreamError(f"the run was stopped by {type(item).__name__}: {item}") from item

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread is not current_thread():
                thread.join()

    @torch.inference_mode()
    def _produce(self) -> None:
        try:
            with (
                AttentionTap(self._vlm, self.prompt.first_row) as tap,
                torch.random.fork_rng(enabled=self._sampling.seed is not None),
            ):
                if self._sampling.seed is not None:
                    torch.manual_seed(self._sampling.seed)
                recorder = StepRecorder(self._vlm, tap, self.prompt, self._finished)
                with recorder.seeing_logits():
                    output = self._vlm.model.generate(
                        **self.prompt.inputs,
                        **self._sampling.arguments(self._vlm),
                        logits_processor=[TextLogits(self._vlm), recorder],
                        stopping_criteria=[_StopOn(self._stop)],
                    )
                self.tokens = output[0, self.prompt.length :].tolist()
                recorder.finish(self.tokens)
                self.closed = recorder.splitter.closed
        except BaseException as error:
            self._out.put(error)
        finally:
            self._finished.put(None)

    @torch.inference_mode()
    def _explain(self) -> None:
        index = 0
        try:
            while (item := self._finished.get()) is not None:
                self.max_backlog = max(self.max_backlog, self._finished.qsize())
                waiting = sum(query.nbytes for query in item.queries) * (1 + self._finished.qsize())
                self._out.put(self._live_step(index, item))
                held = waiting + self._features.nbytes + self._features.working_bytes
                self.held_bytes = max(self.held_bytes, held)
                index += 1
        except BaseException as error:
            self._stop.set()
            self._out.put(error)
        self._out.put(None)

    def _live_step(self, index: int, item: FinishedStep) -> LiveStep:
        span = item.span
        logprob, entropy = torch.stack(item.logprob).mean(), torch.stack(item.entropy).mean()
        n_tokens = span.end - span.start
        features = self._features.push(
            [q[0] for q in item.queries], [k[0] for k in item.tap.keys(span.end + self.prompt.length - 1)],
            item.tap.scaling, n_tokens,
            (logprob, entropy, torch.tensor(n_tokens, device=logprob.device)),
        )  # fmt: skip
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
        if self._watch is not None:
            object.__setattr__(live, "verdict", self._watch.update(live))
        return live


class _StopOn(StoppingCriteria):
    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)


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
) -> Stream:
    """Generate, and yield each reasoning step with its effects (and the monitor's verdict) as soon as it is finished.

    regions: as from `segment` with the method that the estimator was trained on; made so by default. temperature:
    None for the model's own setting, 0 for greedy. Breaking out of the loop stops the generation.
    Raises EstimatorMismatchError when the estimator (or monitor) was made for another model or other regions,
    InputError when attention or logits are not finite, StreamError when anything else fails while the model generates.
    """
    estimator.check(vlm.fingerprint, vlm.name)
    if regions is not None:
        estimator.check_regions(regions.method)
    if monitor is not None:
        monitor.check(vlm.name, vlm.fingerprint)
    prompt = vlm.prepare(image, question)
    regions = regions or segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm)
    return Stream(_Run(vlm, prompt, regions, estimator, monitor, Sampling(temperature, max_new_tokens, seed)))
