"""Shared fixtures: the shipped demo model, and scenes of test digits to ask it about."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pytest
from PIL import Image

from trajkit.demo import paths


@pytest.fixture(scope="session")
def demo_vlm():
    """The shipped demo model."""
    import trajkit as tk

    return tk.load_vlm(paths.MODEL)


@pytest.fixture(scope="session")
def demo_estimator():
    """The shipped estimator."""
    import trajkit as tk

    return tk.EffectEstimator.load(paths.ESTIMATOR)


@pytest.fixture(scope="session")
def scene_image():
    """A clean scene of test digits as a picture."""
    from trajkit.demo.scene import draw_scene

    return Image.fromarray(draw_scene(np.random.default_rng(11), "test", 0.0)[1])
