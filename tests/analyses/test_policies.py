"""What stands behind the page of policies: saved runs that are given back as tokens, and generated on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trajkit as tk
from analyses.continued import Beginning, continued, tokens_of
from analyses.played import World, last_good_steps
from trajkit.attribution.uncertainty import logprob_and_entropy
from trajkit.demo import paths
from trajkit.demo.items import demo_items
from trajkit.detection.store import load_detectors


@pytest.fixture(scope="module")
def world() -> World:
    return World.load(4)


@pytest.fixture(scope="module")
def vlm():
    return tk.load_vlm(paths.MODEL)


@pytest.fixture(scope="module")
def items():
    return {item.group_id: item for item in demo_items("test", 4, seed=1)}


def test_thresholds_are_those_of_the_shipped_monitor(world):
    assert world.monitor(0.1).threshold == load_detectors(paths.DETECTORS).monitor.threshold


def test_a_replay_alarms_where_the_rule_decides_step_by_step(world):
    decided = last_good_steps(world, 0.3)
    alarms = world.alarms(world.monitor(0.3))
    replayed = {
        name: int(world.saved.step[at])
        for name, at in zip(world.saved.runs["transcript_id"], alarms, strict=True)
        if at >= 0
    }
    assert replayed
    assert {name: decision.step for name, decision in decided.items()} == replayed
    assert all(decision.keep_steps < decision.step for decision in decided.values())


def test_tokens_of_a_saved_run_have_the_log_probabilities_that_it_was_saved_with(world, vlm, items):
    for trace in list(world.traces.values())[::6]:
        steps = int(trace.thinking.sum())
        tokens = torch.tensor(tokens_of(vlm, trace, steps))
        prompt = vlm.prepare(items[trace.group_id].image, trace.question)
        with torch.inference_mode():
            logits = vlm.model(**prompt.followed_by(tokens), logits_to_keep=len(tokens) + 1).logits[0, :-1]
        found = logprob_and_entropy(logits, tokens)[0]
        for step in trace.steps[:steps]:
            np.testing.assert_allclose(found[step.token_start : step.token_end].mean(), step.logprob, atol=1e-3)


def test_what_was_generated_is_kept_and_is_the_same_when_it_is_made_again(world, vlm, items, tmp_path, monkeypatch):
    traces = [t for t in world.traces.values() if t.task_set != "general"][:3]  # a search may never end
    beginnings = [Beginning(t.transcript_id, t.group_id, tokens_of(vlm, t, i)) for i, t in enumerate(traces)]
    first = list(continued(vlm, items, beginnings, tmp_path))
    (kept,) = tmp_path.iterdir()
    assert {one.run for one in first} == {t.transcript_id for t in traces}
    assert all(one.tokens > 2 and one.answer for one in first)
    kept.unlink()
    assert list(continued(vlm, items, beginnings, tmp_path)) == first
    monkeypatch.setattr("analyses.continued.generate", None)
    assert list(continued(vlm, items, beginnings, tmp_path)) == first


def test_thinking_that_is_closed_is_answered(world, vlm, items, tmp_path):
    trace = next(t for t in world.traces.values() if t.success)
    whole = (*tokens_of(vlm, trace, int(trace.thinking.sum())), vlm.think_end)
    (one,) = continued(vlm, items, [Beginning(trace.transcript_id, trace.group_id, whole)], tmp_path)
    assert (one.answer, one.right) == (trace.answer, True)
    assert one.tokens == trace.steps[-1].token_end - trace.steps[-1].token_start + 1
