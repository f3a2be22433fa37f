"""Concentration is 0 for evenly spread support, 1 for a single region, and comparable across K."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.errors import InputError
from trajkit.trajectory import concentration
from trajkit.trajectory.concentration import step_hhi

MEASURES = ("hhi", "entropy", "gini", "top_share")


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("k", [2, 16, 100])
def test_the_ends_of_the_scale_are_the_same_for_every_k(measure, k):
    np.testing.assert_allclose(concentration([np.ones(k), np.eye(k)[0]], measure), [0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("hhi", (0.5**2 + 0.25**2 * 2 - 1 / 4) / (3 / 4)),
        ("entropy", 1 - 1.5 * np.log(2) / np.log(4)),
        ("gini", (0.5 * 3 + 0.25 * 1 - 0.25 * 1) / 3),
        ("top_share", (0.5 - 0.25) / 0.75),
    ],
)
def test_worked_by_hand(measure, expected):
    np.testing.assert_allclose(concentration([[2.0, 1.0, 1.0, 0.0]], measure), [expected])


@pytest.mark.parametrize("measure", MEASURES)
def test_opposing_regions_do_not_count_and_scale_does_not_matter(measure):
    a = concentration([[3.0, 1.0, -5.0, 0.0]], measure)
    np.testing.assert_allclose(a, concentration([[0.3, 0.1, 0.0, -9.0]], measure))


@pytest.mark.parametrize("measure", MEASURES)
def test_rounding_never_leaves_the_scale(measure):
    for k in range(2, 130):
        for row in (np.full((1, k), 0.1), np.eye(1, k) * 0.1):
            assert 0 <= concentration(row, measure)[0] <= 1


@pytest.mark.parametrize("measure", MEASURES)
def test_a_nan_effect_makes_its_own_step_nan(measure):
    np.testing.assert_array_equal(np.isnan(concentration([[1.0, np.nan], [1.0, 2.0]], measure)), [True, False])


def test_a_step_that_nothing_supports_has_none():
    assert np.isnan(concentration([[-1.0, 0.0], [0.0, 0.0]])).all()


def test_one_region_alone_and_no_region_at_all():
    np.testing.assert_array_equal(concentration([[2.0], [-1.0]]), [1, np.nan])
    assert np.isnan(concentration(np.zeros((2, 0)))).all()


def test_an_unknown_measure_is_refused():
    with pytest.raises(InputError, match="measure must be one of hhi"):
        concentration([[1.0, 2.0]], "variance")


@pytest.mark.parametrize("k", [0, 1, 2, 6, 64, 300])
def test_one_step_by_itself_has_the_concentration_of_its_row_to_the_last_bit(k):
    rng = np.random.default_rng(k)
    effects = np.concatenate([rng.normal(size=(40, k)), -np.ones((1, k)), np.zeros((1, k)), np.ones((1, k))])
    alone = [step_hhi(step, float(step.max(initial=-np.inf))) for step in effects]
    np.testing.assert_array_equal(alone, concentration(effects))
