"""From generations that are written to Traces: cut into steps, replayed together, explained.

`collect` makes them here and now, another server or another day made those of `explain_written`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from trajkit.aside import aside
from trajkit.attribution.assemble import assemble
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.features import Pooling
from trajkit.attribution.item import Item, Judge, SetAside, judge_by_target
from trajkit.attribution.packed import ROWS_AT_ONCE
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.replay import Cut, Replay, replay_together
from trajkit.errors import InputError, untraced
from trajkit.traces.images import to_png
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Split, split_steps

BATCH = 32
"""Generations that share a pass, most."""
_PICTURES = 64
"""Pictures whose regions are remembered."""


@dataclass(frozen=True, eq=False)
class Written:
    """A generation. tokens: its ids, the first being the one after `prompt`. facts: more for the `meta` of its Trace,
    which stand above the item's own. split: its steps, where they are known."""

    item: Item
    repeat: int
    tokens: Sequence[int]
    prompt: Prompt
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None

    @property
    def id(self) -> str:
        """Its transcript_id."""
        return f"{self.item.id}-{self.repeat}"


AnyWritten = TypeVar("AnyWritten", bound=Written)


@dataclass(frozen=True, eq=False)
class Explained:
    """A generation with its steps. effects: (T, K) nats. closed: whether its thinking span was. hidden: (T, h) where
    they were asked for."""

    steps: tuple[Step, ...]
    effects: NDArray[np.float32]
    regions: Regions
    closed: bool
    hidden: NDArray[np.float32] | None = None


class Pictures:
    """Regions and PNG of what prompts show; those of the latest are kept, as runs of one image come together."""

    def __init__(self, vlm: VLM, method: str) -> None:
        """method: of the regions, as for `segment`."""
        self.method = method
        self._vlm = vlm
        self._regions = OrderedDict[str, Regions]()
        self._pngs = OrderedDict[str, bytes]()

    def regions(self, prompt: Prompt) -> Regions:
        name = _name(prompt)
        if name not in self._regions:
            _keep(self._regions, name, segment(prompt.canvas.images, self.method, vlm=self._vlm))
        return self._regions[name]

    def png(self, prompt: Prompt) -> bytes:
        """Of all its images, side by side."""
        name = _name(prompt)
        if name not in self._pngs:
            _keep(self._pngs, name, to_png(prompt.canvas.picture))
        return self._pngs[name]


def _name(prompt: Prompt) -> str:
    """What prompts about the same images share."""
    digest = hashlib.sha256()
    for image in prompt.canvas.images:
        digest.update(f"\0{image.mode} {image.size}".encode() + image.tobytes())
    return digest.hexdigest()


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    if len(kept) > _PICTURES:
        kept.popitem(last=False)


def explain_written(
    vlm: VLM,
    runs: Iterable[Written],
    *,
    estimator: EffectEstimator,
    made_by: Mapping[str, Any],
    judge: Judge = judge_by_target,
    keep_hidden: bool = False,
    batch_size: int = BATCH,
    set_aside: SetAside | None = None,
    pictures: Pictures | None = None,
) -> Iterator[Trace]:
    """The Traces of generations, in order, with estimated effects; those without any step are left out.

    made_by: settings for `meta` (`assemble.settings`). keep_hidden: as for `collect`. batch_size: generations that
    share a pass, most. set_aside: called for the item of a run that cannot be explained, and the others go on; where
    there is none, InputError is raised. pictures: to share among calls. Raises EstimatorMismatchError when the
    estimator was made for another model.
    """
    estimator.check(vlm.fingerprint, vlm.name)
    pictures = pictures or Pictures(vlm, estimator.binding.region_method)
    for some in passes(runs, batch_size):
        found = explain(vlm, some, pictures, estimated(estimator), estimator.binding.pooling, keep_hidden)
        for run, explained in zip(some, found, strict=True):
            with aside(run.item, set_aside):
                if (trace := trace_of(vlm, run, explained, pictures, made_by, judge)) is not None:
                    yield trace


def passes(runs: Iterable[AnyWritten], batch_size: int = BATCH) -> Iterator[list[AnyWritten]]:
    """Runs that share a pass: `batch_size` at most, and as many tokens as one takes."""
    some: list[AnyWritten] = []
    rows = 0
    for run in runs:
        own = run.prompt.length + len(run.tokens)
        if some and (len(some) == batch_size or rows + own > ROWS_AT_ONCE):
            yield some
            some, rows = [], 0
        some.append(run)
        rows += own
    if some:
        yield some


EffectsOf = Callable[[Cut, Replay], NDArray[Any]]
"""What gives the effects of a run's steps, (T, K) nats."""


def estimated(estimator: EffectEstimator) -> EffectsOf:
    """Effects by an estimator, from the features that it reads."""
    return lambda cut, seen: estimator.predict(seen.features)


def explain(
    vlm: VLM,
    runs: Sequence[Written],
    pictures: Pictures,
    effects_of: EffectsOf,
    pooling: Pooling = "sum",
    keep_hidden: bool = False,
) -> list[Explained | InputError]:
    """Steps and effects of runs, read together; an error in place of those of a run that cannot be explained."""
    cut = [_cut(vlm, run, pictures) for run in runs]
    readable = [one[0] for one in cut if not isinstance(one, InputError) and one[0].spans]
    replays = replay_together(vlm, readable, pooling, keep_hidden)
    return [one if isinstance(one, InputError) else _explained(*one, replays, effects_of) for one in cut]


def _cut(vlm: VLM, run: Written, pictures: Pictures) -> tuple[Cut, Split] | InputError:
    split = run.split or split_steps(run.tokens, vlm)
    try:
        regions = pictures.regions(run.prompt)
    except InputError as error:
        return untraced(error)
    return Cut(run.prompt, torch.tensor(run.tokens, device=vlm.model.device), split.spans, regions), split


def _explained(
    cut: Cut, split: Split, replays: Iterator[Replay | InputError], effects_of: EffectsOf
) -> Explained | InputError:
    """replays: of the runs that have a step, from this one on."""
    if not cut.spans:
        return Explained((), np.zeros((0, cut.regions.k), np.float32), cut.regions, split.closed)
    seen = next(replays)
    if isinstance(seen, InputError):
        return seen
    steps = tuple(
        Step(text, span.kind, span.start, span.end, float(logprob), float(entropy))
        for span, text, logprob, entropy in zip(cut.spans, split.texts, seen.logprob, seen.entropy, strict=True)
    )
    try:
        effects = effects_of(cut, seen)
    except InputError as error:
        return untraced(error)
    return Explained(steps, np.asarray(effects, np.float32), cut.regions, split.closed, seen.hidden)


def trace_of(
    vlm: VLM,
    run: Written,
    explained: Explained | InputError,
    pictures: Pictures,
    made_by: Mapping[str, Any],
    judge: Judge,
) -> Trace | None:
    """The Trace of a run; None where it has no step. Raises the error that stands in place of what explains it."""
    if isinstance(explained, InputError):
        raise explained
    if not explained.steps:
        return None
    trace = assemble(
        vlm,
        run.item,
        run.repeat,
        list(explained.steps),
        explained.effects,
        explained.regions,
        pictures.png(run.prompt),
        {**made_by, **run.facts},
        explained.closed,
        judge,
        run.tokens,
    )
    return replace(trace, hidden=explained.hidden)
