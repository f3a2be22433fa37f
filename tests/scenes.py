"""Clean scenes of test digits."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trajkit.demo.grid import GRID, Scene, draw_scene
from trajkit.demo.picture import paint


def clean_scene(rng: np.random.Generator) -> tuple[Scene, Image.Image]:
    """A random scene in which nothing is hard to read, and its picture."""
    scene = draw_scene(rng)
    return scene, Image.fromarray(paint(rng, scene, "test", np.zeros((GRID, GRID))))
