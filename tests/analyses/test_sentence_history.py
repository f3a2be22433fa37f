"""Recent sentences, and those that were not looked at again, by hand."""

from __future__ import annotations

import numpy as np

from analyses.sentence_history import recent, standing

RUN = np.array(["b"] * 5 + ["a"] * 2)
RISK = np.array([0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_recent_is_the_mean_of_the_last_four_of_the_run() -> None:
    np.testing.assert_allclose(recent(RISK, RUN), [0.8, 0.45, 1.1 / 3, 0.35, 0.25, 0.5, 0.55])


def test_a_second_look_at_a_region_takes_the_first_back() -> None:
    rests_on = np.array([3, 1, 3, -1, -1, 3, -1])
    expected = [0.8, 1 - 0.2 * 0.9, 1 - 0.9 * 0.8, 1 - 0.9 * 0.8 * 0.7, 1 - 0.9 * 0.8 * 0.7 * 0.6, 0.5, 1 - 0.5 * 0.4]
    np.testing.assert_allclose(standing(RISK, RUN, rests_on), expected)


def test_no_later_sentence_is_seen() -> None:
    rests_on = np.array([3, 1, 3, -1, 1, 3, 3])
    for n in range(1, 8):
        np.testing.assert_allclose(recent(RISK[:n], RUN[:n]), recent(RISK, RUN)[:n])
        np.testing.assert_allclose(standing(RISK[:n], RUN[:n], rests_on[:n]), standing(RISK, RUN, rests_on)[:n])
