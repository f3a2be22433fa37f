"""Scenes: a grid of coloured digits and empty cells through which one colour runs as a trail or four as a walk.

A scene knows what is in each cell. Pictures of it are made by `picture`, questions about it by `questions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.cells import COLOURS, Cell

GRID = 6
PARTNER: Mapping[str, int] = {"red": 7, "green": 2, "blue": 5, "orange": 8}
"""The digit that goes with a colour in most training scenes and not in evaluation: what a model takes for granted."""
DIRECTIONS: Mapping[str, tuple[int, int]] = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}
USUAL_RULE: Mapping[str, str] = dict(zip(COLOURS, DIRECTIONS, strict=True))
"""Where each colour of a walk leads in most training questions."""

Position = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """What is truly in a picture: `cells[row][col]`, 0-based.

    trail: where the trail begins, None in a scene without one. walk: the positions of a walk in their order, () in a
    scene without one; rule: where each colour of it leads.
    """

    cells: tuple[tuple[Cell, ...], ...]
    trail: Position | None = None
    walk: tuple[Position, ...] = ()
    rule: tuple[str, ...] = tuple(USUAL_RULE.values())

    def at(self, at: Position) -> Cell:
        return self.cells[at[0]][at[1]]


def inside(at: Position) -> bool:
    """Whether a position lies in the grid."""
    return 0 <= at[0] < GRID and 0 <= at[1] < GRID


def beside(at: Position, direction: str) -> Position:
    """The position next to another, which may lie outside of the grid."""
    down, right = DIRECTIONS[direction]
    return at[0] + down, at[1] + right


def wrapped(at: Position) -> Position:
    """A position that left the grid comes in at the other side."""
    return at[0] % GRID, at[1] % GRID


def neighbours(at: Position) -> Iterator[Position]:
    """The positions of the grid beside another."""
    yield from (to for direction in DIRECTIONS if inside(to := beside(at, direction)))


def draw_scene(rng: np.random.Generator, habit: float = 0.0, usual: float = 1.0, fill: float = 0.85) -> Scene:
    """A random scene, with a trail or with a walk.

    habit: the share of digits that are their colour's PARTNER, beyond chance. usual: how often a walk has the
    USUAL_RULE. fill: the share of the other cells that are not empty.
    """
    if not (0 <= habit <= 1 and 0 <= usual <= 1 and 0 < fill <= 1):
        raise ValueError(f"habit, usual and fill are shares of 1; got {habit}, {usual} and {fill}")
    return (_with_trail if rng.random() < 0.5 else _with_walk)(rng, habit, usual, fill)


def _with_trail(rng: np.random.Generator, habit: float, usual: float, fill: float) -> Scene:
    path = _path(rng)
    cells = set(path)
    for _ in range(int(rng.integers(1, 4))):  # side branches
        at = path[int(rng.integers(1, len(path) - 1))]
        for _ in range(int(rng.integers(1, 4))):
            ways = [to for to in neighbours(at) if _extends(to, cells) and path[-1] not in neighbours(to)]
            if not ways:
                break
            at = ways[rng.integers(len(ways))]
            cells.add(at)
    trail = int(rng.integers(len(COLOURS)))
    colour = (trail + rng.integers(1, len(COLOURS), (GRID, GRID))) % len(COLOURS)
    colour[tuple(zip(*cells, strict=True))] = trail
    filled = rng.random((GRID, GRID)) < fill
    filled[tuple(zip(*cells, strict=True))] = True
    digit = _digits(rng, colour, habit)
    for at in cells:  # the only 0 of the trail is at its end
        digit[at] = digit[at] or rng.integers(1, 10)
    digit[path[-1]] = 0
    return Scene(_cells(colour, digit, filled), trail=path[0])


def _path(rng: np.random.Generator) -> list[Position]:
    """A way of 8 to 13 cells that never touches itself."""
    while True:
        length = int(rng.integers(8, 14))
        path = [(int(rng.integers(GRID)), int(rng.integers(GRID)))]
        while len(path) < length:
            ways = [to for to in neighbours(path[-1]) if _extends(to, set(path))]
            if not ways:
                break
            path.append(ways[rng.integers(len(ways))])
        if len(path) >= 8:
            return path


def _extends(to: Position, cells: set[Position]) -> bool:
    return to not in cells and sum(near in cells for near in neighbours(to)) == 1


def _with_walk(rng: np.random.Generator, habit: float, usual: float, fill: float) -> Scene:
    rule = list(DIRECTIONS)
    if rng.random() >= usual:
        while rule == list(DIRECTIONS):
            rule = [rule[i] for i in rng.permutation(len(rule))]
    colour = rng.integers(0, len(COLOURS), (GRID, GRID))
    filled = rng.random((GRID, GRID)) < fill
    walk = _lay_walk(rng, rule, colour, filled)
    digit = _digits(rng, colour, habit)
    return Scene(_cells(colour, digit, filled), walk=walk, rule=tuple(rule))


def _lay_walk(
    rng: np.random.Generator, rule: list[str], colour: NDArray[np.int64], filled: NDArray[np.bool_]
) -> tuple[Position, ...]:
    """Colours for a walk of 8 to 12 steps, in place, and its positions; it may run into itself after six."""
    steps = int(rng.integers(8, 13))
    while True:
        at: Position = (int(rng.integers(GRID)), int(rng.integers(GRID)))
        walk, laid, towards = [at], dict[Position, str](), ""
        for _ in range(steps):
            if at in laid:
                towards = laid[at]
            else:
                ways = [
                    d for d in rule if (to := wrapped(beside(at, d))) not in laid or len(laid) - walk.index(to) >= 6
                ]
                if not ways:
                    break
                goes_on = towards in ways and rng.random() < 0.1  # an empty cell keeps the direction
                towards = towards if goes_on else ways[rng.integers(len(ways))]
                laid[at] = towards
                filled[at] = not goes_on
                colour[at] = rule.index(towards)
            at = wrapped(beside(at, towards))
            walk.append(at)
        if len(walk) == steps + 1 and _is_walk(walk, rule, colour, filled):
            return tuple(walk)


def _is_walk(walk: list[Position], rule: list[str], colour: NDArray[np.int64], filled: NDArray[np.bool_]) -> bool:
    """Whether the colours lead along the walk: an empty cell entered again from another side would not."""
    towards = ""
    for at, to in pairwise(walk):
        towards = rule[colour[at]] if filled[at] else towards
        if not towards or wrapped(beside(at, towards)) != to:
            return False
    return True


def _digits(rng: np.random.Generator, colour: NDArray[np.int64], habit: float) -> NDArray[np.int64]:
    partner = np.array([PARTNER[name] for name in COLOURS])[colour]
    return np.where(rng.random(colour.shape) < habit, partner, rng.integers(0, 10, colour.shape))


def _cells(
    colour: NDArray[np.int64], digit: NDArray[np.int64], filled: NDArray[np.bool_]
) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        tuple((COLOURS[colour[r, c]], int(digit[r, c])) if filled[r, c] else None for c in range(GRID))
        for r in range(GRID)
    )
