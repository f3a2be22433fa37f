"""What an evaluation comes to follows from paired differences on steps that depend on the image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trajkit.attribution.evaluation import score_measured
from trajkit.attribution.measure import MeasuredRun
from trajkit.attribution.verdict import conclude, reliable_metrics

K = 8


def evaluated(groups, right, ranks, size=2.0, seed=0):
    """Scored runs of an estimator and raw attention. right, ranks: of each, how often its top region is the measured
    one, and how much its scores of the other regions are the measured ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for g in range(groups):
        single = rng.uniform(0.1, 0.9, (K, 3)) * size
        single[0] = size
        masks = rng.random((32, K)) < 0.5
        features = np.zeros((3, K, 1), np.float32)
        run = MeasuredRun(f"g{g}", "", features, masks, masks @ single, single, np.arange(9))
        for name, hits, share in zip(("estimator", "raw attention"), right, ranks, strict=True):
            scores = share * single.T + (1 - share) * rng.permuted(single.T, axis=1)
            top = np.where(rng.random(3) < hits, 0, rng.integers(1, K, 3))
            scores[range(3), top] = scores.max(1) + 0.01
            rows.append(score_measured(name, run, scores))
    return rows


@pytest.mark.parametrize(
    ("right", "ranks", "kind", "words"),
    [
        ((0.95, 0.4), (1, 0), "use", ("On steps that depend on the image (120 of 120)", "use it.")),
        ((0.9, 0.9), (1, 0), "use", ("it tells better what hiding several regions does", "use it.")),
        ((0.3, 0.05), (1, 0), "use", ("wrong about most steps: never rely on a single one",)),
        ((0.6, 0.6), (0.5, 0.5), "no better", ("is not shown to beat raw attention", "Do not trust its effects")),
        ((0.3, 0.9), (0, 1), "worse", ("raw attention is better", "Do not use its effects on this model")),
        ((0.8, 0.3), (0, 1), "mixed", ("use it to see where a step looks, not to add effects up",)),
        ((0.3, 0.8), (1, 0), "mixed", ("do not read from it where a step looks",)),
    ],
)
def test_it_says_what_to_do(right, ranks, kind, words):
    found = conclude(evaluated(40, right, ranks), n_boot=200)
    assert found.kind == kind
    for word in words:
        assert word in found.text
    assert "images only" not in found.text


def test_equal_methods_are_called_better_or_worse_in_five_evaluations_of_a_hundred_at_most():
    """By two uncorrected intervals of ten resampled groups one would be in a quarter of them."""
    told = [conclude(evaluated(10, (0.5, 0.5), (0.5, 0.5), seed=s), n_boot=10).kind for s in range(100)]
    assert 100 - told.count("no better") <= 10  # 98.9th percentile of Binomial(100, 0.05)


def test_it_tells_the_shares_with_their_intervals_exactly_where_all_agree():
    found = conclude(evaluated(40, (1, 0), (1, 0)), n_boot=100)
    assert "the right region in 100 % (91–100 %), raw attention in 0.0 % (0.0–8.9 %)" in found.text


def test_few_images_are_told():
    found = conclude(evaluated(12, (0.95, 0.3), (1, 0)), n_boot=100)
    assert found.kind == "use"
    assert found.text.endswith("This rests on 12 images only: ask more questions to be sure.")


@pytest.mark.parametrize(
    ("groups", "size", "words"), [(9, 2.0, "27 of 27, of 9 images"), (40, 0.1, "0 of 120, of 0 images")]
)
def test_too_few_steps_that_depend_on_the_image_tell_nothing(groups, size, words):
    found = conclude(evaluated(groups, (1, 0), (1, 0), size))
    assert found.kind == "too few"
    assert f"Too few steps to tell: {words}" in found.text
    assert "ask more questions that cannot be answered without looking" in found.text


def test_run_metrics_are_sorted_by_whether_they_can_be_relied_on():
    table = pd.DataFrame({"metric": ["a", "b", "c"], "value": [0.9, 0.8, 0.5], "low": [0.8, 0.5, np.nan], "high": 1.0})
    assert reliable_metrics(table, ["a", "b", "c"]).endswith("do: a (0.90). Not shown for b (0.80).")
    assert reliable_metrics(table, ["a"]).endswith("do: a (0.90).")
    assert reliable_metrics(table, ["b"]).startswith("No run metric")
    assert reliable_metrics(table, ["c"]) == ""
    named = table.assign(metric=table["metric"].replace("a", "path_length"))
    assert reliable_metrics(named, ["path_length"]).endswith("do: path length (0.90).")  # as people read it
