"""A table of runs: some of many, whole groups at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detection.world import Run, make_runs, make_trace
from trajkit.runs.table import RunTable, run_table


@pytest.fixture(scope="module")
def runs() -> RunTable:
    return run_table([make_trace(run) for run in make_runs(120, per_group=3)])


def test_a_draw_is_of_whole_groups_and_of_no_more_runs_than_asked_for(runs: RunTable) -> None:
    drawn = runs.drawn(152)
    sizes = drawn.table["group_id"].value_counts()
    assert len(drawn) == 150
    assert (sizes == 3).all()
    assert drawn.table["transcript_id"].tolist() == sorted(drawn.table["transcript_id"])  # in the order of the table
    assert "These runs were drawn, whole groups at random, from 360 runs (seed 0)." in drawn.summary()
    assert "360 runs" in drawn.known().summary()  # whatever is left out of it later


def test_a_draw_hangs_on_its_seed_and_favours_no_group(runs: RunTable) -> None:
    first, again, other = (runs.drawn(150, seed).table["transcript_id"].tolist() for seed in (0, 0, 1))
    assert first == again != other
    times = [set(runs.drawn(180, seed).table["group_id"]) for seed in range(200)]
    share = np.mean([[f"scene-{group:03d}" in drawn for group in range(120)] for drawn in times], axis=0)
    np.testing.assert_allclose(share, 0.5, atol=0.15)  # 4 standard errors


def test_of_few_large_groups_all_are_drawn_from_by_their_share() -> None:
    """Whole groups would be two of these eight: no interval and no shuffle has enough of them."""
    runs = run_table([make_trace(run) for run in make_runs(8, per_group=40)])
    drawn = runs.drawn(100)
    assert len(drawn) == 100
    assert set(drawn.table["group_id"].value_counts()) == {12, 13}
    assert drawn.table["group_id"].is_monotonic_increasing  # in the order of the table
    assert "drawn, at random from each group, as some are large, from 320" in drawn.summary()


def test_a_large_group_among_small_ones_is_drawn_from_as_often_as_they_are() -> None:
    """Drawn whole it would have room hardly ever, and nothing but itself when it came first."""
    runs = run_table([make_trace(run) for run in [*make_runs(60, per_group=1), *_one_group(60)]])
    large = [(runs.drawn(50, seed).table["group_id"] == "large").mean() for seed in range(100)]
    assert np.mean(large) == pytest.approx(0.5, abs=0.02)


def _one_group(n: int) -> list[Run]:
    return [replace(run, transcript_id=f"large-{i}", group_id="large") for i, run in enumerate(make_runs(n, 1, seed=1))]


def test_a_table_that_is_small_enough_is_all_there(runs: RunTable) -> None:
    assert runs.drawn(360) is runs
    assert not runs.drawn_from
    assert "drawn" not in runs.summary()
    assert len(runs.drawn(2)) == 2
