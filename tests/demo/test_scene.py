"""Scenes: what is drawn is what is recorded, and no digit image is in two splits."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.demo.digits import SPLITS, glyphs
from trajkit.demo.scene import CELL_PX, COLOURS, GRID, draw_scene


def test_every_digit_image_belongs_to_exactly_one_split():
    seen = [image.tobytes() for split in SPLITS for image in glyphs(split).images]
    assert len(seen) == 1797
    assert len(set(seen)) == len({i.tobytes() for s in SPLITS for i in glyphs(s).images})
    train, test = ({i.tobytes() for i in glyphs(s).images} for s in ("train", "test"))
    assert not train & test
    assert all(len(rows) > 10 for split in SPLITS for rows in glyphs(split).by_digit)


def test_a_scene_is_drawn_as_it_is_recorded():
    """On clean scenes the mean colour of a cell's ink names its colour, and empty cells hold no ink."""
    rng, right = np.random.default_rng(0), []
    names = {
        "red": (0.82, 0.1, 0.12),
        "green": (0.05, 0.55, 0.18),
        "blue": (0.1, 0.22, 0.85),
        "orange": (0.95, 0.55, 0.05),
    }
    for _ in range(5):
        scene, image = draw_scene(rng, "train", 0.0)
        for r in range(GRID):
            for c in range(GRID):
                cell = image[r * CELL_PX : (r + 1) * CELL_PX, c * CELL_PX : (c + 1) * CELL_PX].reshape(-1, 3) / 255
                ink = cell[np.abs(cell - np.median(cell, 0)).max(1) > 0.45]
                truth = scene.at(r, c)
                if truth is None:
                    assert len(ink) < 25  # a neighbour may reach over the border
                else:
                    nearest = min(COLOURS, key=lambda k: np.abs(ink.mean(0) - names[k]).sum())
                    right.append(nearest == truth[0])
    assert np.mean(right) > 0.95


def test_difficulty_hides_digits_and_the_same_seed_draws_the_same_scene():
    clean, hard = (draw_scene(np.random.default_rng(3), "test", d) for d in (0.0, 1.0))
    assert clean[1].shape == (128, 128, 3)
    assert max(map(max, clean[0].hardness)) == 0 < max(map(max, hard[0].hardness)) <= 1
    again = draw_scene(np.random.default_rng(3), "test", 1.0)
    assert again[0] == hard[0]
    np.testing.assert_array_equal(again[1], hard[1])


def test_unknown_splits_and_difficulties_are_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        glyphs("holdout")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"difficulty must lie in \[0, 1\]"):
        draw_scene(np.random.default_rng(0), "train", 1.5)
