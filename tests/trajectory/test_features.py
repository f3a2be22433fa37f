"""Prefix features: the same online and offline, and blind to what comes later."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from trajkit import trajectory as tj
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
            np.testing.assert_allclose(value, whole[name][t], rtol=1e-12, atol=1e-9, err_msg=f"{name} at step {t + 1}")


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


def test_a_run_without_steps_has_no_rows():
    assert all(len(c) == 0 for c in offline(np.zeros((0, 4)), [], [], []).values())


def test_the_layer_needs_numpy_alone():
    heavy = {"torch", "scipy", "sklearn", "pandas"}
    code = f"import sys, trajkit.trajectory; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
