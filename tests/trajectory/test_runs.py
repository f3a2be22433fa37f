"""The metrics of many runs at once are those of each run alone, whatever stands beside it."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit import trajectory as tj
from trajkit.errors import InputError
from trajkit.trajectory import runs, terms
from trajkit.trajectory.concentration import MEASURES
from trajkit.trajectory.runs import RUN_METRICS, run_metrics

ALONE = (
    "path_length",
    "net_displacement",
    "tortuosity",
    "straightness",
    "mean_step",
    "mean_cosine",
    "turning_entropy",
    "sinuosity",
    "e_max",
    "msd_exponent",
    "switch_rate",
    "revisit_rate",
    "dwell_time",
    "recurrence_rate",
)


def alone(x):
    """Every metric of one run, by the functions that say of one path what they are."""
    metrics = {"n_steps": len(x)} | {name: getattr(tj, name)(x) for name in ALONE}
    for measure in MEASURES:
        level = tj.concentration(x, measure)
        step, level = np.flatnonzero(~np.isnan(level)), level[~np.isnan(level)]
        metrics[f"{measure}_level"] = level.mean() if len(level) else np.nan
        metrics[f"{measure}_spread"] = level.std() if len(level) else np.nan
        metrics[f"{measure}_slope"] = np.polyfit(step, level, 1)[0] if len(level) > 1 else np.nan
    return metrics


def joined(paths):
    k = paths[0].shape[1]
    values = np.concatenate([np.zeros((0, k)), *paths])
    return values, np.concatenate([[0], np.cumsum([len(x) for x in paths])])


def assert_like_each_alone(paths):
    together = run_metrics(*joined(paths))
    assert tuple(together) == RUN_METRICS
    for i, x in enumerate(paths):
        for name, value in alone(x).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-9, atol=1e-9, err_msg=f"{name}, run {i}")


def some_runs(seed, lengths, k=5):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, k)) * rng.choice([1e-3, 1, 50]) for n in lengths]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 9))
def test_runs_side_by_side_are_as_each_alone(seed, lengths, k):
    assert_like_each_alone(some_runs(seed, lengths, k))


def test_runs_that_stay_reverse_repeat_or_go_straight_are_as_each_alone():
    line = np.outer(np.arange(9.0), [1, 2, 0, 0, 1])
    there_and_back = np.concatenate([line, line[::-1]])
    broken = line.copy()
    broken[4] = np.nan
    unsupported = -np.ones((6, 5))
    unsupported[2, 1] = 1
    assert_like_each_alone([line, np.ones((5, 5)), there_and_back, broken, unsupported, line[[0, 1, 1, 2]], line[:0]])


def test_runs_longer_than_a_block_and_across_blocks_are_as_each_alone(monkeypatch):
    monkeypatch.setattr(terms, "_BLOCK_BYTES", 8 * 5 * 7)
    monkeypatch.setattr(runs, "_STEPS", 30)
    assert_like_each_alone(some_runs(0, [3, 90, 1, 0, 40, 6]))


def test_whole_numbers_and_single_precision_are_taken_as_they_are():
    x = np.random.default_rng(1).integers(-3, 9, (12, 4))
    exact = run_metrics(x.astype(float), [0, 5, 12])
    for dtype in (np.int32, np.float32):
        for name, column in run_metrics(x.astype(dtype), [0, 5, 12]).items():
            np.testing.assert_array_equal(column, exact[name], err_msg=name)


def test_single_precision_costs_no_digit_beyond_those_that_it_lacks():
    x = np.concatenate(some_runs(3, [40, 7, 90, 1, 23], k=64))
    ends = np.cumsum([0, 40, 7, 90, 1, 23])
    single = run_metrics(x.astype(np.float32), ends)
    same, exact = run_metrics(x.astype(np.float32).astype(np.float64), ends), run_metrics(x, ends)
    for name, column in single.items():
        np.testing.assert_allclose(column, same[name], rtol=1e-12, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(column, exact[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_no_runs_and_no_regions_are_no_error():
    assert all(len(column) == 0 for column in run_metrics(np.zeros((0, 4)), [0]).values())
    without = run_metrics(np.zeros((3, 0)), [0, 3])
    assert without["path_length"] == 0
    assert np.isnan(without["hhi_level"]).all()


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], [0.0, 3.0], [], [[0, 3]]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(InputError, match="offsets must rise from 0 to the 3 rows"):
        run_metrics(np.zeros((3, 2)), offsets)


def test_values_that_are_no_table_of_numbers_are_refused():
    with pytest.raises(InputError, match=r"values must be numbers \(N, K\).*shape \(3,\)"):
        run_metrics(np.zeros(3), [0, 3])


@pytest.mark.alone
def test_many_runs_take_a_few_passes_over_the_effects_and_a_small_part_of_a_loop_over_them():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200_000, 64))
    offsets = np.arange(0, len(values) + 1, 10)

    def seconds(work):
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    one_pass = min(seconds(lambda: np.abs(values).sum()) for _ in range(3))
    ours = min(seconds(lambda: run_metrics(values, offsets)) for _ in range(3))
    frame = pd.DataFrame(values[:2000]).assign(run=np.arange(2000) // 10)
    loop = 100 * seconds(lambda: [alone(x.drop(columns="run").to_numpy()) for _, x in frame.groupby("run")])
    assert ours / one_pass < 15, f"{ours / one_pass:.1f} passes"  # measured about half; other work shares the machine
    assert loop / ours > 60, f"{loop / ours:.0f} × as fast as a loop"
