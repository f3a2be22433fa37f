"""Questions about a scene, in five families, and the answer that a set of readings implies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trajkit.demo.scene import COLOURS, GRID, Cell, Scene

FAMILIES: tuple[str, ...] = ("general", "math", "document", "science", "code")
Position = tuple[int, int]
Readings = Mapping[Position, Cell]


def article(colour: str) -> str:
    """The colour with its indefinite article."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}"


@dataclass(frozen=True)
class Task:
    """One question. `kind` names its form; the other fields are its blanks, None where the form has no such blank."""

    family: str
    kind: str
    line: tuple[str, int] | None = None
    colours: tuple[str, ...] = ()
    digit: int | None = None
    pair: tuple[Position, Position] | None = None

    @property
    def question(self) -> str:
        line = f"{self.line[0]} {self.line[1] + 1}" if self.line else ""
        c = self.colours
        match self.kind:
            case "present":
                return f"is there {article(c[0])} {self.digit}?"
            case "present_line":
                return f"is there {article(c[0])} {self.digit} in {line}?"
            case "sum_line":
                return f"what is the sum of {line}?"
            case "sum_colour":
                return f"what is the sum of the {c[0]} digits?"
            case "difference":
                assert self.pair is not None
                (a, b), (d, e) = self.pair
                return f"what is row {a + 1} col {b + 1} minus row {d + 1} col {e + 1}?"
            case "read":
                return f"read {line}."
            case "count":
                return f"how many {c[0]} digits are there?"
            case "largest":
                return f"what is the largest {c[0]} digit?"
            case "more":
                return f"are there more {c[0]} than {c[1]} digits?"
            case "draw":
                return f"write commands to draw {line}."
        raise ValueError(f"unknown task kind {self.kind!r}")

    def relevant(self, scene: Scene) -> list[Position]:
        """The cells that a careful reader visits, in reading order."""
        if self.pair:
            return list(self.pair)
        if self.line:
            name, i = self.line
            return [(i, j) if name == "row" else (j, i) for j in range(GRID)]
        return [at for colour in self.colours for at in scene.where(colour)]

    def answer(self, readings: Readings) -> str:
        """The answer implied by `readings` (cell position → what was read there); unread cells count as empty."""
        if self.line:
            name, i = self.line
            line = [(i, j) if name == "row" else (j, i) for j in range(GRID)]
        else:
            line = sorted(readings)
        cells = [(at, readings.get(at)) for at in line]
        seen = [(at, cell) for at, cell in cells if cell is not None]
        of = [[digit for _, (colour, digit) in seen if colour == wanted] for wanted in self.colours]
        match self.kind:
            case "present" | "present_line":
                return "yes" if self.digit in of[0] else "no"
            case "sum_line":
                return str(sum(digit for _, (_, digit) in seen))
            case "sum_colour":
                return str(sum(of[0]))
            case "difference":
                assert self.pair is not None
                a, b = (readings.get(at) for at in self.pair)
                return str((a[1] if a else 0) - (b[1] if b else 0)).replace("-", "minus ")
            case "read":
                return " ".join("empty" if cell is None else str(cell[1]) for _, cell in cells)
            case "count":
                return str(len(of[0]))
            case "largest":
                return str(max(of[0])) if of[0] else "none"
            case "more":
                return "yes" if len(of[0]) > len(of[1]) else "no"
            case "draw":
                return "; ".join(f"draw {r + 1} {c + 1} {k} {d}" for (r, c), (k, d) in seen) or "nothing"
        raise ValueError(f"unknown task kind {self.kind!r}")

    def truth(self, scene: Scene) -> str:
        """The right answer."""
        return self.answer({at: scene.at(*at) for at in self.relevant(scene)})


def draw_task(rng: np.random.Generator, scene: Scene, family: str | None = None) -> Task:
    """A random question that `scene` can answer, of `family` or of a random one."""
    family = family or FAMILIES[rng.integers(len(FAMILIES))]
    line = (("row", "col")[rng.integers(2)], int(rng.integers(GRID)))
    filled = [(r, c) for r in range(GRID) for c in range(GRID) if scene.at(r, c)]
    present = [k for k in COLOURS if scene.where(k)]
    match family:
        case "general":
            kind = ("present", "present_line")[rng.integers(2)]
            area = filled
            if kind == "present_line":
                where = Task(family, kind, line).relevant(scene)
                area = [at for at in where if scene.at(*at)]
            colour, digit = COLOURS[rng.integers(len(COLOURS))], int(rng.integers(10))
            if area and rng.random() < 0.9:  # a true object, or one that differs from a true object in one property
                shown = scene.at(*area[rng.integers(len(area))])
                assert shown is not None
                asked = rng.random()
                colour = shown[0] if asked < 0.8 else colour
                digit = shown[1] if asked < 0.55 or asked > 0.8 else digit
            return Task(family, kind, line if kind == "present_line" else None, (colour,), digit)
        case "math":
            kind = ("sum_line", "sum_colour", "difference")[rng.integers(3)]
            if kind == "difference" and len(filled) >= 2:
                a, b = (filled[i] for i in rng.choice(len(filled), 2, replace=False))
                if scene.at(*a)[1] < scene.at(*b)[1]:  # type: ignore[index]
                    a, b = b, a
                return Task(family, kind, pair=(a, b))
            summable = [k for k in present if len(scene.where(k)) <= GRID]
            if kind == "sum_colour" and summable:
                return Task(family, kind, colours=(summable[rng.integers(len(summable))],))
            return Task(family, "sum_line", line)
        case "document":
            return Task(family, "read", line)
        case "science":
            kind = ("count", "largest", "more")[rng.integers(3)]
            if kind == "largest" and present:
                return Task(family, kind, colours=(present[rng.integers(len(present))],))
            two = rng.choice(len(COLOURS), 2, replace=False)
            if kind == "more":
                return Task(family, kind, colours=(COLOURS[two[0]], COLOURS[two[1]]))
            return Task(family, "count", colours=(COLOURS[two[0]],))
        case "code":
            return Task(family, "draw", line)
    raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")


_COLOUR = f"({'|'.join(COLOURS)})"
_LINE = r"(row|col) (\d)"
_FORMS: tuple[tuple[str, str, str], ...] = (
    ("general", "present_line", rf"is there an? {_COLOUR} (\d) in {_LINE}"),
    ("general", "present", rf"is there an? {_COLOUR} (\d)"),
    ("math", "sum_line", rf"what is the sum of {_LINE}"),
    ("math", "sum_colour", rf"what is the sum of the {_COLOUR} digits"),
    ("math", "difference", r"what is row (\d) col (\d) minus row (\d) col (\d)"),
    ("document", "read", rf"read {_LINE}"),
    ("science", "count", rf"how many {_COLOUR} digits are there"),
    ("science", "largest", rf"what is the largest {_COLOUR} digit"),
    ("science", "more", rf"are there more {_COLOUR} than {_COLOUR} digits"),
    ("code", "draw", rf"write commands to draw {_LINE}"),
)


def parse_question(question: str) -> Task:
    """The Task that a question's text asks. Raises ValueError when it is none of the demo's forms."""
    text = " ".join(question.lower().split()).rstrip("?. ")
    for family, kind, form in _FORMS:
        if not (found := re.fullmatch(form, text)):
            continue
        blanks = found.groups()
        colours = tuple(b for b in blanks if b in COLOURS)
        numbers = [int(b) for b in blanks if b.isdigit()]
        lines = [b for b in blanks if b in ("row", "col")]
        if kind == "difference":
            a, b, c, d = (n - 1 for n in numbers)
            return Task(family, kind, pair=((a, b), (c, d)))
        line = (lines[0], numbers[-1] - 1) if lines else None
        digit = numbers[0] if kind.startswith("present") else None
        return Task(family, kind, line, colours, digit)
    raise ValueError(f"not a question of the demo world: {question!r}. Example: 'is there a red 7 in row 2?'")
