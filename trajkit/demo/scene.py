"""Scenes: a grid of coloured handwritten digits and empty cells, drawn at a chosen difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.cells import CELL_PX, COLOURS, RGB, Cell, developed, paper, spoil, write_digit
from trajkit.demo.digits import Glyphs, Split, glyphs

GRID = 4
IMAGE_PX = GRID * CELL_PX


@dataclass(frozen=True)
class Scene:
    """What is truly in an image: `cells[row][col]`, 0-based, and how hard each is to read, `hardness` in [0, 1]."""

    cells: tuple[tuple[Cell, ...], ...]
    hardness: tuple[tuple[float, ...], ...]

    def at(self, row: int, col: int) -> Cell:
        return self.cells[row][col]

    def where(self, colour: str) -> list[tuple[int, int]]:
        """Cells of one colour, in reading order."""
        return [(r, c) for r in range(GRID) for c in range(GRID) if (cell := self.cells[r][c]) and cell[0] == colour]


def draw_scene(
    rng: np.random.Generator, split: Split, difficulty: float = 0.0, fill: float = 0.62, source: Glyphs | None = None
) -> tuple[Scene, NDArray[np.uint8]]:
    """A random scene and its picture, (IMAGE_PX, IMAGE_PX, 3) uint8.

    `difficulty` in [0, 1] sets the worst that a cell can suffer of low contrast, noise, occluding bars and clutter;
    each cell draws its own share of it, so one scene holds easy and hard cells. source: other glyphs than the split's.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must lie in [0, 1]; got {difficulty}")
    source = source or glyphs(split)
    filled = rng.random((GRID, GRID)) < fill
    digit = rng.integers(0, 10, (GRID, GRID))
    colour = rng.integers(0, len(COLOURS), (GRID, GRID))
    hardness = difficulty * rng.random((GRID, GRID)) ** 0.7

    image = paper(rng, IMAGE_PX)
    for r, c in np.ndindex(GRID, GRID):
        if filled[r, c]:
            contrast = np.float64(1 - 0.62 * hardness[r, c])
            write_digit(rng, image, (r, c), source, int(digit[r, c]), RGB[colour[r, c]], contrast)
        spoil(rng, image, (r, c), float(hardness[r, c]))
    picture = developed(rng, image, hardness, grey=0.30, coloured=0.08)
    cells = tuple(
        tuple((COLOURS[colour[r, c]], int(digit[r, c])) if filled[r, c] else None for c in range(GRID))
        for r in range(GRID)
    )
    spoilt = tuple(tuple(float(h) for h in row) for row in hardness)
    return Scene(cells, spoilt), picture
