"""Questions about fresh scenes, to collect runs from, and the judge that labels the runs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trajkit.attribution.item import Item, Judgement
from trajkit.demo.acts import Read
from trajkit.demo.checker import label_run
from trajkit.demo.digits import SPLITS, Split
from trajkit.demo.grid import Cell, Position, Scene, draw_scene
from trajkit.demo.picture import paint, smudges
from trajkit.demo.procedures import plan
from trajkit.demo.questions import FAMILIES, Question, draw_question, parse_question
from trajkit.traces.images import open_image
from trajkit.traces.step_labels import KEY

USUAL = 0.5
"""How often a walk has the usual rule in evaluation; digits go with no colour there."""
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Mix:
    """How hard pictures are.

    smudged: the share of pictures with a smudge. early: it lies over one of the first so many cells that are read in
    the plan (`procedures.plan`). damage, clear: the range of difficulty of pictures with a smudge, and of the others,
    in [0, 1].
    """

    smudged: float = 0.6
    early: int = 2
    damage: tuple[float, float] = (0.75, 1.0)
    clear: tuple[float, float] = (0.0, 0.35)


MIX = Mix()
"""The mix of the shipped runs."""
CLEAN = Mix(smudged=0.0, clear=(0.0, 0.0))
"""Nothing is hard to read."""


@dataclass(frozen=True, eq=False)
class DemoItem(Item):
    """An item of the demo. jpeg: the file that its image was opened from, about a fifth of what a PNG of it takes."""

    jpeg: bytes = field(default=b"", repr=False)


def demo_items(
    split: Split, n: int, seed: int, mix: Mix = MIX, families: Sequence[str] = FAMILIES
) -> Iterator[DemoItem]:
    """`n` questions, one a scene, families in turn; scene i is the same whatever `n` is, and another in each split."""
    for i in range(n):
        rng = np.random.default_rng([SPLITS.index(split), seed, i])
        scene, question = _asked(rng, families[i % len(families)])
        centre = _begin(rng, question, scene, mix.early)
        is_smudged = bool(rng.random() < mix.smudged)
        difficulty = float(rng.uniform(*(mix.damage if is_smudged else mix.clear)))
        hardness = smudges(rng, difficulty, centre if is_smudged else None)
        jpeg = _to_jpeg(paint(rng, scene, split, hardness))
        name = f"{split}-{seed}-{i:05d}"
        facts: dict[str, Any] = {
            "digits": split,
            "difficulty": round(difficulty, 4),
            "smudged": is_smudged,
            "kind": question.kind,
            "cells": scene.cells,
            "hardness": hardness.round(2).tolist(),
        }
        answer, family = question.answer(scene), question.family
        yield DemoItem(name, open_image(jpeg), question.text, name, answer, family, facts, jpeg=jpeg)


def _asked(rng: np.random.Generator, family: str) -> tuple[Scene, Question]:
    while True:
        scene = draw_scene(rng, usual=USUAL)
        if question := draw_question(rng, scene, family):
            return scene, question


def _begin(rng: np.random.Generator, question: Question, scene: Scene, early: int) -> Position:
    read = [act.at for act in plan(question, scene) if isinstance(act, Read)]
    return read[rng.integers(min(early, len(read)))]


def _to_jpeg(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


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
