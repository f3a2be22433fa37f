"""Which regions of the picture a sentence of the demo world names."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.cells import CELL_PX
from trajkit.traces.trace import Trace

_PLACE = re.compile(r"\brow\s+(\d{1,3})\s+col\s+(\d{1,3})\b", re.IGNORECASE)


def named_cells(trace: Trace) -> NDArray[np.bool_]:
    """(T, K) the regions of the cells that each step names, "row 2 col 3" of a grid of cells of 32 pixels, as many as
    the picture holds; none where it names a cell outside of it, or the run has no regions."""
    found = np.zeros(trace.effects.shape, bool)
    if trace.n_regions:
        for row, step in zip(found, trace.steps, strict=True):
            row[:] = regions_of(trace.regions, trace.n_regions, places(step.text))
    return found


def places(text: str) -> list[tuple[int, int]]:
    """The cells that a text names, (row, column) from 0."""
    return [(int(row) - 1, int(col) - 1) for row, col in _PLACE.findall(text)]


def regions_of(labels: NDArray[np.integer], n_regions: int, cells: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """(K,) the regions that lie in those cells by half of their area or more, or fill half of one or more.

    labels: (H, W) label map, 0..K-1.
    """
    found = np.zeros(n_regions, bool)
    area = np.bincount(labels.ravel(), minlength=n_regions)
    for row, col in cells:
        if row < 0 or col < 0:
            continue
        here = labels[row * CELL_PX : (row + 1) * CELL_PX, col * CELL_PX : (col + 1) * CELL_PX]
        inside = np.bincount(here.ravel(), minlength=n_regions)
        found |= (inside > 0) & ((2 * inside >= area) | (2 * inside >= CELL_PX**2))
    return found
