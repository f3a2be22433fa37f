"""Attribute on a Ray cluster: a replica of the model on each worker, a few runs at a time.

Runs are handed out in the portions that one process would take, so that the effects are the same. A replica that dies
is replaced; the runs that it had are tried again, together, then each alone on a replica that has nothing else, and
those at which one dies again are set aside. (What a replica has just done is lost when it dies before the answer has
left, so of two runs on one replica it could not be said at which it died.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trajkit.aside import aside
from trajkit.attribution.ablation import Ablation
from trajkit.attribution.attribute import RunAside, attribute, how_to
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.written import BATCH
from trajkit.errors import InputError, TrajkitError
from trajkit.fingerprints import ModelId
from trajkit.ray_cluster import connected
from trajkit.traces.trace import Trace

if TYPE_CHECKING:
    from trajkit.vlm.model import VLM

_AT_ONCE = 2
"""Portions that a replica has, the one it works on included, so that it never waits for the next."""
_AHEAD = 3
"""Portions for each replica that are read from the source before the first of them is done."""
_TRIES = 3
"""Times that a run is tried, together with others or alone."""
_MOST_FAILURES = 10
"""Portions that may fail without a result in between: more, and it is not for the runs."""

Read = list[tuple[str, Trace | str]]
"""What came of each run, by its id: the run with its effects, or why it has none."""


class _Replica:
    """A model on a worker."""

    def __init__(self, source: str, name: str, system: str | None) -> None:
        """name: the model's as traces have it, whatever its folder is called on this machine."""
        self._source, self._name, self._system = source, name, system

    @cached_property
    def _vlm(self) -> VLM:
        from trajkit.vlm.load import load_vlm

        return replace(load_vlm(self._source, system=self._system), name=self._name)

    def model(self) -> ModelId:
        return ModelId(self._vlm.name, self._vlm.fingerprint)

    def made_by(self, estimator: EffectEstimator | None, ablation: Ablation | None) -> dict[str, Any]:
        return dict(how_to(self._vlm, estimator, ablation).made_by)

    def read(
        self, runs: Sequence[Trace], estimator: EffectEstimator | None, ablation: Ablation | None, batch_size: int
    ) -> Read:
        found: Read = []
        for run in attribute(
            self._vlm,
            runs,
            estimator=estimator,
            measured=ablation is not None,
            ablation=ablation or "mean",
            batch_size=batch_size,
            set_aside=lambda trace, error: found.append((trace.transcript_id, str(error))),
        ):
            found.append((run.transcript_id, run))
        return found


@dataclass(eq=False)
class _Portion:
    """Runs that one process would read together. found: what came of them so far."""

    runs: list[Trace]
    found: dict[str, Trace | str] = field(default_factory=dict)


@dataclass(eq=False)
class _Task:
    """Runs of a portion that a replica is given together. tries: how often that failed."""

    portion: _Portion
    runs: list[Trace]
    tries: int = 0

    @property
    def is_last_try(self) -> bool:
        return self.tries == _TRIES - 1


@dataclass(eq=False)
class _Worker:
    """actor: the replica. has: the tasks it was given, in order, by what stands for their results."""

    actor: Any
    has: dict[Any, _Task] = field(default_factory=dict)

    def takes(self, task: _Task) -> bool:
        """Whether it can be given `task` now: a last try has a replica for itself."""
        if any(has.is_last_try for has in self.has.values()):
            return False
        return len(self.has) < (1 if task.is_last_try else _AT_ONCE)


class Replicas:
    """`workers` replicas of a model on a cluster."""

    def __init__(
        self, source: str, *, system: str | None = None, workers: int | None = None, address: str | None = None
    ) -> None:
        """source: a checkpoint folder, which every node must have at this path, or a hub id. workers: how many, at most
        as many as GPUs, or cores where there are none; as many as GPUs by default, or one. address: of a cluster; one
        of this machine by default.

        Raises InputError where Ray is not installed, and what loading the model raises.
        """
        self._ray = connected(address, workers)
        has = self._ray.cluster_resources()
        gpus, cpus = int(has.get("GPU", 0)), max(int(has.get("CPU", 1)), 1)
        n = min(workers or max(gpus, 1), gpus or cpus)  # one without a place would wait for ever
        share = {"num_gpus": 1} if gpus else {"num_cpus": cpus // n}
        self._class = self._ray.remote(**share)(_Replica)
        folder = Path(source)
        self._of = (str(folder.resolve()) if folder.is_dir() else source, source, system)
        self._workers = [_Worker(self._class.remote(*self._of)) for _ in range(n)]
        self._failures = 0
        self.model: ModelId = self._get(self._workers[0].actor.model.remote())
        """Which model they are."""

    def made_by(self, estimator: EffectEstimator | None, ablation: Ablation | None) -> dict[str, Any]:
        """As `how_to` says. Raises as that does."""
        found: dict[str, Any] = self._get(self._workers[0].actor.made_by.remote(estimator, ablation))
        return found

    def _get(self, ref: Any) -> Any:
        """A result; an error of trajkit that a replica raised is raised here."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            raise _cause(error) from None

    def attribute(
        self,
        traces: Iterable[Trace],
        *,
        estimator: EffectEstimator | None = None,
        ablation: Ablation | None = None,
        batch_size: int = BATCH,
        set_aside: RunAside | None = None,
    ) -> Iterator[Trace]:
        """As `attribute.attribute`, in the same order; ablation: measure the effects by it. A few portions for each
        replica are held here, no more.

        Raises InputError where replicas fail again and again whatever they read.
        """
        how = (self._ray.put(estimator), ablation, batch_size)
        rest, order, tasks = iter(traces), deque[_Portion](), deque[_Task]()
        while True:
            while len(order) < _AHEAD * len(self._workers) and (runs := list(islice(rest, batch_size))):
                order.append(_Portion(runs))
                tasks.append(_Task(order[-1], runs))
            if not order:
                return
            self._hand_out(tasks, how)
            while order and len(order[0].found) == len(order[0].runs):
                yield from _results(order.popleft(), set_aside)
            if order:
                self._take_one(tasks)

    def _hand_out(self, tasks: deque[_Task], how: tuple[Any, ...]) -> None:
        """Give tasks, in order, to the replicas that have the fewest."""
        while tasks and (free := [worker for worker in self._workers if worker.takes(tasks[0])]):
            least, task = min(free, key=lambda worker: len(worker.has)), tasks.popleft()
            least.has[least.actor.read.remote(task.runs, *how)] = task

    def _take_one(self, tasks: deque[_Task]) -> None:
        """Wait for a result. Where there is an error in its place, its runs go back to `tasks`, or are given up."""
        refs = {ref: worker for worker in self._workers for ref in worker.has}
        (ready,), _ = self._ray.wait(list(refs), num_returns=1)
        worker = refs[ready]
        try:
            found = self._ray.get(ready)
        except self._ray.exceptions.RayTaskError as error:
            self._count_failure(_said(error))
            _try_again(worker.has.pop(ready), tasks, f"it failed with {_said(error)}")
        except self._ray.exceptions.RayError as error:
            self._count_failure(_said(error))
            self._replace(worker, tasks, _said(error))
        else:
            self._failures = 0
            worker.has.pop(ready).portion.found.update(found)

    def _count_failure(self, why: str) -> None:
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            raise InputError(
                f"replicas of the model failed {self._failures} times one after the other, whatever they read: {why}."
            )

    def _replace(self, worker: _Worker, tasks: deque[_Task], why: str) -> None:
        """Take another replica in place of one that died. What it worked on is tried again, what waited there goes to
        others."""
        had, worker.has = worker.has, {}
        self._ray.kill(worker.actor)
        worker.actor = self._class.remote(*self._of)
        back: list[_Task] = []
        for ref, task in had.items():
            try:
                task.portion.found.update(self._ray.get(ref))
            except self._ray.exceptions.RayError:
                back.append(task)
        tasks.extendleft(reversed(back[1:]))
        if back:
            _try_again(back[0], tasks, f"the worker that read it died: {why}")

    def close(self) -> None:
        """Let the replicas go."""
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _try_again(task: _Task, tasks: deque[_Task], why: str) -> None:
    """Put the runs of a task that failed where they are next; those that were tried enough are given up."""
    task.tries += 1
    if task.tries < _TRIES - 1 or (len(task.runs) == 1 and task.tries < _TRIES):
        tasks.appendleft(task)
    elif len(task.runs) > 1:
        tasks.extendleft(_Task(task.portion, [run], task.tries) for run in reversed(task.runs))
    else:
        task.portion.found[task.runs[0].transcript_id] = f"{why}, and it was alone there. Look at it in one process"


def _results(portion: _Portion, set_aside: RunAside | None) -> Iterator[Trace]:
    for run in portion.runs:
        found = portion.found[run.transcript_id]
        with aside(run, set_aside):
            if isinstance(found, str):
                raise InputError(found)
            yield found


def _said(error: Any) -> str:
    cause = getattr(error, "cause", None) or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


def _cause(error: Any) -> Exception:
    """What a replica raised, as one process would raise it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, TrajkitError):
        return cause
    return InputError(f"no replica of the model could be made: {_said(error)}")
