"""An interrupt of a collection keeps the runs of a batch that had ended."""

from __future__ import annotations

import pytest

from trajkit.attribution import collect as collecting
from trajkit.attribution.collect import collect
from trajkit.attribution.item import Item
from trajkit.vlm import generation
from trajkit.vlm.generation import Sampling

SAMPLING = Sampling(temperature=1.0, max_new_tokens=250, seed=3)
OPTIONS = {"samples": 6, "sampling": SAMPLING}


@pytest.fixture(scope="module")
def items(scene_image):
    return [
        Item("a", scene_image, "how many red in row 1 to row 3?", "s", "no"),
        Item("b", scene_image, "sort row 2 down.", "s", "1"),
    ]


@pytest.fixture(scope="module")
def whole(demo_vlm, demo_estimator, items):
    return {trace.transcript_id: trace for trace in collect(demo_vlm, items, estimator=demo_estimator, **OPTIONS)}


def until_interrupted(runs):
    kept = []
    with pytest.raises(KeyboardInterrupt):
        kept.extend(runs)
    return kept


def lengths(whole):
    return sorted(trace.steps[-1].token_end for trace in whole.values())


def test_those_that_had_ended_are_as_they_would_have_been_and_the_rest_follows(
    demo_vlm, demo_estimator, items, whole, monkeypatch
):
    at, seen = lengths(whole)[5] + 3, []

    def interrupt(self, input_ids, scores, **rest):
        seen.append(input_ids)
        if len(seen) == at:
            raise KeyboardInterrupt
        return own(self, input_ids, scores, **rest)

    own = generation.Budget.__call__
    monkeypatch.setattr(generation.Budget, "__call__", interrupt)
    kept = until_interrupted(collect(demo_vlm, items, estimator=demo_estimator, **OPTIONS))
    monkeypatch.undo()
    assert 5 <= len(kept) < len(whole)
    for trace in kept:
        expected = whole[trace.transcript_id]
        assert [step.text for step in trace.steps] == [step.text for step in expected.steps]
        assert trace.answer == expected.answer
    done = frozenset(trace.transcript_id for trace in kept)
    rest = collect(demo_vlm, items, estimator=demo_estimator, done=done, **OPTIONS)
    assert {trace.transcript_id for trace in rest} == whole.keys() - done


def test_all_that_were_generated_are_explained_where_that_is_interrupted(
    demo_vlm, demo_estimator, items, whole, monkeypatch
):
    calls = []

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return own(*arguments)

    own = collecting.explain
    monkeypatch.setattr(collecting, "explain", interrupt)
    kept = until_interrupted(collect(demo_vlm, items, estimator=demo_estimator, **OPTIONS))
    assert {trace.transcript_id for trace in kept} == whole.keys()
