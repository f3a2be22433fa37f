"""Holm's correction is that of statsmodels, and leaves what is not known alone."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from trajkit.stats.correction import holm


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_p_values_are_corrected_as_by_statsmodels(n):
    rng = np.random.default_rng(n)
    p = np.round(rng.random(n) ** 3, 2)  # small ones, and ties
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_what_is_not_known_is_not_counted():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert np.isnan(holm([np.nan])).all()
    assert holm([]).shape == (0,)
