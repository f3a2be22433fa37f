"""Faithfulness figures against SciPy and scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from trajkit.attribution.faithfulness import lds, r_squared, signed_r_squared, step_gate, top_agreement

RNG = np.random.default_rng(0)


def test_r_squared_is_the_squared_pearson_correlation():
    x, y = RNG.normal(size=(2, 50))
    np.testing.assert_allclose(r_squared(x, y), pearsonr(x, y)[0] ** 2)
    np.testing.assert_allclose(r_squared(3 * y + 2, y), 1)


def test_lds_is_spearman_over_masks():
    scores, masks, effects = RNG.normal(size=6), RNG.random((32, 6)) < 0.5, RNG.normal(size=32)
    np.testing.assert_allclose(lds(scores, masks, effects), spearmanr(masks @ scores, effects)[0])
    np.testing.assert_allclose(lds(scores, masks, masks @ scores), 1)


def test_signed_r_squared_punishes_the_wrong_sign():
    x, y = RNG.normal(size=(2, 50))
    assert abs(signed_r_squared(x, y)) == pytest.approx(r_squared(x, y))
    assert signed_r_squared(-y, y) == pytest.approx(-1)


def test_scores_that_do_not_vary_answer_nothing_and_effects_that_do_not_ask_nothing():
    flat, masks = np.ones(5), np.eye(3, dtype=bool)
    assert np.isnan(r_squared(flat, np.arange(5.0)))
    assert signed_r_squared(flat, np.arange(5.0)) == lds(np.zeros(3), masks, np.arange(3.0)) == 0
    assert np.isnan(signed_r_squared(np.arange(5.0), flat))
    assert np.isnan(lds(np.arange(3.0), masks, np.ones(3)))


def test_top_agreement_shares_a_hit_among_ties_and_counts_no_answer_as_wrong():
    effects = np.array([[0, 1, 2.0], [0, 1, 2], [0, 1, 2], [0, 1, 2], [1, 1, 1]])
    scores = np.array([[0, 1, 2.0], [2, 1, 0], [0, 3, 3], [1, 1, 1], [0, 1, 2]])
    np.testing.assert_array_equal(top_agreement(scores, effects), [1, 0, 0.5, 0, np.nan])
    assert np.isnan(top_agreement(np.ones((1, 1)), np.ones((1, 1)))).all()
    alike = np.array([[0, 2, 2.0]])
    np.testing.assert_array_equal(top_agreement(alike, alike), [1])


def test_a_step_gate_says_one_region_and_one_number_a_step():
    gate = step_gate(np.array([[0, 1, 2.0], [5, 1, 0]]), np.array([7.0, -1]))
    np.testing.assert_array_equal(gate, [[0, 0, 7], [-1, 0, 0]])
