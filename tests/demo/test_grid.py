"""Scenes: a trail leads to its only 0 and a walk goes where its colours say."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.demo.grid import COLOURS, DIRECTIONS, GRID, PARTNER, beside, draw_scene, inside, neighbours, wrapped


def scenes(n, **how):
    return [draw_scene(np.random.default_rng(i), **how) for i in range(n)]


def test_the_trail_of_a_scene_ends_at_the_only_zero_of_its_colour_that_touches_it():
    for scene in (s for s in scenes(60) if s.trail is not None):
        colour = scene.at(scene.trail)[0]
        trail, left = {scene.trail}, [scene.trail]
        while left:
            new = [to for to in neighbours(left.pop()) if to not in trail and (c := scene.at(to)) and c[0] == colour]
            trail |= set(new)
            left += new
        assert len(trail) >= 8
        assert sum(scene.at(at)[1] == 0 for at in trail) == 1
        elsewhere = [(r, c) for r in range(GRID) for c in range(GRID) if (r, c) not in trail]
        assert all((cell := scene.at(at)) is None or cell[0] != colour for at in elsewhere)


def test_a_walk_goes_where_its_colours_lead_and_an_empty_cell_keeps_the_direction():
    loops = empties = 0
    for scene in (s for s in scenes(200, usual=0.5) if s.walk):
        towards = ""
        assert 9 <= len(scene.walk) <= 13
        for at, to in zip(scene.walk, scene.walk[1:], strict=False):
            cell = scene.at(at)
            towards = scene.rule[COLOURS.index(cell[0])] if cell else towards
            assert wrapped(beside(at, towards)) == to
            empties += cell is None
        loops += len(set(scene.walk)) < len(scene.walk)
        assert len(set(scene.walk)) >= 6
    assert loops > 5
    assert empties > 5


def test_habits_are_shares_of_digits_and_of_rules():
    def partners(habit):
        cells = [cell for s in scenes(60, habit=habit) for row in s.cells for cell in row if cell]
        return np.mean([digit == PARTNER[colour] for colour, digit in cells])

    assert 0.07 < partners(0.0) < 0.13
    assert 0.5 < partners(0.5) < 0.6
    rules = [s.rule for s in scenes(200, usual=0.5) if s.walk]
    assert 0.35 < np.mean([rule == tuple(DIRECTIONS) for rule in rules]) < 0.65
    assert all(s.rule == tuple(DIRECTIONS) for s in scenes(60, usual=1.0))


def test_scenes_come_again_by_seed_and_shares_are_checked():
    assert scenes(5) == scenes(5)
    with pytest.raises(ValueError, match=r"shares of 1; got 1\.5"):
        draw_scene(np.random.default_rng(0), habit=1.5)


def test_positions_leave_the_grid_and_come_in_at_the_other_side():
    assert beside((0, 5), "right") == (0, 6)
    assert not inside((0, 6))
    assert wrapped((0, 6)) == (0, 0)
    assert wrapped(beside((0, 2), "up")) == (5, 2)
    assert sorted(neighbours((0, 0))) == [(0, 1), (1, 0)]
