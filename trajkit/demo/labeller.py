"""Checks a run's reasoning against its scene, sentence by sentence, and labels its outcome."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trajkit.demo.acts import normalise
from trajkit.demo.scene import COLOURS, GRID, Cell, Scene
from trajkit.demo.tasks import Position, Task
from trajkit.traces.step_labels import StepLabel

Outcome = Literal["success", "hallucination", "reasoning_failure", "unknown"]
Detail = Literal[
    "",
    "misreading",
    "omission",
    "wrong step",
    "wrong answer",
    "no answer",
    "misreading and wrong step",
    "misreading and wrong answer",
    "misreading and no answer",
]

_PERCEPT = re.compile(rf"row (\d+) col (\d+) is (?:(empty)|({'|'.join(COLOURS)}) (\d+))(?=\s*\.|\s|$)")
_COMPARISON = re.compile(r"look for (\w+ \d+), see (\w+ \d+), (yes|no)|(\d+) more than (\d+), (yes|no)")
_COUNT = re.compile(rf"(?:that makes|and) (\d+) ({'|'.join(COLOURS)})")
_RESULT = re.compile(r"(?:the sum|the largest) is (\w+)")
_PRESENCE = re.compile(r"(there is no|that is an?) \w+ \d+$")
_ARITHMETIC = re.compile(r"(\d+) (plus|minus) (\d+) is (minus )?(\d+)")


@dataclass(frozen=True)
class Label:
    """The verdict on a run.

    outcome: `success` when the answer is right. Otherwise `reasoning_failure` when the standing readings of the image
    are right (they may be incomplete), or wrong only in what does not matter (put right, they imply the same answer);
    `hallucination` when they are false and the answer is the one that they imply; `unknown` when they are false and it
    does not follow from them either.
    first_wrong: 0-based sentence that went wrong first and was never put right; the number of sentences when it was
    the answer itself; None on success. A sum, comparison, count or other conclusion is wrong when it does not follow
    from what had been read by then.
    detail: the cause of the outcome, "" on success. Of a hallucination `misreading`. Of a reasoning failure `omission`
    when the answer follows from what was read but a cell that matters never was; else `no answer` when the run never
    answered, `wrong step` when a sentence does not follow from what had been read by then, and `wrong answer` when all
    do and the answer does not. Of an unknown one `misreading and` the last three.
    false_readings: how many cells stand misread at the end. corrections: how many misreadings were put right. unread:
    how many of the cells that the question is about (`Task.relevant`) no sentence reads. An omission has some; so may a
    run of another cause, beside what went wrong first, and a success, which may stop at the first cell that settles it.
    steps: of each sentence by itself, whether it is put right later or not: `false` where it reads a cell as what it is
    not, one that the scene does not have among them; else `lost` where it does not follow from what had been read by
    then, false readings too; else "".
    """

    outcome: Outcome
    detail: Detail
    first_wrong: int | None
    false_readings: int
    corrections: int
    unread: int
    steps: tuple[StepLabel, ...]


def label_run(task: Task, scene: Scene, sentences: Sequence[str], answer: str | None) -> Label:
    """Label a run from its thinking `sentences` and its `answer` (None when the run never answered)."""
    readings: dict[Position, tuple[Cell, int]] = {}
    corrections, broken = 0, []
    untrue: set[int] = set()
    for number, sentence in enumerate(sentences):
        text = normalise(sentence)
        for row, col, empty, colour, digit in _PERCEPT.findall(text):
            at = (int(row) - 1, int(col) - 1)
            if not (0 <= at[0] < GRID and 0 <= at[1] < GRID):
                broken.append(number)
                untrue.add(number)
                continue
            cell: Cell = None if empty else (colour, int(digit))
            if cell != scene.at(*at):
                untrue.add(number)
            previous = readings.get(at)
            corrections += previous is not None and previous[0] != scene.at(*at) and cell == scene.at(*at)
            first = previous[1] if previous is not None and previous[0] == cell else number
            readings[at] = (cell, first)
        for a, sign, b, negative, c in _ARITHMETIC.findall(text):
            if int(a) + (int(b) if sign == "plus" else -int(b)) != (-int(c) if negative else int(c)):
                broken.append(number)
        for wanted, seen, same, a, b, more in _COMPARISON.findall(text):
            if (same == "yes") != (wanted == seen) if same else (more == "yes") != (int(a) > int(b)):
                broken.append(number)
        seen = {at: cell for at, (cell, _) in readings.items()}
        if not _concludes_rightly(text, task, seen):
            broken.append(number)
    false = {at: first for at, (cell, first) in readings.items() if cell != scene.at(*at)}
    unread = len(set(task.relevant(scene)) - readings.keys())
    steps: list[StepLabel] = ["false" if i in untrue else "lost" if i in broken else "" for i in range(len(sentences))]
    if answer is not None and normalise(answer) == normalise(task.truth(scene)):
        return Label("success", "", None, len(false), corrections, unread, tuple(steps))
    implied = normalise(task.answer({at: cell for at, (cell, _) in readings.items()}))
    immaterial = implied == normalise(task.answer({at: scene.at(*at) for at in readings}))
    first_wrong = min([*([] if immaterial else false.values()), *broken], default=len(sentences))
    found: tuple[Outcome, Detail]
    if answer is not None and normalise(answer) == implied:
        found = ("reasoning_failure", "omission") if immaterial else ("hallucination", "misreading")
    elif answer is None:
        found = ("reasoning_failure", "no answer") if immaterial else ("unknown", "misreading and no answer")
    elif broken:
        found = ("reasoning_failure", "wrong step") if immaterial else ("unknown", "misreading and wrong step")
    else:
        found = ("reasoning_failure", "wrong answer") if immaterial else ("unknown", "misreading and wrong answer")
    return Label(found[0], found[1], first_wrong, len(false), corrections, unread, tuple(steps))


def _concludes_rightly(text: str, task: Task, seen: Mapping[Position, Cell]) -> bool:
    """Whether the conclusions in a sentence, if there are any, follow from the cells read so far."""
    counts = Counter(cell[0] for cell in seen.values() if cell is not None)
    if any(int(count) != counts[colour] for count, colour in _COUNT.findall(text)):
        return False
    implied = task.answer(seen)
    if any(result != implied for result in _RESULT.findall(text)):
        return False
    presence = _PRESENCE.search(text)
    return presence is None or (presence[1] == "there is no") == (implied == "no")
