"""Questions about fresh scenes, to collect runs from, and the judge that labels the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from trajkit.attribution.item import Item, Judgement
from trajkit.demo.acts import Read
from trajkit.demo.checker import label_run
from trajkit.demo.digits import SPLITS, Split
from trajkit.demo.grid import Cell, Position, Scene, draw_scene
from trajkit.demo.picture import paint, smudges
from trajkit.demo.procedures import plan
from trajkit.demo.questions import FAMILIES, Question, draw_question, parse_question
from trajkit.traces.step_labels import KEY

CLEAR = (0.0, 0.35)
SMUDGED = (0.55, 1.0)
"""Difficulty ranges of the evaluation mix: half of the pictures are clear, half are smudged near the first cell."""
USUAL = 0.5
"""How often a walk has the usual rule in evaluation; digits go with no colour there."""


def world_items(
    split: Split,
    n: int,
    seed: int,
    smudged: float = 0.5,
    clear: tuple[float, float] = CLEAR,
    families: Sequence[str] = FAMILIES,
) -> Iterator[Item]:
    """`n` questions, one a scene, families in turn; scene i is the same whatever `n` is, and another in each split.

    smudged: the share of pictures with a smudge over one of the cells that are read in the first third of the plan
    (`procedures.plan`). clear: difficulty of the others.
    """
    for i in range(n):
        rng = np.random.default_rng([SPLITS.index(split), seed, i])
        scene, question = _asked(rng, families[i % len(families)])
        centre = _begin(rng, question, scene)
        is_smudged = bool(rng.random() < smudged)
        difficulty = float(rng.uniform(*(SMUDGED if is_smudged else clear)))
        hardness = smudges(rng, difficulty, centre if is_smudged else None)
        image = paint(rng, scene, split, hardness)
        name = f"{split}-{seed}-{i:05d}"
        facts: dict[str, Any] = {
            "digits": split,
            "difficulty": round(difficulty, 4),
            "smudged": is_smudged,
            "kind": question.kind,
            "cells": scene.cells,
            "hardness": hardness.round(2).tolist(),
        }
        yield Item(name, Image.fromarray(image), question.text, name, question.answer(scene), question.family, facts)


def _asked(rng: np.random.Generator, family: str) -> tuple[Scene, Question]:
    while True:
        scene = draw_scene(rng, usual=USUAL)
        if question := draw_question(rng, scene, family):
            return scene, question


def _begin(rng: np.random.Generator, question: Question, scene: Scene) -> Position:
    read = [act.at for act in plan(question, scene) if isinstance(act, Read)]
    return read[rng.integers(max(len(read) // 3, 1))]


def scene_of(cells: Sequence[Sequence[Sequence[object] | None]]) -> Scene:
    """The Scene whose cells stand in a run's `meta["cells"]`."""

    def cell(value: Sequence[object] | None) -> Cell:
        return None if value is None else (str(value[0]), int(value[1]))  # type: ignore[call-overload]

    return Scene(tuple(tuple(cell(c) for c in row) for row in cells))


def judge_by_scene(item: Item, sentences: Sequence[str], answer: str | None) -> Judgement:
    """Label a demo run by what is truly in its scene (see `checker`)."""
    label = label_run(parse_question(item.question), scene_of(item.meta["cells"]), sentences, answer)
    facts = {
        "detail": label.detail,
        "first_wrong": label.first_wrong,
        KEY: list(label.steps),
        "false_readings": label.false_readings,
        "corrections": label.corrections,
    }
    return Judgement(label.outcome, label.outcome == "success", facts)
