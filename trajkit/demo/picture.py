"""Pictures of scenes: handwritten digits in colour, smudged cell by cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.cells import CELL_PX, COLOURS, RGB, developed, paper, spoil, write_digit
from trajkit.demo.digits import Glyphs, Split, glyphs
from trajkit.demo.grid import GRID, Position, Scene

IMAGE_PX = GRID * CELL_PX
_GREY = np.float32(0.42)


def smudges(rng: np.random.Generator, difficulty: float, centre: Position | None = None) -> NDArray[np.float64]:
    """How hard each cell is to read, (GRID, GRID) in [0, `difficulty`].

    Each cell draws its own share; a smudge of three to five cells across lies on `centre` (default: anywhere), and
    cells below it are the hardest, so a picture holds easy and hard cells.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must lie in [0, 1]; got {difficulty}")
    middle = np.array(centre if centre is not None else rng.integers(0, GRID, 2)) + rng.normal(0, 0.3, 2)
    where = np.indices((GRID, GRID)).transpose(1, 2, 0)  # (GRID, GRID, 2)
    distance = np.linalg.norm(where - middle, axis=-1)
    smudge = np.exp(-((distance / rng.uniform(1.4, 2.6)) ** 2))
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
    image = paper(rng, IMAGE_PX)
    for r, c in np.ndindex(GRID, GRID):
        at, hard = (r, c), float(hardness[r, c])
        if (cell := scene.at(at)) is not None:
            fade = np.float32(0.96 * hard)
            ink = RGB[COLOURS.index(cell[0])] * (1 - fade) + _GREY * fade
            write_digit(rng, image, at, source, cell[1], ink, 1 - 0.7 * hard)
        spoil(rng, image, at, hard)
    return developed(rng, image, hardness, grey=0.26, coloured=0.16)
