"""Faithfulness figures against SciPy and scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from trajkit.attribution.faithfulness import lds, r_squared, signed_r_squared

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
