"""Attribute: effects for runs that another tool, or another day, has written, by reading them again."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from trajkit.aside import aside
from trajkit.attribution.ablation import Ablation, measure_effects, single_region_masks
from trajkit.attribution.asked import prompt_of
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.features import Pooling
from trajkit.attribution.item import Item
from trajkit.attribution.recovered import Recovered, recover_tokens
from trajkit.attribution.replay import Cut, Replay
from trajkit.attribution.tokens import of_other_weights, rounding_of
from trajkit.attribution.written import BATCH, EffectsOf, Explained, Pictures, Written, estimated, explain, passes
from trajkit.errors import InputError
from trajkit.fingerprints import difference
from trajkit.traces.store import read_traces
from trajkit.traces.trace import EffectsKind, Step, Trace
from trajkit.vlm.model import VLM

RunAside = Callable[[Trace, InputError], None]
"""Told of a saved run whose effects cannot be had, and why."""
_OF_THE_SOURCE = frozenset({"counted_in", "entropy", "doubt", "logprob_difference"})
"""Of `meta`: what was said of steps and effects that are replaced."""


def attribute(
    vlm: VLM,
    traces: Iterable[Trace] | Trace | str | Path,
    *,
    estimator: EffectEstimator | None = None,
    measured: bool = False,
    ablation: Ablation = "mean",
    batch_size: int = BATCH,
    done: frozenset[str] = frozenset(),
    set_aside: RunAside | None = None,
) -> Iterator[Trace]:
    """Yield saved runs with the effects of their steps, by teacher-forced replay with the model that wrote them.

    The tokens are those that a run tells, or are made of its text (`recovered.recover_tokens`). Of a run are kept its
    id, question, answer, score, outcome and `meta`; steps, regions, effects, log-probabilities, entropies and tokens
    are new, and risks and alarms, which were of other effects, are gone. `meta` says where the tokens are from
    (`token_ids`: told, made, unchecked), by how much log-probabilities differ from those that the run tells
    (`logprob_difference`, mean |difference| in nats a token), and what is in doubt (`doubt`).

    traces: runs, one run, or a file or folder of them.
    estimator: estimates the effects. measured: measure them instead, hiding each region in turn by `ablation`, which
    takes one pass a region. batch_size: runs that share a pass, most. done: transcript_ids that are left out.
    set_aside: called for a run that cannot be read again, and the others go on; where there is none, InputError is
    raised. Raises EstimatorMismatchError when the estimator was made for another model, and InputError where there is
    none and effects are not measured.

    See also: `import_traces`, `read_traces`, `follow`, `trace`.

    >>> import trajkit as tk
    >>> vlm = tk.load_vlm("data/demo/model")
    >>> estimator = tk.EffectEstimator.load("data/demo/estimator")
    >>> saved = tk.read_traces("data/demo/traces")[:1]
    >>> [run] = tk.attribute(vlm, saved, estimator=estimator)
    >>> run.effects.shape, run.meta["token_ids"]
    ((32, 35), 'told')
    """
    if not hasattr(vlm, "fingerprint"):
        folder = repr(str(vlm)) if isinstance(vlm, str | Path) else "folder"
        raise InputError(f"attribute takes a model, then runs: attribute(load_vlm({folder}), traces, estimator=…).")
    if estimator is not None and not hasattr(estimator, "check"):
        folder = repr(str(estimator)) if isinstance(estimator, str | Path) else "folder"
        raise InputError(
            f"estimator must be what EffectEstimator.load({folder}) gives; got {type(estimator).__name__}."
        )
    how = how_to(vlm, estimator, ablation if measured else None)
    pictures = Pictures(vlm, how.region_method)
    runs = read_traces(traces) if isinstance(traces, str | Path) else [traces] if isinstance(traces, Trace) else traces
    wanted = iter(trace for trace in runs if trace.transcript_id not in done)
    while taken := list(islice(wanted, batch_size)):
        for some in passes(_read(vlm, taken, set_aside), batch_size):
            for run, explained in zip(some, _explained(vlm, some, pictures, how), strict=True):
                with aside(run.trace, set_aside):
                    yield _attributed(vlm, run, explained, how)


@dataclass(frozen=True, eq=False)
class How:
    """Where effects come from. made_by: what `meta` says of it."""

    kind: EffectsKind
    effects_of: EffectsOf
    region_method: str
    pooling: Pooling
    made_by: Mapping[str, Any]


def how_to(vlm: VLM, estimator: EffectEstimator | None, ablation: Ablation | None) -> How:
    """Effects that are estimated, or measured by hiding regions where there is an ablation.

    Raises InputError where there is neither, EstimatorMismatchError when the estimator was made for another model.
    """
    made_by = {"fingerprint": vlm.fingerprint, "revision": vlm.revision, "estimator": None, "ablation": ablation}
    if ablation is not None:
        if ablation not in get_args(Ablation):
            raise InputError(f"ablation must be one of {', '.join(get_args(Ablation))}; got {ablation!r}.")
        method = estimator.binding.region_method if estimator else "vision"
        return How("measured", measured_by(vlm, ablation), method, "sum", made_by)
    if estimator is None:
        raise InputError("effects are estimated by an estimator, or measured: give one, or measured=True.")
    estimator.check(vlm.fingerprint, vlm.name)
    binding = estimator.binding
    return How(
        "estimated",
        estimated(estimator),
        binding.region_method,
        binding.pooling,
        made_by | {"estimator": estimator.digest},
    )


def measured_by(vlm: VLM, ablation: Ablation) -> EffectsOf:
    """Effects of hiding each region by itself."""

    def effects_of(cut: Cut, seen: Replay) -> NDArray[Any]:
        masks = single_region_masks(cut.regions.k)
        return measure_effects(vlm, cut.prompt, cut.tokens, cut.spans, cut.regions, masks, ablation).T  # (T, K)

    return effects_of


@dataclass(frozen=True, eq=False, kw_only=True)
class _Read(Written):
    """A saved run that can be read again."""

    trace: Trace
    recovered: Recovered


def _read(vlm: VLM, traces: Iterable[Trace], set_aside: RunAside | None) -> Iterator[_Read]:
    for trace in traces:
        with aside(trace, set_aside):
            _check_model(vlm, trace)
            prompt = prompt_of(vlm, trace)
            recovered = recover_tokens(vlm, trace, prompt)
            item = Item(trace.transcript_id, prompt.canvas.images, trace.question, trace.group_id)
            yield _Read(item, 0, recovered.tokens, prompt, {}, recovered.split, trace=trace, recovered=recovered)


def _check_model(vlm: VLM, trace: Trace) -> None:
    """Raise InputError where the run says that another model wrote it."""
    theirs = trace.meta.get("fingerprint")
    if theirs and theirs != vlm.fingerprint:
        why = difference(str(theirs), vlm.fingerprint, trace.model == vlm.name)
        raise InputError(
            f"{trace.model} ({theirs}) wrote it, and effects would be of {vlm.name} ({vlm.fingerprint}).{why} "
            "Attribute it with the model that wrote it."
        )


def _explained(vlm: VLM, runs: Sequence[Written], pictures: Pictures, how: How) -> list[Explained | InputError]:
    """As `explain`; where memory does not suffice for all of them, of half of them at a time."""
    try:
        return explain(vlm, runs, pictures, how.effects_of, how.pooling)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(runs) == 1:
            return [InputError(f"its {len(runs[0].tokens):,} tokens do not fit in memory. Use a device that has more.")]
    half = len(runs) // 2
    return _explained(vlm, runs[:half], pictures, how) + _explained(vlm, runs[half:], pictures, how)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of its GPU, did not suffice."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def _attributed(vlm: VLM, run: _Read, explained: Explained | InputError, how: How) -> Trace:
    """The run with what was found. Raises the error that stands in its place."""
    if isinstance(explained, InputError):
        raise explained
    if not explained.steps:
        raise InputError("its text has no step to explain.")
    trace, regions = run.trace, explained.regions
    same = [step.text for step in explained.steps] == [step.text for step in trace.steps]
    steps = explained.steps
    if same:
        steps = tuple(replace(step, seconds=old.seconds) for step, old in zip(steps, trace.steps, strict=True))
    n, off = _logprob_difference(trace.steps, steps) if same else (0, 0.0)
    doubts = [*_doubts(vlm, run, n, off)]
    found = {"logprob_difference": round(off, 6)} if n else {}
    return replace(
        trace,
        model=vlm.name,
        steps=steps,
        effects=explained.effects,
        effects_kind=how.kind,
        half_widths=None,
        hidden=trace.hidden if same else None,
        regions=regions.labels.astype(np.uint8 if regions.k <= 256 else np.uint16),
        tokens=np.asarray(run.tokens, np.int32),
        meta=_meta(vlm, run, explained, how) | found | ({"doubt": "; ".join(doubts)} if doubts else {}),
    )


def _meta(vlm: VLM, run: _Read, explained: Explained, how: How) -> dict[str, Any]:
    """What the run's `meta` said, but for what was of its earlier effects, and what these are made with."""
    before = run.trace.meta
    meta = {name: value for name, value in before.items() if name not in _OF_THE_SOURCE}
    if isinstance(before.get("source"), dict) and run.trace.model != vlm.name:
        meta["source"] = {"model": run.trace.model} | before["source"]
    return meta | {
        **how.made_by,
        "system": before.get("system") or vlm.system,
        "thinking_closed": explained.closed,
        "region_method": explained.regions.method,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "token_ids": run.recovered.source,
    }


def _doubts(vlm: VLM, run: _Read, n: int, off: float) -> Iterator[str]:
    """What does not fit. off: by how much log-probabilities of `n` tokens differ, nats a token."""
    if run.recovered.doubt:
        yield run.recovered.doubt
    asked = run.trace.meta.get("prompt_tokens")
    if isinstance(asked, int) and asked != run.prompt.length:
        yield (
            f"its prompt had {asked} tokens, and the one made here has {run.prompt.length}: another size of image, "
            "system prompt or chat template"
        )
    revision = run.trace.meta.get("revision")
    if revision and vlm.revision and revision != vlm.revision:
        yield f"revision {revision} wrote it, and effects are of {vlm.revision}"
    if of_other_weights(off, n, rounding_of(vlm)):
        yield (
            f"log-probabilities that it tells differ from those here by {off:.2g} nats a token, over {n}: another "
            "revision or precision of the model wrote it, or they are of after the temperature"
        )


def _logprob_difference(told: Sequence[Step], own: Sequence[Step]) -> tuple[int, float]:
    """Of how many tokens a run tells log-probabilities, and their mean |difference| from those here, nats: of the mean
    of each step, as no more is kept of them."""
    pairs = [
        (here.n_tokens, abs(here.logprob - there.logprob))
        for here, there in zip(own, told, strict=True)
        if here.logprob is not None and there.logprob is not None
    ]
    n = sum(tokens for tokens, _ in pairs)
    return n, sum(tokens * off for tokens, off in pairs) / n if n else 0.0
