"""Written-out reasoning about a scene: what the demo model learns to say.

Looking comes first, then computing, then the answer. With `freedom`, the order of looking varies, a search ends at
the first find, hard cells are called unclear, readings slip and are looked at again, and checks are repeated. A word
that is wrong on purpose carries no training loss: the model learns to notice and correct a slip, never to make one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trajkit.demo.scene import COLOURS, Cell, Scene
from trajkit.demo.tasks import Position, Task, article

LOOK_AGAIN = "wait, let me look again."


@dataclass(frozen=True)
class Transcript:
    """Sentences of the thinking span and the answer.

    conclusion: the first sentence that computes and no longer looks. slips: (sentence, word) pairs that are wrong on
    purpose, words split at spaces.
    """

    sentences: tuple[str, ...]
    answer: str
    conclusion: int
    slips: frozenset[tuple[int, int]] = field(default=frozenset())


def percept(at: Position, cell: Cell) -> str:
    """The sentence that states what is in a cell."""
    return f"row {at[0] + 1} col {at[1] + 1} is {'empty' if cell is None else f'{cell[0]} {cell[1]}'}."


def write_reasoning(
    task: Task, scene: Scene, rng: np.random.Generator, freedom: float, spell_out: bool = False
) -> Transcript:
    """A transcript that answers `task` from `scene`; `freedom` in [0, 1], 0 being one fixed way of looking.

    spell_out: say every comparison with both sides beside each other ("look for red 7, see red 1, no."), and search by
    colour in reading order or against it; a small model can learn to compare what stands close together.
    """
    writer = _Writer(scene, rng, freedom, task if spell_out and task.kind.startswith("present") else None)
    cells = task.relevant(scene)
    if freedom:
        if rng.random() < 0.4 * freedom:
            writer.say(_opening(task))
        if spell_out and task.colours and not task.line:
            cells = cells[:: (1, -1)[rng.integers(2)]]
        elif rng.random() < freedom:
            cells = [cells[i] for i in rng.permutation(len(cells))]
    if not cells:
        writer.say("i see none.")
    left = list(cells)
    while left:
        writer.look(left.pop(0))
        found = freedom and task.kind.startswith("present") and task.answer(writer.believed) == "yes"
        if found or not left:
            writer.settle()
        if found and task.answer(writer.believed) == "yes":
            break
    if cells and rng.random() < 0.25 * freedom:
        writer.say("let me check.")
        for i in rng.choice(len(cells), min(len(cells), int(rng.integers(1, 3))), replace=False):
            writer.state(cells[i])
    conclusion = len(writer.sentences)
    if spell_out and task.kind == "more":
        writer.conclude_more(task)
    else:
        writer.conclude(task)
    return Transcript(tuple(writer.sentences), task.answer(writer.believed), conclusion, frozenset(writer.slips))


def _opening(task: Task) -> str:
    if task.line:
        return f"let me look at {task.line[0]} {task.line[1] + 1}."
    if task.colours:
        return f"let me look for {' and '.join(task.colours)} digits."
    return "let me look."


class _Writer:
    def __init__(self, scene: Scene, rng: np.random.Generator, freedom: float, search: Task | None) -> None:
        self.scene, self.rng, self.freedom, self.search = scene, rng, freedom, search
        self.sentences: list[str] = []
        self.slips: set[tuple[int, int]] = set()
        self.believed: dict[Position, Cell] = {}
        self.doubted: list[Position] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def state(self, at: Position) -> None:
        """A true reading."""
        self.believed[at] = self.scene.at(*at)
        self.say(percept(at, self.believed[at]))

    def look(self, at: Position) -> None:
        """Read a cell: rightly, after calling it unclear, or with a slip that is mostly noticed, now or later."""
        rng, hardness = self.rng, self.scene.hardness[at[0]][at[1]]
        if rng.random() < self.freedom * 0.5 * max(hardness - 0.2, 0):
            self.say(f"row {at[0] + 1} col {at[1] + 1} is unclear.")
            if rng.random() < 0.5:
                self.say("let me look again.")
        if rng.random() >= self.freedom * (0.05 + 0.20 * hardness):
            self.state(at)
            if rng.random() < 0.06 * self.freedom:
                self._look_again(at)
            self._compare(at)
            return
        self._slip(at)
        fate = rng.random()
        if fate < 0.55:
            self._look_again(at)
        elif fate < 0.88:
            self.doubted.append(at)
        self._compare(at)

    def settle(self) -> None:
        """Come back to the readings that were left in doubt."""
        while self.doubted:
            at = self.doubted.pop(0)
            self._look_again(at)
            self._compare(at)

    def _compare(self, at: Position) -> None:
        """In a search that is spelled out, hold what was read against what is looked for."""
        cell = self.believed[at]
        if self.search is not None and cell is not None:
            wanted = (self.search.colours[0], self.search.digit)
            verdict = "yes" if cell == wanted else "no"
            self.say(f"look for {wanted[0]} {wanted[1]}, see {cell[0]} {cell[1]}, {verdict}.")

    def _look_again(self, at: Position) -> None:
        if self.rng.random() < 0.5:
            self.say(LOOK_AGAIN)
            self.state(at)
        else:
            self.state(at)
            self.sentences[-1] = "wait, " + self.sentences[-1]

    def _slip(self, at: Position) -> None:
        true, rng = self.scene.at(*at), self.rng
        number = len(self.sentences)
        if true is None:
            read: Cell = (COLOURS[rng.integers(len(COLOURS))], int(rng.integers(10)))
            self.slips |= {(number, 5), (number, 6)}
        elif rng.random() < 0.85:
            read = (true[0], int((true[1] + rng.integers(1, 10)) % 10))
            self.slips.add((number, 6))
        else:
            read = (COLOURS[(COLOURS.index(true[0]) + rng.integers(1, len(COLOURS))) % len(COLOURS)], true[1])
            self.slips.add((number, 5))
        self.believed[at] = read
        self.say(percept(at, read))

    def conclude_more(self, task: Task) -> None:
        """Count one colour, then the other, then compare the counts."""
        counts = [sum(c is not None and c[0] == k for c in self.believed.values()) for k in task.colours]
        for count, colour in zip(counts, task.colours, strict=True):
            self.say(f"that makes {count} {colour}.")
        self.say(f"{counts[0]} more than {counts[1]}, {task.answer(self.believed)}.")

    def conclude(self, task: Task) -> None:
        """The sentences that lead from the readings to the answer."""
        read = [cell for _, cell in sorted(self.believed.items()) if cell is not None]
        if self.freedom and task.kind.startswith("sum"):
            read = [cell for cell in self.believed.values() if cell is not None]
        match task.kind:
            case "sum_line" | "sum_colour":
                digits = [d for k, d in read if not task.colours or k == task.colours[0]]
                total = digits[0] if digits else 0
                for digit in digits[1:]:
                    self.say(f"{total} plus {digit} is {total + digit}.")
                    total += digit
                self.say(f"the sum is {total}.")
            case "difference":
                assert task.pair is not None
                a, b = ((cell[1] if (cell := self.believed.get(at)) else 0) for at in task.pair)
                self.say(f"{a} minus {b} is {task.answer(self.believed)}.")
            case "present" | "present_line":
                found = task.answer(self.believed) == "yes"
                colour = task.colours[0]
                self.say(f"{f'that is {article(colour)}' if found else f'there is no {colour}'} {task.digit}.")
            case "count":
                self.say(f"that makes {task.answer(self.believed)} {task.colours[0]} digits.")
            case "largest":
                self.say(f"the largest is {task.answer(self.believed)}.")
            case "more":
                n = [sum(k == colour for k, _ in read) for colour in task.colours]
                self.say(f"that makes {n[0]} {task.colours[0]} and {n[1]} {task.colours[1]}.")
            case _:
                if self.rng.random() < 0.3 * self.freedom:
                    self.say("now i can write it.")


def vocabulary() -> list[str]:
    """Every word of questions, reasoning and answers, in a fixed order."""
    words = [
        "row",
        "col",
        "is",
        "empty",
        "unclear",
        ".",
        ",",
        "?",
        ";",
        "wait",
        "let",
        "me",
        "look",
        "again",
        "at",
        "for",
        "and",
        "check",
        "i",
        "see",
        "none",
        "that",
        "a",
        "an",
        "there",
        "no",
        "in",
        "what",
        "the",
        "sum",
        "of",
        "digit",
        "digits",
        "minus",
        "plus",
        "read",
        "how",
        "many",
        "are",
        "largest",
        "more",
        "than",
        "write",
        "commands",
        "to",
        "draw",
        "nothing",
        "makes",
        "yes",
        "now",
        "can",
        "it",
    ]
    return [*words, *COLOURS, *(str(n) for n in range(37))]
