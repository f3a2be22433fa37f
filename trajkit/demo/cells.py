"""A cell of a picture: its size and inks, the digit in it, and what makes it hard to read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.digits import GLYPH_PX, Glyphs

CELL_PX = 32
COLOURS: tuple[str, ...] = ("red", "green", "blue", "orange")
RGB = np.array([[0.82, 0.10, 0.12], [0.05, 0.55, 0.18], [0.10, 0.22, 0.85], [0.95, 0.55, 0.05]], dtype=np.float32)
"""The ink of each of COLOURS."""
_PAPER = np.array([0.96, 0.95, 0.92], dtype=np.float32)
_MARGIN = (CELL_PX - GLYPH_PX) // 2
Picture = NDArray[np.float32]
"""(H, W, 3), in [0, 1] but for noise."""

Cell = tuple[str, int] | None
"""(colour, digit), or None for an empty cell."""


def paper(rng: np.random.Generator, size: int) -> Picture:
    """An empty picture, (`size`, `size`, 3)."""
    image = np.empty((size, size, 3), dtype=np.float32)
    image[:] = _PAPER + rng.normal(0, 0.012, 3).astype(np.float32)
    return image


def write_digit(
    rng: np.random.Generator,
    image: Picture,
    at: tuple[int, int],
    glyphs: Glyphs,
    digit: int,
    ink: Picture,
    contrast: float,
) -> None:
    """A digit in a cell, in place, a little off its middle. ink: (3,) colour. contrast: at most 1."""
    top, left = (np.array(at) * CELL_PX + _MARGIN + rng.integers(-2, 3, 2)).tolist()
    top, left = max(top, 0), max(left, 0)
    view = image[top : top + GLYPH_PX, left : left + GLYPH_PX]
    pick = glyphs.by_digit[digit]
    shape = glyphs.images[pick[rng.integers(len(pick))]][: view.shape[0], : view.shape[1], None]
    view += contrast * rng.uniform(0.9, 1.0) * shape * (ink - view)


def spoil(rng: np.random.Generator, image: Picture, where: tuple[int, int], hardness: float) -> None:
    """Occlusion and clutter on a cell, in place."""
    r, c = where
    cell = image[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX]
    if hardness > 0.25 and rng.random() < hardness:  # a paper-coloured bar hides part of the digit
        width = int(2 + 7 * hardness * rng.random())
        at = int(rng.integers(6, CELL_PX - 6 - width))
        if rng.random() < 0.5:
            cell[at : at + width] = _PAPER
        else:
            cell[:, at : at + width] = _PAPER
    if hardness > 0.25 and rng.random() < hardness:  # a stray stroke
        shade = RGB[rng.integers(len(COLOURS))] * 0.5 + 0.35
        (r0, c0), (r1, c1) = rng.integers(3, CELL_PX - 3, (2, 2))
        t = np.linspace(0, 1, 24)
        rows, cols = np.round(r0 + t * (r1 - r0)).astype(int), np.round(c0 + t * (c1 - c0)).astype(int)
        cell[rows, cols] = shade
        cell[np.minimum(rows + 1, CELL_PX - 1), cols] = shade


def developed(
    rng: np.random.Generator, image: Picture, hardness: NDArray[np.float64], grey: float, coloured: float
) -> NDArray[np.uint8]:
    """The finished picture, with noise on the cells that are hard to read; grey, coloured: how much of each."""
    if hardness.any():
        per_pixel = np.kron(hardness, np.ones((CELL_PX, CELL_PX))).astype(np.float32)[..., None]
        noise = rng.standard_normal((*image.shape[:2], 4), dtype=np.float32)
        image += (0.02 * (per_pixel > 0) + grey * per_pixel) * noise[..., :1] + coloured * per_pixel * noise[..., 1:]
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
