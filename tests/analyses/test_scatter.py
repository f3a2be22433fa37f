"""Coverage of half widths is said with an interval over scenes, by the rules that all shares have."""

from __future__ import annotations

import re

import numpy as np
import pytest

from analyses.scatter import coverage
from trajkit.attribution.measure import MeasuredRun
from trajkit.tables.words import shares


class Widths:
    """An estimator of nothing, with a half width of one nat."""

    def predict_interval(self, features):
        return np.zeros(features.shape[:2]), np.ones(features.shape[:2])


def made(n: int, inside: float) -> list[MeasuredRun]:
    """Runs of a scene each, (4 steps, 5 regions), a share of whose effects lie within the half width."""
    rng = np.random.default_rng(0)
    effects = [np.where(rng.random((5, 4)) < inside, 0.5, 2.0) for _ in range(n)]
    masks = np.zeros((2, 5), bool)
    return [
        MeasuredRun(f"g{i}", "math", np.zeros((4, 5, 2), np.float32), masks, masks @ e, e, np.arange(4))
        for i, e in enumerate(effects)
    ]


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (made(40, 0.75), r"7\d % \(\d\d–\d\d %\)"),
        (made(40, 1), r"100 % \(9\d–100 %\)"),  # the exact bound of 40 scenes
        (made(9, 0.75), r"\d\d %"),
    ],
)
def test_an_interval_needs_ten_scenes_and_a_share_of_all_has_the_exact_bound(runs, said):
    found = coverage(Widths(), runs, 200)
    assert re.fullmatch(said, shares(found["all"]))
    assert shares(found["0.05 to 0.2"]) == "–"
