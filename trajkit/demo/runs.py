"""Runs of the demo world: questions about fresh scenes, to collect traces from, and the judge that labels them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trajkit.attribution.item import Item, Judgement
from trajkit.demo.digits import SPLITS, Split
from trajkit.demo.labeller import label_run
from trajkit.demo.scene import Cell, Scene, draw_scene
from trajkit.demo.tasks import FAMILIES, draw_task, parse_question
from trajkit.traces.step_labels import KEY, StepLabel

if TYPE_CHECKING:
    from trajkit.judging.fit import FitResult
    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable
    from trajkit.traces.trace import Trace

MIX = (0.45, 1.0)
"""Difficulty range of the shipped evaluation mix; a scene's difficulty is drawn uniformly from it."""


def demo_items(
    split: Split, n: int, seed: int, difficulty: tuple[float, float] = MIX, families: Sequence[str] = FAMILIES
) -> Iterator[Item]:
    """`n` questions, one a scene, families in turn; scene i is the same whatever `n` is, and another in each split."""
    for i in range(n):
        rng = np.random.default_rng([SPLITS.index(split), seed, i])
        hard = float(rng.uniform(*difficulty))
        scene, image = draw_scene(rng, split, hard)
        task = draw_task(rng, scene, families[i % len(families)])
        name = f"{split}-{seed}-{i:05d}"
        facts = {"digits": split, "difficulty": round(hard, 4), "kind": task.kind, "cells": scene.cells}
        yield Item(name, Image.fromarray(image), task.question, name, task.truth(scene), task.family, facts)


def scene_of(cells: Sequence[Sequence[Sequence[object] | None]]) -> Scene:
    """The Scene whose cells stand in a trace's `meta["cells"]` (hardness is not kept and reads 0)."""

    def cell(value: Sequence[object] | None) -> Cell:
        return None if value is None else (str(value[0]), int(value[1]))  # type: ignore[call-overload]

    rows = tuple(tuple(cell(c) for c in row) for row in cells)
    return Scene(rows, tuple((0.0,) * len(row) for row in rows))


def judge_by_scene(item: Item, sentences: Sequence[str], answer: str | None) -> Judgement:
    """Label a demo run by what is truly in its scene (see `labeller`)."""
    label = label_run(parse_question(item.question), scene_of(item.meta["cells"]), sentences, answer)
    facts = {
        "detail": label.detail,
        "first_wrong": label.first_wrong,
        "false_readings": label.false_readings,
        "corrections": label.corrections,
        "unread": label.unread,
        KEY: list(label.steps),
    }
    return Judgement(label.outcome, label.outcome == "success", facts)


def step_labels(traces: Iterable[Trace]) -> dict[str, Sequence[StepLabel | None]]:
    """transcript_id → what each sentence of a demo run is: as its meta says, or by what is truly in its scene."""
    return {trace.transcript_id: trace.meta.get(KEY) or _labels_by_scene(trace) for trace in traces}


def _labels_by_scene(trace: Trace) -> Sequence[StepLabel]:
    sentences = [step.text for step in trace.steps if step.kind == "thinking"]
    task, scene = parse_question(trace.question), scene_of(trace.meta["cells"])
    return label_run(task, scene, sentences, trace.answer or None).steps


def held_out(runs: RunTable) -> set[str]:
    """The groups of test digits, which no detector is made from: as `demo_items` names them."""
    return {group for group in runs.values("group_id") if group.startswith("test-")}


def fit_demo_detectors(traces: Source | RunTable, alpha: float = 0.1, seed: int = 0, n_boot: int = 500) -> FitResult:
    """Fit and calibrate detectors on the scenes of validation digits, evaluate them on those of test digits."""
    from trajkit.judging.fit import fit_detectors
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import RunTable, run_table

    runs = traces if isinstance(traces, RunTable) else run_table(traces, Wanted(metrics=False, keys=True))
    return fit_detectors(runs, alpha=alpha, seed=seed, n_boot=n_boot, test_groups=held_out(runs))


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
