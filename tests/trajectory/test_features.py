"""Prefix features: the same online and offline, and blind to what comes later."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from trajkit import trajectory as tj
from trajkit.errors import InputError
from trajkit.trajectory.features import FEATURE_NAMES, PrefixFeatures, prefix_features


def a_run(seed, steps=9, k=20):
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(steps, k))
    effects[rng.random(steps) < 0.2] = -1.0  # steps that nothing supports
    if steps > 3:
        effects[3] = effects[2]  # a step that does not move
    return effects, np.cumsum(rng.integers(3, 12, steps)), -rng.random(steps), rng.random(steps)


def offline(effects, n_tokens, logprob, entropy):
    return prefix_features(effects, n_tokens=n_tokens, logprob=logprob, entropy=entropy)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("steps", [1, 2, 9, 60])
def test_online_equals_offline(seed, steps):
    run = a_run(seed, steps)
    whole = offline(*run)
    live = PrefixFeatures()
    for t, (effects, n_tokens, logprob, entropy) in enumerate(zip(*run, strict=True)):
        now = live.update(effects, n_tokens=int(n_tokens), logprob=logprob, entropy=entropy)
        assert tuple(now) == FEATURE_NAMES
        for name, value in now.items():
            np.testing.assert_array_equal(value, whole[name][t], err_msg=f"{name} at step {t + 1}")


def test_online_equals_offline_after_a_nan_row_and_on_a_straight_line():
    broken = a_run(5)
    broken[0][4] = np.nan
    directions = np.random.default_rng(2).normal(
        size=(20, 7)
    )  # rounding makes some of these lines shorter than they reach
    lines = [(np.outer(np.arange(9), direction), *a_run(6)[1:]) for direction in directions]
    for run in (broken, *lines):
        whole, live = offline(*run), PrefixFeatures()
        rows = [live.update(e, n_tokens=int(n), logprob=p, entropy=h) for e, n, p, h in zip(*run, strict=True)]
        for name in FEATURE_NAMES:
            np.testing.assert_array_equal([row[name] for row in rows], whole[name], err_msg=name)
    for line in lines:
        columns = offline(*line)
        assert (columns["tortuosity"][1:] >= 1).all()
        assert (columns["straightness"][1:] <= 1).all()


def test_a_row_that_the_caller_reuses_is_not_remembered_by_reference():
    live, buffer = PrefixFeatures(), np.zeros(3)
    live.update(buffer, n_tokens=1, logprob=0.0, entropy=0.0)
    buffer[0] = 3.0
    assert live.update(buffer, n_tokens=2, logprob=0.0, entropy=0.0)["path_length"] == 3


def test_the_first_concentrations_have_a_mean_before_they_have_a_slope():
    effects = np.array([[-1.0, -1], [1, 0], [1, 1]])
    columns = offline(effects, [1, 2, 3], np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(columns["concentration_mean"], [np.nan, 1, 0.5])
    np.testing.assert_array_equal(columns["concentration_sd"], [np.nan, 0, 0.5])
    np.testing.assert_array_equal(columns["concentration_slope"], [np.nan, np.nan, -1])


def test_parts_of_different_length_are_refused():
    with pytest.raises(InputError, match=r"n_tokens must hold one number for each of the 2 steps; got shape \(3,\)"):
        offline(np.ones((2, 3)), [1, 2, 3], [0, 0], [0, 0])
    live = PrefixFeatures()
    live.update(np.ones(3), n_tokens=1, logprob=0.0, entropy=0.0)
    with pytest.raises(InputError, match=r"step 2: effects must have shape \(3,\); got \(1,\)"):
        live.update(np.ones(1), n_tokens=2, logprob=0.0, entropy=0.0)


def test_features_of_a_prefix_do_not_change_with_what_follows():
    effects, n_tokens, logprob, entropy = a_run(3)
    before = {name: column[:5] for name, column in offline(effects, n_tokens, logprob, entropy).items()}
    effects[5:], logprob[5:], entropy[5:] = 99.0, -7.0, 7.0
    after = offline(effects, n_tokens, logprob, entropy)
    for name in FEATURE_NAMES:
        np.testing.assert_array_equal(before[name], after[name][:5], err_msg=name)


def test_the_last_row_is_the_geometry_of_the_whole_run():
    effects, *rest = a_run(1)
    last = {name: column[-1] for name, column in offline(effects, *rest).items()}
    for name in ("path_length", "net_displacement", "tortuosity", "straightness", "mean_step", "switch_rate"):
        np.testing.assert_allclose(last[name], getattr(tj, name)(effects), rtol=1e-12, err_msg=name)
    level = tj.concentration(effects)
    known = np.flatnonzero(~np.isnan(level))
    assert last["concentration_mean"] == pytest.approx(level[known].mean())
    assert last["concentration_sd"] == pytest.approx(level[known].std())
    assert last["concentration_slope"] == pytest.approx(np.polyfit(known + 1, level[known], 1)[0])
    assert last["logprob_mean"] == pytest.approx(rest[1].mean())
    assert (last["logprob_low"], last["entropy_high"]) == (rest[1].min(), rest[2].max())


def test_one_doubtful_step_stands_in_the_extremes_however_long_the_run():
    logprob, entropy = np.full(50, -0.01), np.full(50, 0.02)
    logprob[3], entropy[5] = -2.0, 1.5
    found = offline(np.zeros((50, 0)), np.arange(50), logprob, entropy)
    np.testing.assert_array_equal(found["logprob_low"], [-0.01] * 3 + [-2.0] * 47)
    np.testing.assert_array_equal(found["entropy_high"], [0.02] * 5 + [1.5] * 45)
    assert found["logprob_mean"][-1] > -0.05


@pytest.mark.parametrize("unknown", [0, 3, 8])
def test_what_is_said_of_uncertainty_is_unknown_from_a_step_on_that_tells_none(unknown):
    effects, n_tokens, logprob, entropy = a_run(4)
    logprob[unknown] = entropy[unknown] = np.nan
    whole, live = offline(effects, n_tokens, logprob, entropy), PrefixFeatures()
    for t in range(9):
        live = PrefixFeatures.from_state(json.loads(json.dumps(live.to_state(), allow_nan=False)))
        now = live.update(effects[t], n_tokens=int(n_tokens[t]), logprob=logprob[t], entropy=entropy[t])
        for name in ("logprob_mean", "entropy_mean", "logprob_low", "entropy_high"):
            assert np.isnan(now[name]) == (t >= unknown), name
            np.testing.assert_array_equal(now[name], whole[name][t], err_msg=name)


def test_a_state_without_extremes_is_of_another_version():
    state = PrefixFeatures().to_state()
    del state["extremes"]
    with pytest.raises(InputError, match=r"damaged, or of another version of trajkit: KeyError\('extremes'\)"):
        PrefixFeatures.from_state(state)


def test_a_run_without_steps_has_no_rows():
    assert all(len(c) == 0 for c in offline(np.zeros((0, 4)), [], [], []).values())


def test_the_layer_needs_numpy_alone():
    code = (
        "import sys; before = set(sys.modules); import trajkit.trajectory; "
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(loaded - sys.stdlib_module_names - {'numpy', 'trajkit'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("k", [2, 7, 64, 200])
def test_how_effects_lie_in_memory_changes_no_bit(k):
    """Columns of a larger array, a transposed one, and one read backwards, beside a plain copy of each."""
    effects, *said = a_run(3, 30, k)
    effects[4, 1] = 1e6 + 1 / 3  # so that another order of sums rounds otherwise
    for view in (np.asfortranarray(effects), np.repeat(effects, 2, axis=1)[:, ::2], effects[:, ::-1], effects[::-1]):
        plain, whole = offline(np.array(view, order="C"), *said), offline(view, *said)
        live = PrefixFeatures()
        rows = [live.update(e, n_tokens=int(n), logprob=p, entropy=h) for e, n, p, h in zip(view, *said, strict=True)]
        for name in FEATURE_NAMES:
            np.testing.assert_array_equal(whole[name], plain[name], err_msg=name)
            np.testing.assert_array_equal([row[name] for row in rows], plain[name], err_msg=name)
        runs = [tj.run_metrics(x, [0, 11, 30]) for x in (view, np.array(view, order="C"))]
        for name, values in runs[0].items():
            np.testing.assert_array_equal(values, runs[1][name], err_msg=name)
