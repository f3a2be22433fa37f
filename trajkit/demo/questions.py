"""Questions about a scene, two forms in each of five families, and the answer that a grid of cells implies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trajkit.demo.acts import content, place
from trajkit.demo.grid import COLOURS, DIRECTIONS, GRID, Cell, Position, Scene, beside, inside, neighbours, wrapped

FAMILIES: tuple[str, ...] = ("general", "math", "document", "science", "code")
FORMS: dict[str, tuple[str, str]] = {
    "general": ("trail_end", "trail_before"),
    "math": ("sort_up", "sort_down"),
    "document": ("larger", "same"),
    "science": ("count", "both"),
    "code": ("walk_end", "walk_write"),
}
Look = Callable[[Position], Cell]
"""What is, or is believed to be, at a position."""
Line = tuple[str, int]
"""A row or a column, 0-based."""
_WRITTEN = {"walk_end": 12, "walk_write": 8}
"""The longest walk that is asked about."""


@dataclass(frozen=True)
class Question:
    """One question. `kind` names its form; the other fields are its blanks, empty where the form has no such blank.

    colours: those counted, or the trail's. lines: those sorted (one), compared (two) or counted in (first and last).
    start: where a trail or a walk begins. rule: where each of COLOURS leads. steps: of a walk.
    """

    kind: str
    colours: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    start: Position | None = None
    rule: tuple[str, ...] = ()
    steps: int = 0

    @cached_property
    def family(self) -> str:
        return next(family for family, kinds in FORMS.items() if self.kind in kinds)

    @property
    def text(self) -> str:
        c, lines = self.colours, [f"{name} {i + 1}" for name, i in self.lines]
        start = place(self.start) if self.start else ""
        rule = ", ".join(f"{colour} {way}" for colour, way in zip(COLOURS, self.rule, strict=False))
        match self.kind:
            case "trail_end":
                return f"follow {c[0]} from {start}. where is the 0?"
            case "trail_before":
                return f"follow {c[0]} from {start}. what is before the 0?"
            case "sort_up" | "sort_down":
                return f"sort {lines[0]} {self.kind[5:]}."
            case "larger":
                return f"how many times is {lines[0]} more than {lines[1]}?"
            case "same":
                return f"how many times is {lines[0]} the same as {lines[1]}?"
            case "count":
                return f"how many {c[0]} in {lines[0]} to {lines[1]}?"
            case "both":
                return f"how many {c[0]} and {c[1]} in {lines[0]} to {lines[1]}?"
            case "walk_end":
                return f"{rule}. {self.steps} steps from {start}. where is the end?"
            case "walk_write":
                return f"{rule}. {self.steps} steps from {start}. what is on the way?"
        raise ValueError(f"unknown kind of question {self.kind!r}")

    @cached_property
    def cells(self) -> tuple[Position, ...]:
        """The cells that a sort, comparison or count is about, in reading order; those of two lines line by line."""
        lines = self.lines
        if self.family == "science":
            (name, first), (_, last) = lines
            lines = tuple((name, i) for i in range(first, last + 1))
        return tuple((i, j) if name == "row" else (j, i) for name, i in lines for j in range(GRID))

    def answers(self, look: Look) -> tuple[str, ...]:
        """The answers that cells imply; none for a trail without a 0, several for one with several."""
        seen = [look(at) for at in self.cells]
        match self.kind:
            case "trail_end" | "trail_before":
                ends = [at for at in self._trail(look) if (cell := look(at)) and cell[1] == 0]
                return tuple(place(at) if self.kind == "trail_end" else self._before(look, at) for at in ends)
            case "sort_up" | "sort_down":
                digits = sorted((cell[1] for cell in seen if cell), reverse=self.kind == "sort_down")
                return (" ".join(map(str, digits)),)
            case "larger" | "same":
                pairs = zip(seen[:GRID], seen[GRID:], strict=True)
                return (str(sum(holds(self.kind == "larger", a, b) for a, b in pairs)),)
            case "count" | "both":
                return (" and ".join(map(str, self.counts(look))),)
            case "walk_end":
                return (place(self._walk(look)[-1][0]),)
            case "walk_write":
                return (" ".join(str(cell[1]) for _, cell in self._walk(look)[:-1] if cell),)
        raise ValueError(f"unknown kind of question {self.kind!r}")

    def counts(self, look: Look) -> tuple[int, ...]:
        """How many cells of the counted lines have each of the colours."""
        seen = [look(at) for at in self.cells]
        return tuple(sum(cell is not None and cell[0] == colour for cell in seen) for colour in self.colours)

    def answer(self, scene: Scene) -> str:
        """The right answer."""
        return self.answers(scene.at)[0]

    def towards(self, cell: Cell, before: str) -> str:
        """Where a cell of a walk leads; an empty one keeps the direction, which is right at the start."""
        return self.rule[COLOURS.index(cell[0])] if cell else before or "right"

    def _trail(self, look: Look) -> list[Position]:
        assert self.start is not None
        found, left = [self.start], [self.start]
        while left:
            at = left.pop()
            for to in neighbours(at):
                if to not in found and (cell := look(to)) and cell[0] == self.colours[0]:
                    found.append(to)
                    if cell[1]:  # a search ends at a 0
                        left.append(to)
        return found

    def _before(self, look: Look, end: Position) -> str:
        trail = self._trail(look)
        return next((content(look(at)).split()[-1] for at in neighbours(end) if at in trail), "")

    def _walk(self, look: Look) -> list[tuple[Position, Cell]]:
        assert self.start is not None
        at, towards, walk = self.start, "", []
        for _ in range(self.steps):
            cell = look(at)
            walk.append((at, cell))
            towards = self.towards(cell, towards)
            at = wrapped(beside(at, towards))
        return [*walk, (at, None)]


def holds(more: bool, first: Cell, second: Cell) -> bool:
    """Whether a cell's digit is larger than another's (`more`), or their colours are the same; empty ones never."""
    if first is None or second is None:
        return False
    return first[1] > second[1] if more else first[0] == second[0]


def supports(scene: Scene, family: str) -> bool:
    """Whether questions of a family can be asked about a scene."""
    return family != ("general" if scene.trail is None else "code")


def draw_question(rng: np.random.Generator, scene: Scene, family: str | None = None) -> Question | None:
    """A random question about a scene, of `family` or of any that it supports; None when it does not support it."""
    able = [f for f in FAMILIES if supports(scene, f)]
    family = family or able[rng.integers(len(able))]
    if family not in able:
        return None
    kind = FORMS[family][rng.integers(2)]
    name, two = ("row", "col")[rng.integers(2)], rng.choice(GRID, 2, replace=False)
    colours = tuple(COLOURS[i] for i in rng.choice(len(COLOURS), 2, replace=False))
    match family:
        case "general":
            assert scene.trail is not None
            cell = scene.at(scene.trail)
            assert cell is not None
            return Question(kind, (cell[0],), start=scene.trail)
        case "math":
            lines = [(n, i) for n in ("row", "col") for i in range(GRID) if _filled(scene, (n, i)) >= 5]
            return Question(kind, lines=(lines[rng.integers(len(lines))],)) if lines else None
        case "document":
            return Question(kind, lines=((name, int(two[0])), (name, int(two[1]))))
        case "science":
            first = int(rng.integers(GRID - 2))
            return Question(kind, colours[: 1 + (kind == "both")], ((name, first), (name, first + 2)))
        case _:
            steps = len(scene.walk) - 1
            return Question(kind, start=scene.walk[0], rule=scene.rule, steps=min(steps, _WRITTEN[kind]))


def _filled(scene: Scene, line: Line) -> int:
    name, i = line
    return sum(scene.at((i, j) if name == "row" else (j, i)) is not None for j in range(GRID))


_COLOUR = f"({'|'.join(COLOURS)})"
_PLACE = r"row (\d) col (\d)"
_LINE = r"(row|col) (\d)"
_RULE = ", ".join(f"{colour} ({'|'.join(DIRECTIONS)})" for colour in COLOURS)
_FORMS: dict[str, re.Pattern[str]] = {
    kind: re.compile(form)
    for kind, form in {
        "trail_end": rf"follow {_COLOUR} from {_PLACE}\. where is the 0",
        "trail_before": rf"follow {_COLOUR} from {_PLACE}\. what is before the 0",
        "sort_up": rf"sort {_LINE} up",
        "sort_down": rf"sort {_LINE} down",
        "larger": rf"how many times is {_LINE} more than {_LINE}",
        "same": rf"how many times is {_LINE} the same as {_LINE}",
        "count": rf"how many {_COLOUR} in {_LINE} to {_LINE}",
        "both": rf"how many {_COLOUR} and {_COLOUR} in {_LINE} to {_LINE}",
        "walk_end": rf"{_RULE}\. (\d{{1,2}}) steps from {_PLACE}\. where is the end",
        "walk_write": rf"{_RULE}\. (\d{{1,2}}) steps from {_PLACE}\. what is on the way",
    }.items()
}


def parse_question(text: str) -> Question:
    """The Question that a text asks. Raises ValueError when it is none of the demo's forms."""
    plain = re.sub(r"\s+([.,?])", r"\1", " ".join(text.lower().split())).rstrip("?. ")
    for kind, form in _FORMS.items():
        if found := form.fullmatch(plain):
            question = _filled_in(kind, found.groups())
            if _is_in_grid(question):
                return question
    raise ValueError(f"not a question of the demo world: {text!r}. Example: 'how many red in row 2 to row 4?'")


def _is_in_grid(question: Question) -> bool:
    lines = question.lines
    if question.family == "science" and (lines[0][0] != lines[1][0] or lines[0][1] > lines[1][1]):
        return False
    return all(0 <= i < GRID for _, i in lines) and (question.start is None or inside(question.start))


def _filled_in(kind: str, blanks: tuple[str, ...]) -> Question:
    colours = tuple(b for b in blanks if b in COLOURS)
    rule = tuple(b for b in blanks if b in DIRECTIONS)
    numbers = [int(b) for b in blanks if b.isdigit()]
    lines = tuple(zip((b for b in blanks if b in ("row", "col")), (n - 1 for n in numbers), strict=False))
    if kind.startswith(("trail", "walk")):
        steps = numbers.pop(0) if kind.startswith("walk") else 0
        return Question(kind, colours, start=(numbers[0] - 1, numbers[1] - 1), rule=rule, steps=steps)
    return Question(kind, colours, lines)
