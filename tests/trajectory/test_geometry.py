"""Path geometry on paths whose answer can be seen, and the symmetries it must and must not have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trajkit import trajectory as tj
from trajkit.errors import InputError

LINE = np.outer(np.arange(5.0), [3, 4])  # four moves of length 5
ZIGZAG = np.array([[0, 0], [1, 1], [2, 0], [3, 1], [4, 0.0]])  # four moves of √2, right angles
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0.0]])
HEXAGON = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)  # open: five sides of 1

paths = arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.floats(-100, 100, width=32))


def test_a_straight_line_is_as_long_as_it_reaches():
    assert tj.path_length(LINE) == 20
    assert tj.net_displacement(LINE) == 20
    assert tj.tortuosity(LINE) == tj.straightness(LINE) == 1
    assert tj.mean_step(LINE) == 5
    np.testing.assert_allclose(tj.turning_angles(LINE), 0, atol=1e-7)


def test_a_zigzag_turns_by_right_angles():
    np.testing.assert_allclose(tj.turning_angles(ZIGZAG), math.pi / 2)
    assert tj.tortuosity(ZIGZAG) == pytest.approx(math.sqrt(2))


def test_a_closed_square_is_infinitely_tortuous():
    assert (tj.path_length(SQUARE), tj.net_displacement(SQUARE)) == (4, 0)
    assert tj.tortuosity(SQUARE) == math.inf
    assert tj.straightness(SQUARE) == 0


def test_an_open_hexagon_turns_by_sixty_degrees():
    assert tj.path_length(HEXAGON) == pytest.approx(5)
    assert tj.net_displacement(HEXAGON) == pytest.approx(1)
    np.testing.assert_allclose(tj.turning_angles(HEXAGON), math.pi / 3)


def test_a_single_step_has_no_shape():
    one = np.ones((1, 3))
    assert tj.path_length(one) == tj.net_displacement(one) == 0
    for metric in (tj.tortuosity, tj.straightness, tj.mean_step, tj.switch_rate):
        assert math.isnan(metric(one))
    assert len(tj.turning_angles(one)) == 0


def test_a_path_that_stays_has_no_shape_either():
    still = np.ones((4, 3))
    assert tj.path_length(still) == 0
    assert math.isnan(tj.tortuosity(still))
    assert np.isnan(tj.turning_angles(still)).all()


def test_a_move_of_length_zero_has_no_angle_and_its_neighbours_lose_theirs():
    angles = tj.turning_angles([[0, 0], [1, 0], [1, 0], [2, 0], [3, 0]])
    np.testing.assert_array_equal(np.isnan(angles), [True, True, False])


def test_a_nan_row_makes_the_lengths_nan_and_costs_the_angles_around_it():
    broken = LINE.copy()
    broken[2] = np.nan
    assert math.isnan(tj.path_length(broken))
    assert math.isnan(tj.tortuosity(broken))
    assert math.isnan(tj.straightness(broken))
    assert tj.net_displacement(broken) == 20
    np.testing.assert_array_equal(
        np.isnan(tj.turning_angles(np.vstack([broken, [[15, 20], [18, 24]]]))), [1, 1, 1, 0, 0]
    )


def test_rounding_takes_no_straight_line_out_of_its_range():
    """Without clipping, one of these lines has a cosine above 1 and one is shorter than it reaches."""
    for direction in np.random.default_rng(0).normal(size=(50, 7)):
        line = np.outer(np.arange(9), direction)
        assert tj.tortuosity(line) >= 1 >= tj.straightness(line)
        np.testing.assert_allclose(tj.turning_angles(line), 0, atol=1e-7)
        np.testing.assert_allclose(tj.turning_angles(line[[0, 1, 0, 1]]), math.pi, atol=1e-7)


def test_switches_and_revisits_follow_the_top_region():
    effects = np.eye(3)[[0, 0, 1, 2, 0]]
    assert tj.switch_rate(effects) == 3 / 4
    assert tj.revisit_rate(effects) == 1 / 3
    assert math.isnan(tj.revisit_rate(effects[:2]))


def test_a_path_must_have_two_axes():
    with pytest.raises(InputError, match=r"\(T, D\).*got shape \(4,\)"):
        tj.path_length(np.ones(4))


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(0, 1000), st.floats(0.01, 50))
def test_lengths_scale_and_nothing_depends_on_place_or_orientation(x, seed, scale):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
    moved = x @ rotation * scale + rng.normal(size=x.shape[1])
    np.testing.assert_allclose(tj.path_length(moved), scale * tj.path_length(x), rtol=1e-6, atol=1e-6)
    if tj.net_displacement(x) > 1e-3:
        np.testing.assert_allclose(tj.tortuosity(moved), tj.tortuosity(x), rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(paths)
def test_time_reversal_keeps_length_and_tortuosity_and_tortuosity_is_at_least_one(x):
    np.testing.assert_allclose(tj.path_length(x[::-1]), tj.path_length(x), rtol=1e-9)
    if tj.net_displacement(x) > 0:
        np.testing.assert_allclose(tj.tortuosity(x[::-1]), tj.tortuosity(x), rtol=1e-9)
        assert tj.tortuosity(x) >= 1


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(0, 99))
def test_the_order_of_regions_does_not_matter(x, seed):
    order = np.random.default_rng(seed).permutation(x.shape[1])
    np.testing.assert_allclose(tj.path_length(x[:, order]), tj.path_length(x), rtol=1e-9)
    for measure in ("hhi", "entropy", "gini", "top_share"):
        a, b = (tj.concentration(m, measure=measure) for m in (x, x[:, order]))
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_turns_by_hand():
    assert tj.mean_cosine(HEXAGON) == pytest.approx(1 / 2)
    assert tj.mean_cosine(ZIGZAG) == pytest.approx(0)
    assert tj.mean_cosine([[0.0], [1], [0], [1]]) == -1
    assert tj.turning_entropy(HEXAGON) == 0
    quarter_and_half = [[0, 0], [1, 0], [1, 1], [1, 0], [0.0, 0]]  # turns of 90°, 180° and 90°
    assert tj.turning_entropy(quarter_and_half) == pytest.approx((math.log(3) - 2 / 3 * math.log(2)) / math.log(8))


def test_sinuosity_and_e_max_by_hand():
    assert tj.e_max(HEXAGON) == pytest.approx(1)
    assert tj.sinuosity(HEXAGON) == pytest.approx(2 / math.sqrt(3))
    assert tj.e_max(ZIGZAG) == pytest.approx(0)
    assert tj.sinuosity(ZIGZAG) == pytest.approx(2 / 2**0.25)
    assert (tj.e_max(LINE), tj.sinuosity(LINE)) == (math.inf, 0)
    assert tj.e_max([[0.0], [1], [0]]) == -1 / 2
    uneven = [[0, 0], [1, 0], [1, 3.0]]  # moves of 1 and 3, a right angle: p = 2, c = 0, b² = 2 / 4
    assert tj.sinuosity(uneven) == pytest.approx(2 / math.sqrt(2 * 1.5))


def test_mean_squared_displacement_by_hand():
    np.testing.assert_array_equal(tj.mean_squared_displacement(LINE, [1, 2, 4, 5]), [25, 100, 400, np.nan])
    np.testing.assert_allclose(tj.mean_squared_displacement(ZIGZAG, [1, 2]), [2, 4])
    assert tj.msd_exponent(LINE) == pytest.approx(2)
    assert tj.msd_exponent(ZIGZAG) == pytest.approx(1)
    assert math.isnan(tj.msd_exponent(LINE[:3]))
    assert math.isnan(tj.msd_exponent([[0.0], [1], [0], [1]]))  # two steps on, it is where it was


def test_the_exponent_tells_straight_motion_a_random_walk_and_draws_about_one_place():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 3))
    assert tj.msd_exponent(np.cumsum(noise, 0)[:400]) == pytest.approx(1, abs=0.25)
    assert tj.msd_exponent(noise) == pytest.approx(0, abs=0.05)
    assert tj.mean_cosine(np.cumsum(noise, 0)) == pytest.approx(0, abs=0.05)
    assert tj.mean_cosine(rng.normal(size=(500, 99))) == pytest.approx(-1 / 2, abs=0.02)


def test_dwelling_and_recurrence_by_hand():
    effects = np.eye(3)[[0, 0, 1, 2, 0]]  # spells of 2, 1, 1 and 1; region 0 three times
    assert tj.dwell_time(effects) == 5 / 4
    assert tj.recurrence_rate(effects) == 3 / 10
    assert tj.recurrence_rate(LINE, radius=5) == 4 / 10
    assert tj.recurrence_rate(LINE, radius=4.9) == 0
    assert tj.dwell_time(effects[:1]) == 1
    assert math.isnan(tj.recurrence_rate(effects[:1]))


def test_a_nan_row_takes_what_depends_on_it_and_nothing_else():
    broken = np.eye(3)[[0, 1, 1, 2, 0, 1]]
    broken[3, 1] = np.nan
    for metric in (tj.switch_rate, tj.revisit_rate, tj.dwell_time, tj.recurrence_rate, tj.msd_exponent, tj.sinuosity):
        assert math.isnan(metric(broken)), metric.__name__
    assert tj.switch_rate(broken[:3]) == 1 / 2


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(0, 1000), st.floats(0.01, 50))
def test_turns_and_exponents_do_not_depend_on_place_orientation_scale_or_direction_of_time(x, seed, scale):
    x = x + np.random.default_rng(seed).normal(size=x.shape)  # no move so small that its direction is rounding
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1])))[0]
    for moved in (x @ rotation * scale + 3, x[::-1]):
        for metric in (tj.mean_cosine, tj.msd_exponent):
            np.testing.assert_allclose(metric(moved), metric(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tj.sinuosity(x * scale), tj.sinuosity(x) / math.sqrt(scale), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(0, 99))
def test_dwelling_does_not_depend_on_the_names_of_regions_or_on_the_direction_of_time(x, seed):
    x = x + np.random.default_rng(seed).normal(size=x.shape) * 1e-3  # no ties
    order = np.random.default_rng(seed).permutation(x.shape[1])
    for metric in (tj.switch_rate, tj.revisit_rate, tj.dwell_time, tj.recurrence_rate):
        np.testing.assert_allclose(metric(x[:, order]), metric(x))
        np.testing.assert_allclose(metric(x[::-1]), metric(x))


WANDERING = [[0, 0], [2, 1], [3, 3], [2.5, 4], [4, 4.5], [6, 4], [7, 6], [6.5, 7.5], [8, 8], [9.5, 7.0]]


def test_a_path_on_the_plane_has_the_figures_of_other_libraries():
    """Lengths and turning angles as traja 25.0.1 gives them (length, distance, calc_turn_angle)."""
    assert tj.path_length(WANDERING) == pytest.approx(16.433982862042658, rel=1e-12)
    assert tj.net_displacement(WANDERING) == pytest.approx(11.800423721205947, rel=1e-12)
    degrees = [
        36.86989764584402,
        53.13010235415598,
        98.13010235415598,
        32.4711922908485,
        77.47119229084849,
        45,
        90,
        52.1250163489018,
    ]
    np.testing.assert_allclose(np.degrees(tj.turning_angles(WANDERING)), degrees, rtol=1e-9)


def test_its_mean_squared_displacement_is_that_of_yupi():
    """Averaged over time, lags 1 to 5, as yupi 1.0.2 gives it (MsdTimeAvgStat)."""
    expected = [3.47222222, 10.09375, 16.46428571, 27.33333333, 43.45]
    np.testing.assert_allclose(tj.mean_squared_displacement(WANDERING, [1, 2, 3, 4, 5]), expected, rtol=1e-8)


def test_a_straight_line_in_any_direction_has_no_end_to_how_far_it_reaches():
    for direction in np.random.default_rng(0).normal(size=(200, 16)):
        line = np.outer(np.arange(9.0), direction)
        assert tj.e_max(line) == math.inf
        assert tj.sinuosity(line) == 0
    assert tj.sinuosity([[0.0], [1], [0]]) == math.inf
