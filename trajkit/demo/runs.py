"""Runs of the demo world: what each sentence of them is, which are held out, and detectors fitted on the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trajkit.demo.checker import label_run
from trajkit.demo.items import scene_of
from trajkit.demo.questions import parse_question
from trajkit.traces.step_labels import KEY, StepLabel

if TYPE_CHECKING:
    from trajkit.attribution.item import Item, Judgement
    from trajkit.judging.fit import FitResult
    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable
    from trajkit.traces.trace import Trace


def step_labels(traces: Iterable[Trace]) -> dict[str, Sequence[StepLabel | None]]:
    """transcript_id → what each sentence of a demo run is: as its meta says, or by what is truly in its scene."""
    return {trace.transcript_id: trace.meta.get(KEY) or _labels_by_scene(trace) for trace in traces}


def _labels_by_scene(trace: Trace) -> Sequence[StepLabel]:
    sentences = [step.text for step in trace.steps if step.kind == "thinking"]
    question, scene = parse_question(trace.question), scene_of(trace.meta["cells"])
    return label_run(question, scene, sentences, trace.answer or None).steps


def held_out(groups: Iterable[str]) -> set[str]:
    """Those of test digits, which no detector is made from: as `demo_items` names them."""
    return {group for group in groups if group.startswith("test-")}


def fit_demo_detectors(traces: Source | RunTable, alpha: float = 0.1, seed: int = 0, n_boot: int = 500) -> FitResult:
    """Fit and calibrate detectors on the scenes of validation digits, evaluate them on those of test digits."""
    from trajkit.judging.fit import fit_detectors
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import RunTable, run_table

    runs = traces if isinstance(traces, RunTable) else run_table(traces, Wanted(metrics=False, keys=True))
    return fit_detectors(runs, alpha=alpha, seed=seed, n_boot=n_boot, test_groups=held_out(runs.values("group_id")))


def judged(trace: Trace, item: Item, judgement: Judgement) -> Trace:
    """The run of an item as `collect` would have kept it, under the item's name."""
    return replace(
        trace,
        transcript_id=item.id,
        task_id=item.id,
        target=item.target or "",
        score=None if judgement.success is None else float(judgement.success),
        success=judgement.success,
        outcome=judgement.outcome,
        meta={**item.meta, **trace.meta, **judgement.facts},
    )
