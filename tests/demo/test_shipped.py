"""What is shipped in data/demo holds what its card says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import trajkit as tk
from trajkit.demo import paths
from trajkit.demo.evaluation import answer_all
from trajkit.demo.items import CLEAN, demo_items, judge_by_scene
from trajkit.demo.questions import FORMS
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
    kinds = ("hallucination", "reasoning_failure")
    assert min(outcomes[kind] for kind in kinds) >= 300
    families: dict[str, set[str]] = {kind: set() for kind in kinds}
    for family, outcome in zip(traces.column("task_set"), traces.column("outcome"), strict=True):
        families.get(outcome, set()).add(family)
    assert min(map(len, families.values())) >= 4


def test_every_form_has_runs_that_succeed_and_runs_that_fail(traces):
    came: dict[str, set[bool]] = {}
    for trace in traces.without_images():
        came.setdefault(trace.meta["kind"], set()).add(trace.outcome == "success")
    assert came == {kind: {True, False} for both in FORMS.values() for kind in both}


def test_runs_are_long_and_their_lengths_vary_within_a_task(traces):
    by_task: dict[str, list[int]] = {}
    for task, steps in zip(traces.column("task_set"), traces.column("n_steps"), strict=True):
        by_task.setdefault(task, []).append(steps)
    assert len(by_task) == 5
    assert all(15 <= np.median(steps) <= 50 for steps in by_task.values())
    assert np.std(by_task.pop("document")) > 1  # two rows have six pairs, whatever they hold
    assert all(np.std(steps) > 2 for steps in by_task.values())


def test_pictures_are_the_files_that_the_model_saw(traces):
    for trace in (traces[0], traces[len(traces) - 1]):
        split, seed, number = trace.group_id.split("-")
        *_, item = demo_items(split, int(number) + 1, int(seed))
        assert trace.image == item.jpeg
        assert trace.question == item.question


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
    """A small sample: 0.71 is three standard errors below 0.85; reports/demo_model.md has the figures."""
    judged = answer_all(demo_vlm, demo_items("test", 60, 77, CLEAN), Sampling(0, 400))
    assert np.mean([j.outcome == "success" for _, j, *_ in judged]) >= 0.71


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
