"""Firm shrinkage of effects, and the choice of how much of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trajkit.attribution.estimator import StepExample
from trajkit.attribution.faithfulness import lds
from trajkit.attribution.shrinkage import SHARES, best_share, firm

steps = arrays(np.float64, (3, 7), elements=st.floats(-50, 50, width=32))
shares = st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5])


def test_small_effects_are_none_large_ones_stay_and_between_it_is_straight():
    effects = np.array([[10.0, -0.5, 1.0, 1.5, -1.5, 2.0, 3.0], [0.1, 0.005, -0.02, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(firm(effects, 0.1), [[10, 0, 0, 1, -1, 2, 3], [0.1, 0, -0.02, 0, 0, 0, 0]], atol=1e-12)


@given(steps, shares)
def test_signs_and_order_are_kept_and_no_effect_grows(effects, share):
    found = firm(effects, share)
    assert (np.abs(found) <= np.abs(effects) + 1e-12).all()
    assert (found * effects >= 0).all()
    for row, before in zip(found, effects, strict=True):
        assert (np.diff(row[np.argsort(before, kind="stable")]) >= -1e-9).all()
    np.testing.assert_array_equal(firm(effects, 0.0), effects)


@given(steps, shares, st.floats(0.01, 100))
def test_the_unit_does_not_matter(effects, share, unit):
    np.testing.assert_allclose(firm(effects * unit, share), firm(effects, share) * unit, atol=1e-9 * unit, rtol=1e-9)


def test_a_little_more_or_less_changes_little():
    at = np.linspace(0, 1, 2001)
    found = np.array([firm(np.array([1.0, x]), 0.2)[1] for x in at])
    assert np.abs(np.diff(found)).max() <= 2.01 * (at[1] - at[0])


def test_steps_without_regions_or_without_effects_stay_as_they_are():
    assert firm(np.zeros((2, 0)), 0.1).shape == (2, 0)
    assert (firm(np.zeros((2, 3)), 0.1) == 0).all()
    assert firm(np.ones((2, 3), np.float32), 0.1).dtype == np.float32


def examples(noise: float, n: int = 60):
    """Steps that rest on one region alone, or on all alike where nothing is noise, and estimates of them."""
    rng, made, estimates = np.random.default_rng(0), [], []
    for _ in range(n):
        single = np.zeros(20) if noise else rng.normal(size=20)
        single[rng.integers(20)] += 8.0 if noise else 0.0
        masks = rng.random((32, 20)) < 0.5
        effects = masks @ single + 0.1 * rng.normal(size=32)
        made.append(StepExample(np.zeros((20, 3), np.float32), masks, effects, single))
        estimates.append(single + noise * rng.normal(size=20))
    return estimates, made


def test_the_share_is_that_of_the_highest_lds():
    estimates, made = examples(noise=0.4)
    chosen = best_share(estimates, made, SHARES)
    assert chosen >= 0.1
    ranks = {
        share: np.mean([lds(firm(p, share), e.masks, e.effects) for p, e in zip(estimates, made, strict=True)])
        for share in SHARES
    }
    assert ranks[chosen] == pytest.approx(max(ranks.values()))
    assert ranks[chosen] > ranks[0.0] + 0.02


def test_nothing_is_shrunk_where_all_regions_count():
    estimates, made = examples(noise=0.0)
    assert best_share(estimates, made, SHARES) == 0.0
