"""Runs about one scene as the demo would have judged and kept them."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from tests.demo.test_questions import GRID_BY_HAND
from trajkit.attribution.item import Item
from trajkit.demo.acts import Read, parse
from trajkit.demo.cells import CELL_PX
from trajkit.demo.grid import GRID
from trajkit.demo.items import judge_by_scene
from trajkit.demo.picture import paint
from trajkit.demo.questions import parse_question
from trajkit.demo.runs import judged
from trajkit.detection.monitor import Verdict
from trajkit.traces.images import to_png
from trajkit.traces.trace import Step, Trace

THRESHOLD = 0.6
REGIONS = np.kron(np.arange(GRID**2).reshape(GRID, GRID), np.ones((CELL_PX, CELL_PX), int)).astype(np.uint8)
TOKENS = 8
"""Of each sentence."""


def judged_run(
    question: str, said: list[str], answer: str | None, alarm: int | None = None, sure: float = 0.95
) -> Trace:
    """A run about GRID_BY_HAND whose risk is above THRESHOLD from sentence `alarm` on.

    sure: the probability of each token. Readings rest on the cell that they name, with 5
    nats, and other sentences on none.
    """
    image = Image.fromarray(paint(np.random.default_rng(0), GRID_BY_HAND, "test", np.zeros((GRID, GRID))))
    asked = parse_question(question)
    facts = {"cells": GRID_BY_HAND.cells, "difficulty": 0.5, "hardness": np.eye(GRID).tolist()}
    truth = asked.answer(GRID_BY_HAND)
    item = Item("test-0-00000", image, question, "test-0-00000", truth, asked.family, facts)
    steps, effects = [], np.zeros((len(said) + (answer is not None), GRID**2), np.float32)
    for i, text in enumerate(said):
        risk = 0.8 if alarm is not None and i >= alarm else 0.1
        verdict = Verdict(i + 1, risk, risk, THRESHOLD, i == alarm)
        where = TOKENS * i, TOKENS * (i + 1)
        steps.append(Step(text, "thinking", *where, math.log(sure), 0.1, risk=verdict.risk, alarm=verdict.alarm))
        act = parse(text)
        if isinstance(act, Read):
            effects[i, GRID * act.at[0] + act.at[1]] = 5
    if answer is not None:
        end = TOKENS * len(said)
        steps.append(Step(answer, "answer", end, end + 4, -0.01, 0.1))
    trace = Trace(
        "any",
        "demo",
        question,
        tuple(steps),
        effects,
        "estimated",
        REGIONS,
        item.group_id,
        task_set=item.task_set,
        answer=answer or "",
        image=to_png(image),
    )
    return judged(trace, item, judge_by_scene(item, said, answer))
