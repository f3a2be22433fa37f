"""Scenes: a grid of coloured handwritten digits and empty cells, drawn at a chosen difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.digits import GLYPH_PX, Glyphs, Split, glyphs

GRID = 4
CELL_PX = 32
IMAGE_PX = GRID * CELL_PX
COLOURS: tuple[str, ...] = ("red", "green", "blue", "orange")
_RGB = np.array([[0.82, 0.10, 0.12], [0.05, 0.55, 0.18], [0.10, 0.22, 0.85], [0.95, 0.55, 0.05]], dtype=np.float32)
_PAPER = np.array([0.96, 0.95, 0.92], dtype=np.float32)
_MARGIN = (CELL_PX - GLYPH_PX) // 2

Cell = tuple[str, int] | None
"""(colour, digit), or None for an empty cell."""


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

    image = np.empty((IMAGE_PX, IMAGE_PX, 3), dtype=np.float32)
    image[:] = _PAPER + rng.normal(0, 0.012, 3).astype(np.float32)
    for r in range(GRID):
        for c in range(GRID):
            if filled[r, c]:
                top, left = (np.array([r, c]) * CELL_PX + _MARGIN + rng.integers(-2, 3, 2)).tolist()
                top, left = max(top, 0), max(left, 0)
                view = image[top : top + GLYPH_PX, left : left + GLYPH_PX]
                pick = source.by_digit[digit[r, c]]
                ink = source.images[pick[rng.integers(len(pick))]][: view.shape[0], : view.shape[1], None]
                strength = (1 - 0.62 * hardness[r, c]) * rng.uniform(0.9, 1.0)
                view += strength * ink * (_RGB[colour[r, c]] - view)
            _spoil(image[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX], float(hardness[r, c]), rng)
    if difficulty > 0:
        per_pixel = np.kron(hardness, np.ones((CELL_PX, CELL_PX))).astype(np.float32)[..., None]
        noise = rng.standard_normal((IMAGE_PX, IMAGE_PX, 4), dtype=np.float32)
        image += (0.02 * (per_pixel > 0) + 0.30 * per_pixel) * noise[..., :1] + 0.08 * per_pixel * noise[..., 1:]
    cells = tuple(
        tuple((COLOURS[colour[r, c]], int(digit[r, c])) if filled[r, c] else None for c in range(GRID))
        for r in range(GRID)
    )
    spoilt = tuple(tuple(float(h) for h in row) for row in hardness)
    return Scene(cells, spoilt), (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _spoil(cell: NDArray[np.float32], hardness: float, rng: np.random.Generator) -> None:
    """Occlusion and clutter on one cell, in place."""
    if hardness > 0.25 and rng.random() < hardness:  # a paper-coloured bar hides part of the digit
        width = int(2 + 7 * hardness * rng.random())
        at = int(rng.integers(6, CELL_PX - 6 - width))
        if rng.random() < 0.5:
            cell[at : at + width] = _PAPER
        else:
            cell[:, at : at + width] = _PAPER
    if hardness > 0.25 and rng.random() < hardness:  # a stray stroke
        shade = _RGB[rng.integers(len(COLOURS))] * 0.5 + 0.35
        (r0, c0), (r1, c1) = rng.integers(3, CELL_PX - 3, (2, 2))
        t = np.linspace(0, 1, 24)
        rows, cols = np.round(r0 + t * (r1 - r0)).astype(int), np.round(c0 + t * (c1 - c0)).astype(int)
        cell[rows, cols] = shade
        cell[np.minimum(rows + 1, CELL_PX - 1), cols] = shade
