"""The risk of a run from those of its sentences."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.detection.run_risks import RUN_RISKS, run_risks
from trajkit.errors import InputError


def test_by_hand() -> None:
    found = run_risks([0.2, 0.5, 0.1, 0.3, np.nan, 0.4], ["a", "a", "a", "b", "b", "b"])
    np.testing.assert_allclose(found["largest"], [0.2, 0.5, 0.5, 0.3, 0.3, 0.4])
    np.testing.assert_allclose(found["sum"], [0.2, 0.7, 0.8, 0.3, 0.3, 0.7])
    np.testing.assert_allclose(found["any"], [0.2, 1 - 0.8 * 0.5, 1 - 0.8 * 0.5 * 0.9, 0.3, 0.3, 1 - 0.7 * 0.6])


def test_no_later_sentence_and_no_other_run_is_seen() -> None:
    rng = np.random.default_rng(0)
    risk, run = rng.random(40), np.repeat(["x", "c", "b", "y"], [10, 5, 20, 5])
    whole = run_risks(risk, run)
    for n in (1, 7, 10, 23, 40):
        part = run_risks(risk[:n], run[:n])
        for name in RUN_RISKS:
            np.testing.assert_allclose(part[name], whole[name][:n], rtol=1e-12)
    alone = run_risks(risk[15:35], run[15:35])
    for name in RUN_RISKS:
        np.testing.assert_allclose(alone[name], whole[name][15:35], rtol=1e-12)


def test_a_sentence_that_is_surely_wrong_stays_finite_and_none_at_all_is_no_error() -> None:
    assert run_risks([1.0, 0.5], ["a", "a"])["any"] == pytest.approx([1, 1], abs=1e-5)
    assert {name: column.shape for name, column in run_risks([], []).items()} == dict.fromkeys(RUN_RISKS, (0,))
    with pytest.raises(InputError, match="2 and 1"):
        run_risks([0.1, 0.2], ["a"])
