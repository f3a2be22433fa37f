"""Prefix features of many runs at once are those of each run alone, to the last bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.errors import InputError
from trajkit.trajectory import terms
from trajkit.trajectory.features import FEATURE_NAMES, prefix_features
from trajkit.trajectory.prefixes import prefix_features_of_runs, running, running_sums


def some_runs(seed, lengths, k):
    rng = np.random.default_rng(seed)
    runs = []
    for n in lengths:
        effects = (rng.normal(size=(n, k)) * rng.choice([1e-3, 1, 50])).astype(rng.choice(["f4", "f8"]))
        effects[rng.random(n) < 0.2] = -1.0  # steps that nothing supports
        if n > 3:
            effects[3] = effects[2]
        runs.append((effects, np.cumsum(rng.integers(3, 12, n)), -rng.random(n), rng.random(n)))
    return runs


def together(runs):
    values, *said = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    offsets = np.cumsum([0, *(len(run[0]) for run in runs)])
    return prefix_features_of_runs(values, offsets, n_tokens=said[0], logprob=said[1], entropy=said[2])


def assert_as_each_alone(runs):
    found = together(runs)
    assert tuple(found) == FEATURE_NAMES
    start = 0
    for effects, n_tokens, logprob, entropy in runs:
        alone = prefix_features(effects, n_tokens=n_tokens, logprob=logprob, entropy=entropy)
        for name, column in alone.items():
            np.testing.assert_array_equal(found[name][start : start + len(effects)], column, err_msg=name)
        start += len(effects)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 70), min_size=1, max_size=15), st.integers(0, 40))
def test_runs_side_by_side_are_as_each_alone(seed, lengths, k):
    assert_as_each_alone(some_runs(seed, lengths, k))


def test_runs_across_blocks_and_across_threads_are_as_each_alone(monkeypatch):
    monkeypatch.setattr(terms, "_BLOCK_BYTES", 8 * 8 * 5)
    monkeypatch.setattr("trajkit.trajectory.runs._PART_SIZE", 64)
    assert_as_each_alone(some_runs(0, [3, 90, 1, 0, 40, 6, 0, 17], 8))


def test_a_run_with_nan_leaves_the_others_alone():
    runs = some_runs(4, [6, 7, 5], 9)
    runs[1][0][2, 3] = np.nan
    runs[2][0][0, 0] = np.nan
    runs[0][2][4] = runs[1][3][0] = np.nan  # log-probability of one, entropy of the other
    assert_as_each_alone(runs)


def test_running_sums_and_extremes_are_each_runs_own_in_order():
    rng = np.random.default_rng(0)
    lengths = [5, 0, 900, 3, 1, 1, 40, 41]
    ends = np.cumsum([0, *lengths])
    terms = rng.normal(size=(2, ends[-1])) * 10.0 ** rng.integers(-9, 9, ends[-1])
    expected = np.concatenate([np.cumsum(terms[:, a:b], 1) for a, b in pairwise(ends)], 1)
    np.testing.assert_array_equal(running_sums(terms, ends), expected)
    lowest = np.concatenate([np.minimum.accumulate(terms[:, a:b], 1) for a, b in pairwise(ends)], 1)
    np.testing.assert_array_equal(running(np.minimum, terms, ends), lowest)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="offsets must rise from 0 to the 3 rows"):
        prefix_features_of_runs(np.ones((3, 2)), [0, 2], n_tokens=[1] * 3, logprob=[0] * 3, entropy=[0] * 3)
    with pytest.raises(InputError, match=r"logprob must hold one number for each of the 3 steps; got \(2,\)"):
        prefix_features_of_runs(np.ones((3, 2)), [0, 3], n_tokens=[1] * 3, logprob=[0] * 2, entropy=[0] * 3)
