"""Sentence features: what each is, on steps whose answer can be seen; and that no later step changes them."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.detection.step_features import KINDS, SentenceFeatures, features_of_steps
from trajkit.errors import InputError
from trajkit.trajectory.prefixes import as_ends, prefix_features_of_runs

HALF = np.sqrt(0.5)


def of(effects, named=None, run=None, logprob=None):
    n = len(effects)
    return features_of_steps(
        np.array(effects, float),
        np.zeros(n, int) if run is None else np.array(run),
        logprob=-np.arange(1.0, n + 1) if logprob is None else logprob,
        entropy=np.full(n, 0.5),
        tokens=np.arange(n) + 3,
        named=None if named is None else np.array(named, bool),
    )


def random_steps(seed: int, n: int = 200, k: int = 5):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0.2, 1, (n, k)).astype(np.float32)
    effects[rng.random(n) < 0.05] = 0
    effects[rng.random(n) < 0.05] *= -1
    named = (rng.random((n, k)) < 0.3) & (rng.random(n) < 0.6)[:, None]
    run = np.sort(rng.integers(0, n // 8, n))
    logprob = np.where(rng.random(n) < 0.1, np.nan, -np.abs(rng.normal(size=n)))
    return effects, named, run, logprob, np.abs(rng.normal(size=n)), rng.integers(1, 20, n)


def test_each_on_steps_whose_answer_can_be_seen() -> None:
    found = of([[4, 0, -1], [3, 3, 0], [0, 2, 0], [4, 0, 0], [-1, -2, -3]])
    expected = {
        "mass": [4, 6, 2, 4, 0],
        "largest": [4, 3, 2, 4, -1],
        "concentration": [1, 0.25, 1, 1, np.nan],
        "agreement": [np.nan, 12 / np.sqrt(17 * 18), np.nan, HALF, np.nan],  # with the last that rests there most
        "agreement_before": [np.nan, 12 / np.sqrt(17 * 18), HALF, 0, -1 / np.sqrt(14)],
        "seen": [0, 1, 0, 1, np.nan],
        "since": [np.nan, 1, np.nan, 2, np.nan],
        "logprob_low": [-1, -2, -3, -4, -5],
        "tokens": [3, 4, 5, 6, 7],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    assert not {"named", "named_share"} & set(found)


def test_what_is_named_beside_where_it_rests() -> None:
    named = [[1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]]
    found = of([[3, 1, -1], [5, 0, 0], [-2, 1, 1], [0, 4, 0]], named)
    expected = {
        "named": [1, 0, 1, 1],
        "named_effect": [3, np.nan, -1, 0],
        "named_share": [0.75, np.nan, 0.5, 0],
        "agreement_named": [np.nan, np.nan, np.nan, 1 / np.sqrt(11)],  # with the last that names the same place
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_runs_know_nothing_of_each_other() -> None:
    effects, named, run, logprob, entropy, tokens = random_steps(0)
    told = {"logprob": logprob, "entropy": entropy, "tokens": tokens, "named": named}
    together = features_of_steps(effects, run, **told)
    for one in np.unique(run):
        mine = run == one
        alone = features_of_steps(effects[mine], run[mine], **{name: values[mine] for name, values in told.items()})
        for name, values in alone.items():
            np.testing.assert_array_equal(values, together[name][mine], err_msg=name)


@pytest.mark.parametrize("k", [1, 2, 5, 17])
def test_online_they_are_the_offline_ones_to_the_last_bit_so_that_none_sees_the_future(k: int) -> None:
    effects, named, run, logprob, entropy, tokens = random_steps(k, k=k)
    offline = features_of_steps(effects, run, logprob=logprob, entropy=entropy, tokens=tokens, named=named)
    assert set(offline) == set(KINDS["both"])
    for one in np.unique(run):
        running = SentenceFeatures(named=True)
        for number, i in enumerate(np.flatnonzero(run == one), 1):
            now = running.update(
                effects[i], logprob=logprob[i], entropy=entropy[i], tokens=int(tokens[i]), named=named[i]
            )
            assert now.pop("step") == number
            assert set(now) == set(offline)
            for name, value in now.items():
                np.testing.assert_array_equal(value, offline[name][i], err_msg=f"{name} of step {number}")


def test_the_lowest_log_probability_is_the_prefix_feature_of_that_name() -> None:
    """Where sentences and prefixes are read side by side, it does not matter whose it is."""
    effects, _, run, logprob, entropy, tokens = random_steps(1)
    ends = as_ends(run)[1]
    of_prefixes = prefix_features_of_runs(effects, ends, n_tokens=tokens, logprob=logprob, entropy=entropy)
    of_sentences = features_of_steps(effects, run, logprob=logprob, entropy=entropy, tokens=tokens)
    np.testing.assert_array_equal(of_sentences["logprob_low"], of_prefixes["logprob_low"])


def test_without_effects_only_uncertainty_is_known() -> None:
    found = of(np.zeros((3, 0)))
    running = SentenceFeatures()
    online = [running.update([], logprob=-i, entropy=0.5, tokens=i + 2) for i in (1.0, 2.0, 3.0)]
    for name, values in found.items():
        known = name in KINDS["uncertainty"]
        assert np.isfinite(values).all() == known, name
        np.testing.assert_array_equal([step[name] for step in online], values)


def test_time_a_step_does_not_grow_with_the_run() -> None:
    """What it keeps is bounded by regions and places, not by steps."""
    running, rng = SentenceFeatures(named=True), np.random.default_rng(0)
    for _ in range(500):
        running.update(
            rng.normal(size=6), logprob=-1.0, entropy=1.0, tokens=3, named=np.eye(6, dtype=bool)[rng.integers(6)]
        )
    assert len(running._last) <= 12


def test_what_does_not_fit_is_refused() -> None:
    told = {"logprob": -1.0, "entropy": 1.0, "tokens": 3}
    running = SentenceFeatures()
    running.update([1.0, 2.0], **told)
    with pytest.raises(InputError, match=r"step 2: effects must be \(K,\)"):
        running.update([1.0], **told)
    with pytest.raises(InputError, match="step 2: what is named must be left out; got shape"):
        running.update([1.0, 2.0], **told, named=np.ones(2, bool))
    with pytest.raises(InputError, match=r"step 1: what is named must be \(K,\); got none"):
        SentenceFeatures(named=True).update([1.0, 2.0], **told)
    with pytest.raises(InputError, match="logprob must hold one number for each of the 2 steps"):
        of([[1.0], [2.0]], logprob=np.zeros(3))
    with pytest.raises(InputError, match=r"must be \(N, K\)"):
        of([[1.0], [2.0]], named=[[True, False], [True, False]])
