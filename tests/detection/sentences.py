"""A made-up world of sentences: a false one rests beside the place that it names, and is less sure; a lost one has
more tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from trajkit.traces.trace import Step, Trace

CELLS = 4


def make_runs(n_groups: int = 40, per_group: int = 3, seed: int = 0, labelled: bool = True) -> list[Trace]:
    rng = np.random.default_rng(seed)
    return [_run(rng, group, repeat, labelled) for group in range(n_groups) for repeat in range(per_group)]


def _run(rng: np.random.Generator, group: int, repeat: int, labelled: bool) -> Trace:
    labels = [str(label) for label in rng.choice(["", "false", "lost"], int(rng.integers(4, 9)), p=[0.7, 0.2, 0.1])]
    effects = np.abs(rng.normal(0, 0.3, (len(labels) + 1, CELLS))).astype(np.float32)
    steps, at = [], 0
    for row, label in zip(effects, labels, strict=False):
        cell = int(rng.integers(CELLS))
        row[cell if label != "false" or rng.random() < 0.3 else (cell + 1) % CELLS] += 3
        n = int(rng.integers(5, 9)) + 3 * (label == "lost")
        unsure = 0.2 * (label == "false")
        text = f"so much for {label or 'that'}." if label == "lost" else f"place {cell} is red."
        logprob = -abs(float(rng.normal(0.3 + unsure, 0.15)))
        steps.append(Step(text, "thinking", at, at + n, logprob, abs(float(rng.normal(0.4 + unsure, 0.2)))))
        at += n
    meta: dict[str, Any] = {"kind": f"form {group % 2}"} | ({"step_labels": labels} if labelled else {})
    return Trace(
        transcript_id=f"run-{group}-{repeat}",
        model="made up",
        question="what is there?",
        steps=(*steps, Step("red", "answer", at, at + 1, -0.1, 0.1)),
        effects=effects,
        effects_kind="measured",
        regions=np.arange(CELLS).reshape(2, 2),
        group_id=f"scene-{group}",
        task_set=("math", "science")[group % 2],
        meta=meta,
    )


def named_place(trace: Trace) -> np.ndarray:
    """(T, K) the place that each step names by its number."""
    found = np.zeros(trace.effects.shape, bool)
    for row, step in zip(found, trace.steps, strict=True):
        if step.text.startswith("place"):
            row[int(step.text.split()[1])] = True
    return found
