"""The projection keeps the regions that matter and the variance that there is."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from trajkit.trajectory import project


def test_it_is_pca_of_the_regions_with_the_largest_mean_effect():
    x = np.random.default_rng(0).normal(size=(12, 50)) * np.linspace(0.1, 3, 50)
    kept = np.sort(np.argsort(-np.abs(x).mean(0))[:32])
    np.testing.assert_allclose(np.abs(project(x)), np.abs(PCA(3).fit_transform(x[:, kept])), atol=1e-9)


def test_the_sign_of_an_axis_is_that_of_its_largest_loading():
    """Otherwise the picture of a run may be mirrored from one machine to the next."""
    rising = np.outer(np.arange(4.0), [3, -1])  # the first region has the largest loading, so the axis rises with it
    assert (np.diff(project(rising)[:, 0]) > 0).all()
    np.testing.assert_allclose(project(-rising)[:, 0], -project(rising)[:, 0], atol=1e-12)


def test_few_steps_or_regions_leave_zero_columns():
    assert project(np.ones((1, 5))).tolist() == [[0, 0, 0]]
    flat = project([[0.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(flat[:, 1:], 0, atol=1e-12)
    assert project(np.zeros((0, 5))).shape == (0, 3)
    assert project(np.zeros((4, 0))).shape == (4, 3)
