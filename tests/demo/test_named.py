"""What a sentence of the demo world names: cells of 32 pixels, in a picture of any number of them."""

from __future__ import annotations

import numpy as np

from tests.traces.factory import make_trace
from trajkit.demo.named import named_cells, places, regions_of
from trajkit.traces.trace import Step

GRID = np.kron(np.arange(36).reshape(6, 6), np.ones((32, 32), int))
"""6 × 6 cells, a region each."""


def test_the_cells_of_a_text():
    assert places("wait, Row 2 col 3 is red 5, and row 6 col 1 is not.") == [(1, 2), (5, 0)]
    assert places("follow red. row three col 2. arrow 2 col 3. row 2") == []


def test_each_cell_has_its_region_in_a_picture_of_any_size():
    for row in range(6):
        for col in range(6):
            assert np.flatnonzero(regions_of(GRID, 36, [(row, col)])).tolist() == [6 * row + col]
    assert np.flatnonzero(regions_of(GRID[:, :64], 36, [(5, 1), (5, 2)])).tolist() == [31]  # no third column
    assert not regions_of(GRID, 36, [(6, 0), (0, 6), (-1, 0), (0, -1), (999, 999)]).any()


def test_a_region_counts_where_half_of_it_is_in_the_cell_or_half_of_the_cell_in_it():
    labels = np.zeros((64, 64), int)
    labels[:32, :16] = 1  # half of the first cell
    labels[:32, 16:40] = 2  # the other half, and reaches beyond: two thirds of it are inside
    labels[32:, 32:] = 3
    labels[40:44, 34:38] = 4  # small, wholly inside the last cell
    assert np.flatnonzero(regions_of(labels, 5, [(0, 0)])).tolist() == [1, 2]
    assert np.flatnonzero(regions_of(labels, 5, [(0, 1)])).tolist() == [0]
    assert np.flatnonzero(regions_of(labels, 5, [(1, 1)])).tolist() == [3, 4]
    assert np.flatnonzero(regions_of(labels, 5, [(0, 0), (1, 1)])).tolist() == [1, 2, 3, 4]


def test_a_row_is_a_step_of_the_run_the_answer_too():
    texts = ("row 1 col 2 is red 5.", "so.", "draw 1 2 red 5")
    run = make_trace(
        0,
        steps=tuple(
            Step(text, kind, i, i + 1, -0.1, 0.1)
            for i, (text, kind) in enumerate(zip(texts, ("thinking", "thinking", "answer"), strict=True))
        ),
        effects=np.zeros((3, 36), np.float32),
        regions=GRID,
    )
    named = named_cells(run)
    assert named.shape == (3, 36)
    assert named.dtype == bool
    assert [np.flatnonzero(row).tolist() for row in named] == [[1], [], []]
    bare = make_trace(0, effects=np.zeros((3, 0), np.float32), regions=np.zeros((0, 0), int), effects_kind=None)
    assert named_cells(bare).shape == (3, 0)
