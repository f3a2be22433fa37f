"""Procedures: going by their options always ends in the right answer, whichever is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.demo.test_questions import GRID_BY_HAND
from trajkit.demo.acts import Read, parse, say
from trajkit.demo.grid import draw_scene
from trajkit.demo.procedures import go_on, plan, procedure
from trajkit.demo.questions import FAMILIES, draw_question, parse_question


def cases(n):
    for seed in range(n):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, usual=0.5)
        for family in FAMILIES:
            if question := draw_question(rng, scene, family):
                yield rng, scene, question


def test_any_of_the_options_at_any_time_ends_in_the_right_answer():
    for rng, scene, question in cases(60):
        steps = procedure(question)
        while options := steps.options():
            assert steps.answer() is None
            act = options[rng.integers(len(options))]
            act = replace(act, seen=scene.at(act.at)) if isinstance(act, Read) else act
            assert steps.allows(act)
            steps.take(act)
        assert steps.answer() == question.answer(scene)


def test_a_run_that_was_led_astray_and_reads_truly_from_there_comes_to_an_end():
    """Any acts in any order, from other questions too: the state that they lead to can be gone on from."""
    said = [act for _, scene, question in cases(12) for act in plan(question, scene)]
    for rng, scene, question in cases(12):
        steps = procedure(question)
        for i in rng.integers(0, len(said), 25):
            steps.take(said[i])
        assert len(go_on(steps, scene)) < 500


def test_a_correction_takes_back_what_the_reading_led_to():
    question = parse_question("how many red in row 1 to row 3?")
    steps = procedure(question)
    steps.take(parse("row 1 col 1 is blue 4."))
    assert not any(act == parse("that makes 1 red.") for act in steps.options())
    again = parse("wait, row 1 col 1 is red 4.")
    assert steps.allows(again)
    assert not steps.allows(parse("wait, row 1 col 2 is red 4."))
    steps.take(again)
    assert steps.options() == [parse("that makes 1 red.")]


def test_a_copy_goes_its_own_way():
    question = parse_question("sort row 1 up.")
    steps = procedure(question)
    other = steps.copy()
    go_on(other, GRID_BY_HAND)
    assert other.answer() == "1 2 3 4 9"
    assert steps.answer() is None
    assert not steps.believed


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "follow red from row 1 col 1. what is before the 0?": [
            "row 1 col 1 is red 4.",
            "right row 1 col 2 is red 2.",
            "on to row 1 col 2.",
            "right row 1 col 3 is green 1.",
            "down row 2 col 2 is red 6.",
            "on to row 2 col 2.",
            "right row 2 col 3 is red 0.",
            "the 0 is at row 2 col 3.",
            "before it is 6.",
        ],
        "how many blue and orange in row 4 to row 4?": [
            "row 4 col 1 is orange 3.",
            "that makes 0 blue and 1 orange.",
            "row 4 col 2 is orange 5.",
            "that makes 0 blue and 2 orange.",
            "row 4 col 3 is blue 1.",
            "that makes 1 blue and 2 orange.",
            "row 4 col 4 is green 6.",
            "row 4 col 5 is green 6.",
            "row 4 col 6 is blue 8.",
            "that makes 2 blue and 2 orange.",
        ],
        "red right, green down, blue left, orange up. 2 steps from row 1 col 1. where is the end?": [
            "row 1 col 1 is red 4.",
            "step 1, right to row 1 col 2.",
            "row 1 col 2 is red 2.",
            "step 2, right to row 1 col 3.",
        ],
    }.items(),
)
def test_plans_by_hand(text, said):
    assert [say(act) for act in plan(parse_question(text), GRID_BY_HAND)] == said


def test_a_sort_reads_what_is_left_again_after_each_pick():
    said = [say(act) for act in plan(parse_question("sort row 1 down."), GRID_BY_HAND)]
    picks = [sentence for sentence in said if sentence.startswith("largest")]
    assert [pick.rstrip(".").split()[-1] for pick in picks] == ["9", "4", "3", "2", "1"]
    assert len(said) == 6 + 4 + 3 + 2 + 1 + 5  # the empty cell is not read again
