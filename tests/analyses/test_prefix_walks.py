"""Geometry against chance, on paths whose answer can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from analyses import prefix_walks
from analyses.prefix_walks import WALK
from trajkit.trajectory import path_length, tortuosity

LENGTH, TWIST, BACK = range(len(WALK))


@pytest.fixture
def random_paths():
    return np.random.default_rng(0).normal(size=(300, 6, 4))


def test_walks_are_those_of_one_path(random_paths) -> None:
    found = prefix_walks.walks(random_paths)
    for path, own in zip(random_paths[:20], found, strict=False):
        assert own[LENGTH] == pytest.approx(path_length(path))
        assert own[TWIST] == pytest.approx(np.log(tortuosity(path)))
    visits = np.eye(3)[[[0, 1, 0, 2], [0, 1, 2, 2], [1, 1, 1, 1]]]
    np.testing.assert_allclose(prefix_walks.walks(visits)[:, BACK], [1 / 3, 0, 0])


def test_of_some_steps_alone_a_path_is_the_path_through_them(random_paths) -> None:
    some = np.random.default_rng(1).random(random_paths.shape[:2]) < 0.6
    found = prefix_walks.walks(prefix_walks.of_some(random_paths, some))
    for path, kept, own in zip(random_paths[:50], some, found, strict=False):
        through = path[kept] if kept.any() else path[:1]
        np.testing.assert_allclose(own, prefix_walks.walks(through[None])[0])
    np.testing.assert_array_equal(prefix_walks.of_some(random_paths, np.full(some.shape, True)), random_paths)


def test_a_straight_line_is_shorter_and_straighter_than_its_points_in_another_order() -> None:
    line = np.arange(8.0)[None, :, None] * np.array([1.0, 2.0])
    z = prefix_walks.against_own_steps(line, 300, 0)[0]
    assert z[LENGTH] < -2
    assert z[TWIST] < -0.5
    zigzag = line[:, [0, 7, 1, 6, 2, 5, 3, 4]]
    assert prefix_walks.against_own_steps(zigzag, 300, 0)[0, LENGTH] > 1


@pytest.mark.parametrize("steps", [2, 6])
def test_a_random_order_has_z_scores_about_0_of_spread_1_whatever_the_number_of_steps(steps) -> None:
    paths = np.random.default_rng(steps).normal(size=(600, steps, 4)) * np.arange(1, 601)[:, None, None]
    every = prefix_walks.against_own_steps(paths, 200, 0)
    assert every[:, :BACK].any() == (steps > 2)
    z = every[:, LENGTH]
    assert abs(z.mean()) < 0.15
    assert z.std() == pytest.approx(1.0 if steps > 2 else 0.0, abs=0.15)  # of two steps all orders are alike


def test_other_runs_are_those_of_the_task_that_are_learned_from(random_paths) -> None:
    task = np.repeat([0, 1], 150)
    train = np.tile([True, False, True], 100)
    paths = random_paths * np.where(task == 1, 10.0, 1.0)[:, None, None]
    z = prefix_walks.against_other_runs(paths, task, train, 400, 0)
    for own in (task == 0, task == 1):
        assert abs(z[own, LENGTH].mean()) < 0.3
        assert z[own, LENGTH].std() == pytest.approx(1, abs=0.2)
    changed = np.where(train[:, None, None], paths, 7.0 * paths)
    moved = prefix_walks.against_other_runs(changed, task, train, 400, 0)
    np.testing.assert_allclose(moved[train], z[train])
    assert (moved[~train, LENGTH] > z[~train, LENGTH] + 5).all()


def test_dimensions_are_counted() -> None:
    line = np.arange(5.0)[:, None] * np.array([1.0, 2, 3])
    square = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0]])
    found = prefix_walks.effective_dimension(np.stack([line, square, np.ones((5, 3))]))
    np.testing.assert_allclose(found, [1, 2, np.nan])


def test_distance_is_to_the_nearest_of_other_groups() -> None:
    points = np.array([[0.0], [1.0], [4.0], [0.0]])
    group = np.array([0, 1, 2, 0])
    reference = np.array([True, True, True, False])
    scale = points[reference].std()
    found = prefix_walks.distance_to_successes(points, group, reference, k=1) * scale
    np.testing.assert_allclose(found, [1, 1, 3, 1])  # the last one's own scene holds the nearest
    found = prefix_walks.distance_to_successes(points, group, reference, k=2) * scale
    np.testing.assert_allclose(found, [2.5, 2, 3.5, 2.5])
    assert np.isnan(prefix_walks.distance_to_successes(points, np.zeros(4, int), reference)).all()
