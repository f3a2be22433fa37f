"""Explains finished steps of running generations: their effects, the monitor's verdict, what a policy makes of it."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.assemble import of_live
from trajkit.attribution.cores import let_go_of_cores
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.features import StepFeatures
from trajkit.attribution.recorder import FinishedStep, SeenRows
from trajkit.attribution.regions import Regions
from trajkit.errors import InputError, StreamError, TrajkitError
from trajkit.log import log_step
from trajkit.text import shortened
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM, Prompt

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor, Verdict
    from trajkit.detection.policies import Decision, Policy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveStep(Step):
    """A step as it comes out of a running model: a Step with its place, its effects (K,) in nats, and the verdict.

    delay: seconds from when its last token was seen until its effects were known. half_width: (K,) nats, measured
    effects lie within this of `effects` about nine times in ten; None when the estimator has no intervals. row: which
    of several runs that are generated together, 0 for a single one. attempt: which generation of the question, 0 for
    the first. decision: what the policy makes of this step, if anything.
    """

    index: int
    delay: float = 0.0
    effects: NDArray[np.float32]
    half_width: NDArray[np.float32] | None = None
    verdict: Verdict | None = None
    row: int = 0
    attempt: int = 0
    decision: Decision | None = None

    def __repr__(self) -> str:
        top = int(np.argmax(np.abs(self.effects))) if len(self.effects) else None
        strongest = "no effects" if top is None else f"{self.effects[top]:+.2f} nats in region {top}"
        risk = "" if self.verdict is None else f", risk {self.verdict.risk:.2f}"
        alarm = ", ALARM" if self.alarm else ""
        return f"LiveStep({self.index}, {self.kind}, {shortened(self.text)!r}: {strongest}{risk}{alarm})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.steps import live_step_html

        return live_step_html(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the decision, which is an event of its own."""
        return super().to_dict() | {
            "index": self.index,
            "delay": self.delay,
            "effects": self.effects.tolist(),
            "half_width": None if self.half_width is None else self.half_width.tolist(),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
            "row": self.row,
            "attempt": self.attempt,
        }


@dataclass(frozen=True, eq=False)
class Watching:
    """What runs are explained and judged by. policy: what is done when the monitor speaks; None for nothing."""

    vlm: VLM
    estimator: EffectEstimator
    monitor: Monitor | None = None
    policy: Policy | None = None
    task_set: str = ""
    form: str = ""

    def check(self) -> None:
        """Raises EstimatorMismatchError where a part was made for another model, InputError where one is no such part,
        or a policy waits for a monitor that is not there."""
        self._check_kinds()
        self.estimator.check(self.vlm.fingerprint, self.vlm.name)
        if self.monitor is not None:
            self.monitor.check(self.vlm.name, self.vlm.fingerprint)
        if self.policy is not None:
            self.policy.check(self.monitor, self.vlm.name, self.vlm.fingerprint)

    def _check_kinds(self) -> None:
        """Raises InputError for a folder's name in place of what is in it, and the like."""
        if not hasattr(self.vlm, "fingerprint"):
            get, own = _of_folder(self.vlm, "load_vlm(folder)"), hasattr(self.vlm, "generate")
            raise InputError(
                f"the model must be what {get} gives; got {type(self.vlm).__name__}."
                + " One of transformers is watched: tk.watch(model, processor, image, question, ...)." * own
            )
        for name, given, does, get in (
            ("estimator", self.estimator, "check", "EffectEstimator.load(folder)"),
            ("monitor", self.monitor, "start", "load_detectors(folder).monitor"),
            ("policy", self.policy, "start_run", 'Policy("stop")'),
        ):
            if not hasattr(given, does) and (given is not None or name == "estimator"):
                raise InputError(f"{name} must be what {_of_folder(given, get)} gives; got {type(given).__name__}.")


def _of_folder(given: Any, get: str) -> str:
    """A call that makes something of a folder, with the folder's name where that was given in its place."""
    return get.replace("folder", repr(str(given))) if isinstance(given, str | Path) else get


class LiveRun:
    """One generation under watch: what is asked, and what there is of it so far.

    steps: those explained. tokens: the generated ids so far. closed: whether the thinking span was closed. ended:
    whether the model ended it, or its limit of tokens; False while it runs, and where it was stopped before. attempt: 0
    for the first generation of a question. decision: the policy's, if it has come to one. abandoned: tokens of attempts
    before that were written and not kept. put: positions of tokens that a policy put there: a step of these alone is
    explained, and not judged, as the model has not chosen it.
    """

    def __init__(
        self,
        watching: Watching,
        prompt: Prompt,
        regions: Regions,
        row: int = 0,
        *,
        before: LiveRun | None = None,
        tokens: int = 0,
    ) -> None:
        """before: the attempt that this one follows; it goes on from its first `tokens`, the end of a step."""
        self.prompt, self.regions, self.row = prompt, regions, row
        self.attempt: int = before.attempt + 1 if before else 0
        self.tokens: list[int] = before.tokens[:tokens] if before else []
        self.steps: list[LiveStep] = [step for step in before.steps if step.token_end <= tokens] if before else []
        self.put: set[int] = {position for position in before.put if position < tokens} if before else set()
        self.abandoned: int = before.abandoned + len(before.tokens) - tokens if before else 0
        self.closed = self.ended = False
        self.sampling = Sampling()
        self.decision: Decision | None = None
        self._earlier = before.decisions if before else []
        self._watching, self._id = watching, uuid.uuid4().hex
        task = watching.task_set, watching.form
        self._features = StepFeatures(regions, prompt, watching.estimator.binding.pooling)
        self._monitor = watching.monitor.start(*task) if watching.monitor else None
        self._policy = watching.policy.start_run(*task, self.attempt) if watching.policy else None
        for step in filter(self._is_own, self.steps):
            if self._monitor is not None:
                self._monitor.update(step)
            if self._policy is not None:
                self._policy.update(step)

    def again(self, tokens: int) -> LiveRun:
        """The next attempt, which goes on from the first tokens of this one, the end of a step."""
        return LiveRun(self._watching, self.prompt, self.regions, self.row, before=self, tokens=tokens)

    def _is_own(self, step: LiveStep) -> bool:
        """Whether the model chose any of its tokens."""
        return not self.put.issuperset(range(step.token_start, step.token_end))

    @property
    def decisions(self) -> list[Decision]:
        """Of the policy, at most one in each attempt: those of the attempts before, and this one's."""
        return [*self._earlier, *([self.decision] if self.decision else [])]

    @property
    def held_bytes(self) -> int:
        """Memory that its features take, bytes, and took for a moment in the latest step."""
        return self._features.nbytes + self._features.working_bytes

    def read(self, item: SeenRows) -> None:
        """Take rows that predict no step."""
        self._features.read(item.rows, item.tap.keys(item.end, item.sequence), item.tap.scaling)

    def measure(self, item: FinishedStep) -> Tensor:
        """(K, F) features of the step, for `explain`. Steps and rows come in their order."""
        logprob, entropy, n_tokens = item.logprob.mean(), item.entropy.mean(), item.span.end - item.span.start
        return self._features.push(
            item.rows,
            item.tap.keys(item.end, item.sequence),
            item.tap.scaling,
            n_tokens,
            (logprob, entropy, torch.tensor(n_tokens, device=logprob.device)),
        )

    def explain(self, item: FinishedStep, features: Tensor) -> LiveStep:
        """The step with its effects, verdict and decision; it is added to `steps`. Steps come in their order."""
        span = item.span
        effects, half_width = self._watching.estimator.predict_interval(features.cpu().numpy())
        live = LiveStep(
            text=item.text,
            kind=span.kind,
            token_start=span.start,
            token_end=span.end,
            logprob=float(item.logprob.mean()),
            entropy=float(item.entropy.mean()),
            seconds=item.seconds,
            index=len(self.steps),
            delay=time.perf_counter() - item.seen_at,
            effects=effects,
            half_width=half_width,
            row=self.row,
            attempt=self.attempt,
        )
        own = self._is_own(live)
        if self._monitor is not None and own:
            verdict = self._monitor.update(live)
            live = replace(live, verdict=verdict, risk=verdict.risk, alarm=verdict.alarm)
        if self._policy is not None and own and (decision := self._policy.update(live)) is not None:
            live = replace(live, decision=decision)
            self.decision = decision
        self.steps.append(live)
        log_step(_log, live)
        return live

    def trace(self, *, target: str | None = None, group_id: str | None = None) -> Trace:
        """What there is of the run as a Trace; where it has not ended, without answer and `meta["stopped"]` is true.

        Steps keep the monitor's risk and alarm, and effects their half widths, where there were any. In `meta` stand
        the policy's `decisions`, and of an attempt after the first its number, `attempt`, and the tokens `abandoned` by
        those before. target: the right answer, by which the run is judged. group_id: the image's hash by
        default.
        """
        watching = self._watching
        return of_live(
            self,
            watching.vlm,
            watching.estimator,
            run_id=self._id,
            target=target,
            group_id=group_id,
            task_set=watching.task_set,
            form=watching.form,
            monitor=watching.monitor,
        )


class Explainer:
    """A thread that explains steps in the order in which they are `put`, of which any number may wait.

    On a GPU it does all of that. On the CPU a generation leaves no core free: attention is read where the step is put,
    with all cores between two tokens, as the thread would hold one back from them for four times as long. What is left
    for the thread is little. What it fails with is kept in `error`, and no step is explained after that.
    """

    def __init__(self, vlm: VLM, emit: Callable[[LiveStep], None] = lambda step: None) -> None:
        """emit: called in the thread with each step as soon as it is explained."""
        self._beside = vlm.model.device.type != "cpu"
        self._inbox: Queue[tuple[SeenRows, Tensor | None] | None] = Queue()
        self.error: BaseException | None = None
        self.max_backlog = 0
        """Most steps that ever waited."""
        self.held_bytes = 0
        """Most memory that rows and features held at once, bytes."""
        self._emit, self._made = emit, deque[LiveStep]()
        self.thread = Thread(target=self._explain, daemon=True)

    def put(self, item: SeenRows) -> None:
        """Take the next rows, or the next step."""
        features = None
        if not self._beside:
            if self.error is not None:
                return
            try:
                features = self._measure(item)
            except Exception as error:
                self.error = error
                return
        if self._beside or features is not None:
            self._inbox.put_nowait((item, features))

    def made(self) -> Sequence[LiveStep]:
        """Steps explained since the last call, in order; does not wait."""
        return [self._made.popleft() for _ in range(len(self._made))]

    def flush(self) -> None:
        """Wait until all that was put in is explained, or will not be because of an error."""
        self._inbox.join()

    def close(self) -> None:
        """End the thread once it has explained what was put in, and wait for it. What it failed with is let go of, as
        that refers to the keys of the run."""
        self._inbox.put(None)
        if self.thread is not current_thread() and self.thread.ident is not None:
            self.thread.join()
            self.error = None

    def check(self) -> None:
        """Raise what the thread failed with: an error of trajkit as it is, another as StreamError."""
        error = self.error
        if error is None:
            return
        try:
            if isinstance(error, TrajkitError) or not isinstance(error, Exception):
                raise error
            raise StreamError(f"the run was stopped by {type(error).__name__}: {error}") from error
        finally:
            del error  # which would hold itself, by this frame, and the run's keys

    @torch.inference_mode()
    def _measure(self, item: SeenRows) -> Tensor | None:
        """Read the attention of rows; the features where they predict a step."""
        features = None
        if isinstance(item, FinishedStep):
            features = item.run.measure(item)
        else:
            item.run.read(item)
        waiting = item.rows.nbytes * (1 + self._inbox.qsize())
        self.held_bytes = max(self.held_bytes, waiting + item.run.held_bytes)
        return features

    def _explain(self) -> None:
        while (put := self._inbox.get()) is not None:
            try:
                if self.error is None:
                    self._take(*put)
            except BaseException as error:
                self.error = error
            finally:
                let_go_of_cores()
                self._inbox.task_done()
                del put

    def _take(self, item: SeenRows, features: Tensor | None) -> None:
        waiting = self._inbox.qsize()
        if features is None:
            features = self._measure(item)
        if features is not None and isinstance(item, FinishedStep):
            self.max_backlog = max(self.max_backlog, waiting)
            step = item.run.explain(item, features)
            self._made.append(step)
            self._emit(step)
