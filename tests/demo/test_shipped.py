"""What is shipped in data/demo holds what its card says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import trajkit as tk
from trajkit.demo import paths
from trajkit.demo.evaluation import answer_all
from trajkit.demo.runs import demo_items, judge_by_scene
from trajkit.vlm.generation import Sampling


@pytest.fixture(scope="module")
def traces():
    return tk.read_traces(paths.TRACES)


def test_everything_shipped_is_small():
    assert sum(f.stat().st_size for f in (paths.ROOT / "data").rglob("*") if f.is_file()) < 40e6


def test_there_are_enough_runs_in_groups(traces):
    groups = Counter(traces.column("group_id"))
    assert len(traces) >= 3000
    assert len(groups) >= 500
    assert min(groups.values()) >= 2
    assert len(set(traces.ids)) == len(traces)


def test_failures_are_neither_rare_nor_the_rule_and_of_both_kinds(traces):
    outcomes = Counter(traces.column("outcome"))
    share = {name: n / len(traces) for name, n in outcomes.items()}
    assert 0.30 <= 1 - share["success"] <= 0.55
    assert share["hallucination"] >= 0.08
    assert share["reasoning_failure"] >= 0.08


def test_lengths_vary_within_a_task(traces):
    by_task: dict[str, list[int]] = {}
    for task, steps in zip(traces.column("task_set"), traces.column("n_steps"), strict=True):
        by_task.setdefault(task, []).append(steps)
    assert len(by_task) == 5
    assert all(np.std(steps) > 0.8 for steps in by_task.values())


def test_traces_carry_the_fingerprint_of_the_shipped_model(traces, demo_vlm, demo_estimator):
    from trajkit.detection.store import load_detectors

    assert {traces[i].meta["fingerprint"] for i in range(0, len(traces), 500)} == {demo_vlm.fingerprint}
    demo_estimator.check(demo_vlm.fingerprint, demo_vlm.name)
    load_detectors(paths.DETECTORS).check(demo_vlm.name, demo_vlm.fingerprint)


def test_labels_can_be_made_again_from_the_traces(traces):
    from trajkit.attribution.item import Item

    for i in range(0, len(traces), 97):
        trace = traces[i]
        item = Item(trace.task_id, None, trace.question, trace.group_id, trace.target, trace.task_set, dict(trace.meta))
        sentences = [s.text for s in trace.steps if s.kind == "thinking"]
        answer = trace.answer if trace.meta["thinking_closed"] else None
        assert judge_by_scene(item, sentences, answer).outcome == trace.outcome


def test_the_model_answers_clean_held_out_scenes(demo_vlm):
    """A small sample: 0.74 is three standard errors below 0.85; reports/demo_model.md has the figures."""
    judged = answer_all(demo_vlm, demo_items("test", 100, seed=77, difficulty=(0, 0)), Sampling(0))
    assert np.mean([j.outcome == "success" for _, j, *_ in judged]) >= 0.74


def test_the_shipped_detectors_are_those_that_fitting_again_gives(traces):
    from trajkit.demo.runs import fit_demo_detectors
    from trajkit.detection.store import load_detectors

    again = fit_demo_detectors(list(traces.without_images()), n_boot=2).detectors
    shipped = load_detectors(paths.DETECTORS)
    assert shipped.monitor.threshold == pytest.approx(again.monitor.threshold, rel=1e-6)
    assert shipped.card["test_groups"] == again.card["test_groups"]


def test_no_question_about_a_test_scene_is_asked_about_a_scene_of_another_split(traces):
    asked: dict[str, set[str]] = {"validation": set(), "test": set()}
    for trace in traces.without_images():
        asked[trace.meta["digits"]].add(f"{trace.question} {trace.meta['cells']}")
    assert min(map(len, asked.values())) > 200
    assert not asked["validation"] & asked["test"]
