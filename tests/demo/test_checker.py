"""The checker: what is said of a run is held against its scene and against what follows."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.demo.writer import write_reasoning
from tests.demo.test_procedures import cases
from tests.demo.test_questions import GRID_BY_HAND
from trajkit.demo.acts import Pick, say
from trajkit.demo.checker import Check, label_run
from trajkit.demo.procedures import plan
from trajkit.demo.questions import parse_question

WALK = parse_question("red right, green down, blue left, orange up. 3 steps from row 1 col 1. where is the end?")
COUNT = parse_question("how many red in row 4 to row 5?")


def label(question, *said, answer):
    return label_run(question, GRID_BY_HAND, said, answer)


def planned(question):
    return [say(act) for act in plan(question, GRID_BY_HAND)]


def test_runs_without_a_mistake_are_successes():
    for rng, scene, question in cases(40):
        written = write_reasoning(question, scene, np.zeros((6, 6)), rng, 0.0)
        found = label_run(question, scene, written.sentences, written.answer)
        assert (found.outcome, found.first_wrong, set(found.steps)) == ("success", None, {""})


def test_written_slips_are_found_and_explain_every_wrong_answer():
    """What is written follows from what it reads, so that all of its wrong answers are hallucinations."""
    wrong = slips = 0
    for rng, scene, question in cases(150):
        written = write_reasoning(question, scene, np.full((6, 6), 0.9), rng, 1.0)
        found = label_run(question, scene, written.sentences, written.answer)
        assert [i for i, step in enumerate(found.steps) if step == "false"] == sorted({s for s, _ in written.slips})
        assert "lost" not in found.steps
        slips += len(written.slips)
        if found.outcome != "success":
            wrong += 1
            assert (found.outcome, found.detail) == ("hallucination", "misreading")
            assert found.steps[found.first_wrong] == "false"
    assert slips > 100
    assert wrong > 20


def test_a_false_reading_that_the_answer_rests_on_is_a_hallucination():
    """One that leads to the right place all the same is none."""
    found = label(
        WALK,
        "row 1 col 1 is red 4.",
        "step 1, right to row 1 col 2.",
        "row 1 col 2 is red 3.",
        "step 2, right to row 1 col 3.",
        "row 1 col 3 is green 1.",
        "step 3, down to row 2 col 3.",
        answer="row 2 col 2",
    )
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "wrong answer", 6)
    misled = ["row 1 col 1 is green 4.", "step 1, down to row 2 col 1.", "row 2 col 1 is green 5."]
    misled += ["step 2, down to row 3 col 1.", "row 3 col 1 is empty.", "step 3, down to row 4 col 1."]
    found = label(WALK, *misled, answer="row 4 col 1")
    assert (found.outcome, found.detail, found.first_wrong) == ("hallucination", "misreading", 0)
    assert found.steps == ("false", "", "", "", "", "")
    found = label(WALK, *misled[:3], "step 2, up to row 1 col 1.", *misled[4:], answer="row 4 col 1")
    assert found.detail == "misreading, then wrong step"


def test_a_wrong_turn_after_true_readings_is_a_failure_of_reasoning():
    said = ["row 1 col 1 is red 4.", "step 1, down to row 2 col 1.", "row 2 col 1 is green 5."]
    said += ["step 2, down to row 3 col 1.", "row 3 col 1 is empty.", "step 3, down to row 4 col 1."]
    found = label(WALK, *said, answer="row 4 col 1")
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "wrong step", 1)
    assert found.steps == ("", "lost", "", "", "", "")
    false_then = [*said[:4], "row 3 col 1 is blue 1.", "step 3, left to row 3 col 6."]
    found = label(WALK, *false_then, answer="row 3 col 6")
    assert (found.outcome, found.detail) == ("unknown", "wrong step, then misreading")


def test_a_misreading_that_is_put_right_leaves_a_run_on_its_course():
    said = planned(COUNT)
    slip = said[0].replace("orange", "red")
    found = label(COUNT, slip, f"wait, {said[0]}", *said[1:], answer="1")
    assert (found.outcome, found.corrections, found.false_readings) == ("success", 1, 0)
    assert found.steps[:3] == ("false", "", "")
    check = Check(COUNT, GRID_BY_HAND)
    on_course = [check.left is None for s in (slip, f"wait, {said[0]}") if check.update(s) or True]
    assert on_course == [False, True]


def test_a_misreading_that_changes_nothing_is_no_cause():
    said = planned(COUNT)
    said[1] = said[1].replace("5", "6")  # another digit, the same colour
    found = label(COUNT, *said, answer="4")
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "wrong answer", len(said))
    assert (found.steps[1], found.false_readings) == ("false", 1)


def test_a_misread_cell_that_was_not_due_is_a_wrong_step_where_the_truth_would_be_one_too():
    question = parse_question("how many blue in row 4 to row 5?")
    found = label(question, "row 4 col 1 is orange 3.", "row 5 col 6 is blue 0.", "that makes 1 blue.", answer="1")
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "wrong step", 1)
    assert found.steps == ("", "false", "")
    done = planned(COUNT)
    found = label(COUNT, *done, "row 4 col 1 is red 3.", answer="4")
    assert (found.outcome, found.detail) == ("reasoning_failure", "wrong answer")


def test_a_trail_that_is_misread_until_the_end_is_a_hallucination_and_not_a_run_without_answer():
    follow = parse_question("follow red from row 1 col 1. where is the 0?")
    said = ["row 1 col 1 is red 4.", "right row 1 col 2 is green 2.", "down row 2 col 1 is green 5."]
    found = label(follow, *said, answer=None)
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "no answer", len(said))
    said += ["no 0, again from row 1 col 1.", *said[1:]]
    found = label(follow, *said, answer=None)
    assert (found.outcome, found.detail, found.first_wrong) == ("hallucination", "misreading", 1)
    assert found.steps == ("", "false", "", "", "false", "")
    found = label(follow, said[0], "row row.", *said[1:], answer=None)
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "no answer", 1)


def test_a_tally_that_is_due_stays_due_while_a_cell_is_read_again():
    said = planned(COUNT)
    at = said.index("that makes 1 red.")
    found = label(COUNT, *said[:at], said[0], *said[at:], answer="1")
    assert found.outcome == "success"
    assert [i for i, step in enumerate(found.steps) if step] == [at]
    same = parse_question("how many times is row 1 the same as row 2?")
    said = planned(same)
    at = said.index("that makes 1.")
    found = label(same, *said[:at], said[0], *said[at:], answer="1")
    assert (found.outcome, [i for i, step in enumerate(found.steps) if step]) == ("success", [at])


def test_of_two_misreadings_the_one_that_was_picked_is_the_cause():
    """Of two equal digits the true one can be picked, so that the run leaves its course with the pick."""
    seen = ["red 4", "red 2", "green 1", "green 1", "empty", "red 3"]  # the second 1 and the last colour are not so
    said = [f"row 1 col {i} is {cell}." for i, cell in enumerate(seen, start=1)]
    check = Check(parse_question("sort row 1 up."), GRID_BY_HAND)
    for sentence in said:
        check.update(sentence)
    assert (check.left, sorted(check.misread.values())) == (None, [3, 5])
    assert check.update(say(Pick(1, (0, 3), largest=False))) == ""
    assert (check.left, check.misled) == (3, True)


def test_after_a_pair_was_left_out_the_other_end_is_no_longer_a_beginning():
    check = Check(parse_question("how many times is row 2 the same as row 1?"), GRID_BY_HAND)
    assert [check.update(s) for s in ("green and red, no.", "row 2 col 6 is orange 1.")] == ["lost", "lost"]
    assert check.left == 1


def test_a_wrong_tally_and_a_cell_left_out_are_wrong_steps():
    said = planned(COUNT)
    at = said.index("that makes 1 red.")
    wrong = [*said[:at], "that makes 2 red.", *said[at + 1 :]]
    assert label(COUNT, *wrong, answer="2").first_wrong == at
    skipped = [*said[: at - 1], *said[at + 1 :]]
    found = label(COUNT, *skipped, answer="0")
    assert (found.outcome, found.detail, found.first_wrong) == ("reasoning_failure", "wrong step", at - 1)


def test_a_run_that_never_answers_is_a_failure_of_reasoning_and_nonsense_is_lost():
    said = planned(COUNT)
    found = label(COUNT, *said, "row row 3.", answer=None)
    assert (found.outcome, found.detail, found.steps[-1]) == ("reasoning_failure", "no answer", "lost")
    assert found.first_wrong == len(said)
    assert label(COUNT, *said, answer=None).first_wrong == len(said)
    assert label(COUNT, "row row 3.", *said, answer=None).first_wrong == 0


def test_a_step_out_of_the_grid_is_lost_and_not_followed():
    check = Check(WALK, GRID_BY_HAND)
    said = ["row 1 col 1 is red 4.", "step 1, right to row 1 col 7.", "step 1, right to row 1 col 2."]
    assert [check.update(sentence) for sentence in said] == ["", "lost", ""]
    assert check.left is None


@pytest.mark.parametrize("answer", ["1", " 1 .", "1."])
def test_an_answer_is_held_against_the_truth_as_words(answer):
    assert label(COUNT, *planned(COUNT), answer=answer).outcome == "success"
