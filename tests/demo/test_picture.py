"""Pictures: what is painted is what the scene holds, and a smudge hides what lies under it."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.demo.grid import COLOURS, GRID, draw_scene
from trajkit.demo.picture import CELL_PX, IMAGE_PX, paint, smudges

NAMES = {"red": (0.82, 0.1, 0.12), "green": (0.05, 0.55, 0.18), "blue": (0.1, 0.22, 0.85), "orange": (0.95, 0.55, 0.05)}


def ink(image, r, c):
    cell = image[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX].reshape(-1, 3) / 255
    return cell[np.abs(cell - np.median(cell, 0)).max(1) > 0.45]


def test_a_clean_picture_shows_the_colours_of_its_scene_and_nothing_in_empty_cells():
    right = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng)
        image = paint(rng, scene, "train", np.zeros((GRID, GRID)))
        assert image.shape == (IMAGE_PX, IMAGE_PX, 3)
        for r, c in np.ndindex(GRID, GRID):
            cell, pixels = scene.at((r, c)), ink(image, r, c)
            if cell is None:
                assert len(pixels) < 25  # a neighbour may reach over the border
            else:
                nearest = min(COLOURS, key=lambda k: np.abs(pixels.mean(0) - NAMES[k]).sum())
                right.append(nearest == cell[0])
    assert np.mean(right) > 0.95


def test_a_smudge_is_hardest_where_it_lies_and_no_harder_than_the_difficulty():
    hard = np.mean([smudges(np.random.default_rng(i), 0.8, (1, 4)) for i in range(100)], axis=0)
    assert np.unravel_index(hard.argmax(), hard.shape) == (1, 4)
    assert hard.max() > 2 * hard[5, 0]
    assert max(smudges(np.random.default_rng(i), 0.8).max() for i in range(100)) <= 0.8
    assert not smudges(np.random.default_rng(0), 0.0).any()
    with pytest.raises(ValueError, match=r"difficulty must lie in \[0, 1\]; got 2"):
        smudges(np.random.default_rng(0), 2)


def test_a_hard_cell_loses_its_colour():
    scene = draw_scene(np.random.default_rng(0))

    def spread(hardness):
        all_cells = np.full((GRID, GRID), hardness)
        pictures = [paint(np.random.default_rng(i), scene, "test", all_cells) for i in range(12)]
        return np.ptp(np.mean(pictures, 0), axis=-1).mean()

    assert spread(1.0) < 0.6 * spread(0.0)
