"""Written-out reasoning about a scene: what the demo model learns to say.

The procedure of the question says what may come next, and one of it is said. With `freedom`, it is chosen at random,
hard cells are called unclear, and readings slip, mostly to be put right at once. A word that is wrong on purpose
carries no training loss: the model learns to notice and correct a slip, never to make one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.acts import Act, Read, Restart, Unclear, say
from trajkit.demo.grid import COLOURS, DIRECTIONS, Cell, Scene
from trajkit.demo.procedures import procedure
from trajkit.demo.questions import Question

_PUT_RIGHT = 0.6
_LONGEST = 90


@dataclass(frozen=True)
class Transcript:
    """Sentences of the thinking span and the answer; slips: (sentence, word) that are wrong on purpose, words split at
    spaces."""

    sentences: tuple[str, ...]
    answer: str
    slips: frozenset[tuple[int, int]]


def write_reasoning(
    question: Question, scene: Scene, hardness: NDArray[np.float64], rng: np.random.Generator, freedom: float
) -> Transcript:
    """A transcript that answers `question` from `scene`; `freedom` in [0, 1], 0 being one fixed way without a slip.

    hardness: (GRID, GRID) in [0, 1], how hard each cell is to read.
    """
    steps = procedure(question)
    sentences: list[str] = []
    slips: set[tuple[int, int]] = set()
    careful = freedom == 0

    def do(act: Act) -> None:
        steps.take(act)
        sentences.append(say(act))
        nonlocal careful
        careful |= isinstance(act, Restart) or len(sentences) > _LONGEST

    while options := steps.options():
        act = options[rng.integers(len(options)) if freedom else 0]
        if not isinstance(act, Read):
            do(act)
            continue
        true, hard = scene.at(act.at), freedom * float(hardness[act.at])
        if rng.random() < 0.4 * max(hard - 0.3, 0.0):
            do(Unclear(act.at, act.direction))
        if careful or rng.random() >= 0.015 * freedom + 0.12 * hard:
            do(replace(act, seen=true))
            continue
        seen, wrong = _slip(true, rng)
        slips |= {(len(sentences), word + bool(act.direction)) for word in wrong}
        do(replace(act, seen=seen))
        if rng.random() < _PUT_RIGHT:
            do(Read(act.at, true, again=True))
    answer = steps.answer()
    assert answer is not None
    return Transcript(tuple(sentences), answer, frozenset(slips))


def _slip(true: Cell, rng: np.random.Generator) -> tuple[Cell, tuple[int, ...]]:
    """A wrong reading and which words of "row 1 col 2 is red 7." are wrong in it."""
    if true is None:
        return (COLOURS[rng.integers(len(COLOURS))], int(rng.integers(10))), (5, 6)
    if rng.random() < 0.6:
        return (true[0], int((true[1] + rng.integers(1, 10)) % 10)), (6,)
    return (COLOURS[(COLOURS.index(true[0]) + rng.integers(1, len(COLOURS))) % len(COLOURS)], true[1]), (5,)


def vocabulary() -> list[str]:
    """Every word of questions, reasoning and answers, in a fixed order."""
    words = (
        "row col is empty unclear . , ? wait dead end back to no 0 again from the at before it step more than and yes "
        "that makes largest smallest follow where what sort how many times same as in steps on way"
    )
    return list(dict.fromkeys([*words.split(), *COLOURS, *DIRECTIONS, *(str(n) for n in range(19))]))
