"""Pictures of scenes: handwritten digits in colour, smudged cell by cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.digits import GLYPH_PX, Glyphs, Split, glyphs
from trajkit.demo.grid import COLOURS, GRID, Position, Scene

CELL_PX = 32
IMAGE_PX = GRID * CELL_PX
_RGB = np.array([[0.82, 0.10, 0.12], [0.05, 0.55, 0.18], [0.10, 0.22, 0.85], [0.95, 0.55, 0.05]], dtype=np.float32)
_GREY = np.float32(0.42)
_PAPER = np.array([0.96, 0.95, 0.92], dtype=np.float32)
_MARGIN = (CELL_PX - GLYPH_PX) // 2


def smudges(rng: np.random.Generator, difficulty: float, centre: Position | None = None) -> NDArray[np.float64]:
    """How hard each cell is to read, (GRID, GRID) in [0, `difficulty`].

    Each cell draws its own share; a smudge of two to three cells across lies on `centre` (default: anywhere), and cells
    below it are the hardest, so a picture holds easy and hard cells.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must lie in [0, 1]; got {difficulty}")
    middle = np.array(centre if centre is not None else rng.integers(0, GRID, 2)) + rng.normal(0, 0.3, 2)
    where = np.indices((GRID, GRID)).transpose(1, 2, 0)  # (GRID, GRID, 2)
    distance = np.linalg.norm(where - middle, axis=-1)
    smudge = np.exp(-((distance / rng.uniform(1.0, 1.8)) ** 2))
    share = rng.random((GRID, GRID)) ** 0.7
    return difficulty * np.maximum(0.6 * share, smudge * rng.uniform(0.7, 1.0, (GRID, GRID)))


def paint(
    rng: np.random.Generator, scene: Scene, split: Split, hardness: NDArray[np.float64], source: Glyphs | None = None
) -> NDArray[np.uint8]:
    """The picture of a scene, (IMAGE_PX, IMAGE_PX, 3) uint8.

    hardness: (GRID, GRID) in [0, 1] (`smudges`): a hard cell has less contrast and colour, more noise, bars and stray
    strokes. source: other glyphs than the split's.
    """
    source = source or glyphs(split)
    image = np.empty((IMAGE_PX, IMAGE_PX, 3), dtype=np.float32)
    image[:] = _PAPER + rng.normal(0, 0.012, 3).astype(np.float32)
    for r in range(GRID):
        for c in range(GRID):
            hard = float(hardness[r, c])
            if (cell := scene.at((r, c))) is not None:
                top, left = (np.array([r, c]) * CELL_PX + _MARGIN + rng.integers(-2, 3, 2)).tolist()
                top, left = max(top, 0), max(left, 0)
                view = image[top : top + GLYPH_PX, left : left + GLYPH_PX]
                pick = source.by_digit[cell[1]]
                ink = source.images[pick[rng.integers(len(pick))]][: view.shape[0], : view.shape[1], None]
                fade = np.float32(0.88 * hard)
                tint = _RGB[COLOURS.index(cell[0])] * (1 - fade) + _GREY * fade
                view += (1 - 0.55 * hard) * rng.uniform(0.9, 1.0) * ink * (tint - view)
            _spoil(image[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX], hard, rng)
    if hardness.any():
        per_pixel = np.kron(hardness, np.ones((CELL_PX, CELL_PX))).astype(np.float32)[..., None]
        noise = rng.standard_normal((IMAGE_PX, IMAGE_PX, 4), dtype=np.float32)
        image += (0.02 * (per_pixel > 0) + 0.26 * per_pixel) * noise[..., :1] + 0.10 * per_pixel * noise[..., 1:]
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


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
