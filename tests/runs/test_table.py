"""A table of runs: some of many, whole groups at a time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.world import make_runs, make_trace
from trajkit.runs.table import RunTable, run_table


@pytest.fixture(scope="module")
def runs() -> RunTable:
    return run_table([make_trace(run) for run in make_runs(40, per_group=3)])


def test_a_draw_is_of_whole_groups_and_of_no_more_runs_than_asked_for(runs: RunTable) -> None:
    drawn = runs.drawn(50)
    sizes = drawn.table["group_id"].value_counts()
    assert len(drawn) == 48
    assert (sizes == 3).all()
    assert drawn.table["transcript_id"].tolist() == sorted(drawn.table["transcript_id"])  # in the order of the table
    assert "These runs were drawn, whole groups at random, from 120 runs (seed 0)." in drawn.summary()
    assert "120 runs" in drawn.known().summary()  # whatever is left out of it later


def test_a_draw_hangs_on_its_seed_and_favours_no_group(runs: RunTable) -> None:
    first, again, other = (runs.drawn(50, seed).table["transcript_id"].tolist() for seed in (0, 0, 1))
    assert first == again != other
    times = [set(runs.drawn(60, seed).table["group_id"]) for seed in range(200)]
    share = np.mean([[f"scene-{group:03d}" in drawn for group in range(40)] for drawn in times], axis=0)
    np.testing.assert_allclose(share, 0.5, atol=0.15)  # 4 standard errors


def test_a_table_that_is_small_enough_is_all_there_and_one_group_is_the_least(runs: RunTable) -> None:
    assert runs.drawn(120) is runs
    assert not runs.drawn_from
    assert "drawn" not in runs.summary()
    assert len(runs.drawn(2)) == 3
