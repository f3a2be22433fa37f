"""A space keeps the regions that matter and the variance that there is; a grid keeps what a step adds up to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from trajkit.errors import InputError
from trajkit.trajectory import Space, on_grid, project


def test_projecting_is_pca_of_the_regions_with_the_largest_mean_effect():
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


def test_explained_variance_is_that_of_all_regions():
    x = np.random.default_rng(1).normal(size=(30, 6)) * [5, 4, 3, 1, 1, 1]
    np.testing.assert_allclose(Space.fit(x, dims=6).explained, PCA(6).fit(x).explained_variance_ratio_)
    kept = Space.fit(x, top=3, dims=3)
    assert kept.explained.sum() == pytest.approx(x[:, kept.kept].var(0).sum() / x.var(0).sum())
    np.testing.assert_array_equal(Space.fit(np.ones((4, 3))).explained, 0)


def test_a_space_of_several_runs_is_the_same_for_each_of_them_and_survives_json():
    first, second = np.random.default_rng(2).normal(size=(2, 8, 10))
    space = Space.fit(np.concatenate([first, second]), top=6, dims=2)
    both = PCA(2).fit(np.concatenate([first, second])[:, space.kept])
    np.testing.assert_allclose(np.abs(space.transform(second)), np.abs(both.transform(second[:, space.kept])))
    again = Space.from_state(json.loads(json.dumps(space.to_state())))
    np.testing.assert_array_equal(again.transform(first), space.transform(first))


def test_a_space_shows_a_step_as_it_did_before_the_next_ones_came():
    """A basis fitted beforehand can be used online."""
    earlier, run = np.random.default_rng(3).normal(size=(2, 20, 7))
    space = Space.fit(earlier)
    np.testing.assert_allclose(space.transform(run)[:5], space.transform(run[:5]), atol=1e-12)


@pytest.mark.parametrize("change", [{"kept": [0, 9]}, {"centre": [0.0]}, {"axes": [[1.0]]}, {"n_regions": None}])
def test_a_damaged_space_is_refused(change):
    state = Space.fit(np.eye(4), top=2, dims=2).to_state() | change
    with pytest.raises(InputError, match="a saved space is damaged"):
        Space.from_state(state)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="at least one dimension"):
        Space.fit(np.eye(3), dims=0)
    with pytest.raises(InputError, match="finite effects"):
        Space.fit(np.full((3, 3), np.nan))
    with pytest.raises(InputError, match="fitted on 3 regions; got effects of 2"):
        Space.fit(np.eye(3)).transform(np.ones((4, 2)))
    with pytest.raises(InputError, match="map of regions 0 … 1"):
        on_grid(np.ones((1, 2)), np.full((4, 4), 2))


def test_a_region_is_shared_over_the_cells_it_covers_by_area():
    labels = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
    cells = on_grid([[3.0, 1.0]], labels, (1, 2))
    np.testing.assert_allclose(cells, [[2, 2]])  # two thirds of region 0, the rest of it and all of region 1
    np.testing.assert_allclose(on_grid([[3.0, 1.0]], labels, (2, 4)), [[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])


@pytest.mark.parametrize("size", [(64, 48), (5, 7), (3, 2)])
def test_the_cells_of_a_step_add_up_to_its_regions_at_any_size(size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, size)
    labels.flat[:6] = np.arange(6)
    effects = rng.normal(size=(9, 6))
    np.testing.assert_allclose(on_grid(effects, labels).sum(1), effects.sum(1))


def test_paths_on_different_cuttings_of_one_image_are_alike_on_the_grid():
    """Four quarters, or the same quarters in halves that share the effect: one path."""
    quarters = np.arange(4).reshape(2, 2).repeat(8, 0).repeat(8, 1)
    halves = np.arange(8).reshape(2, 4).repeat(8, 0).repeat(4, 1)
    effects = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(on_grid(effects, quarters), on_grid(effects.repeat(2, 1) / 2, halves))
