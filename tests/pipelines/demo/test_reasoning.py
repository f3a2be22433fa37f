"""Questions, written reasoning and labels agree with the scene that they are about."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from pipelines.demo.reasoning import vocabulary, write_reasoning
from trajkit.demo.labeller import label_run
from trajkit.demo.scene import Scene, draw_scene
from trajkit.demo.tasks import FAMILIES, Task, draw_task, parse_question

RED1, BLUE7, GREEN5 = ("red", 1), ("blue", 7), ("green", 5)
SCENE = Scene(
    ((RED1, None, BLUE7, None), (None, GREEN5, None, None), (RED1, None, None, BLUE7), (None,) * 4), ((0.0,) * 4,) * 4
)


def drawn(n, freedom, spell_out=True):
    rng = np.random.default_rng(7)
    for i in range(n):
        scene, _ = draw_scene(rng, "train", rng.random() * freedom)
        task = draw_task(rng, scene, FAMILIES[i % 5])
        yield task, scene, write_reasoning(task, scene, rng, freedom, spell_out)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("is there a red 1?", "yes"),
        ("is there a red 7?", "no"),
        ("is there a red 1 in row 2?", "no"),
        ("what is the sum of row 1?", "8"),
        ("what is the sum of the blue digits?", "14"),
        ("what is row 1 col 3 minus row 2 col 2?", "2"),
        ("read row 1.", "1 empty 7 empty"),
        ("read col 1.", "1 empty 1 empty"),
        ("how many blue digits are there?", "2"),
        ("what is the largest green digit?", "5"),
        ("are there more blue than green digits?", "yes"),
        ("are there more red than blue digits?", "no"),
        ("write commands to draw row 3.", "draw 3 1 red 1; draw 3 4 blue 7"),
        ("write commands to draw row 4.", "nothing"),
    ],
)
def test_the_truth_of_each_question_worked_by_hand(question, answer):
    assert parse_question(question).truth(SCENE) == answer


def test_every_question_can_be_read_back():
    for task, _, _ in drawn(300, 1.0):
        assert parse_question(task.question) == task
    with pytest.raises(ValueError, match="not a question of the demo world"):
        parse_question("what colour is the sky?")


@pytest.mark.parametrize("freedom", [0.0, 1.0])
def test_written_reasoning_is_labelled_right_unless_a_slip_was_left_standing(freedom):
    outcomes: Counter[str] = Counter()
    for task, scene, written in drawn(600, freedom):
        label = label_run(task, scene, written.sentences, written.answer)
        outcomes[label.outcome] += 1
        if label.outcome != "success":
            assert label.outcome == "hallucination"
            assert label.false_readings
            assert label.first_wrong is not None
            assert any(number == label.first_wrong for number, _ in written.slips)
    assert outcomes["success"] > 500
    assert (outcomes["hallucination"] > 0) == (freedom > 0)


def test_free_reasoning_varies_in_order_and_length_and_corrects_itself():
    task, rng = parse_question("read row 1."), np.random.default_rng(0)
    free = [write_reasoning(task, SCENE, rng, 1.0) for _ in range(60)]
    assert len({t.sentences for t in free}) > 40
    assert len({len(t.sentences) for t in free}) >= 3
    assert any("wait" in s for t in free for s in t.sentences)
    fixed = {write_reasoning(task, SCENE, rng, 0.0).sentences for _ in range(5)}
    assert len(fixed) == 1


def test_every_word_is_in_the_vocabulary_and_slips_point_at_words():
    words = set(vocabulary())
    for task, _, written in drawn(400, 1.0):
        text = " ".join((task.question, *written.sentences, written.answer))
        assert set(re.findall(r"\w+|[^\w\s]", text)) <= words
        for sentence, word in written.slips:
            assert written.sentences[sentence].split()[word]


class TestLabels:
    task: Task = parse_question("what is the sum of row 1?")
    look = ("row 1 col 1 is red 1.", "row 1 col 3 is blue 7.")

    def label(self, *sentences, answer):
        return label_run(self.task, SCENE, sentences, answer)

    def test_a_right_answer_is_a_success(self):
        assert self.label(*self.look, "1 plus 7 is 8.", answer="8").outcome == "success"

    def test_an_answer_that_follows_a_false_reading_is_a_hallucination(self):
        label = self.label("row 1 col 1 is red 4.", self.look[1], "4 plus 7 is 11.", answer="11")
        assert (label.outcome, label.first_wrong, label.false_readings) == ("hallucination", 0, 1)

    def test_a_wrong_answer_from_right_readings_is_a_reasoning_failure(self):
        label = self.label(*self.look, "1 plus 7 is 9.", answer="9")
        assert (label.outcome, label.first_wrong) == ("reasoning_failure", 2)

    def test_a_wrong_answer_out_of_the_blue_went_wrong_at_the_answer(self):
        label = self.label(*self.look, "1 plus 7 is 8.", answer="9")
        assert (label.outcome, label.first_wrong) == ("reasoning_failure", 3)

    def test_a_false_reading_that_the_answer_does_not_follow_is_unknown(self):
        assert self.label("row 1 col 1 is red 4.", self.look[1], answer="30").outcome == "unknown"

    def test_a_false_reading_that_does_not_matter_is_not_what_went_wrong(self):
        label = self.label("row 1 col 1 is blue 1.", self.look[1], "1 plus 7 is 9.", answer="9")
        assert (label.outcome, label.first_wrong, label.false_readings) == ("reasoning_failure", 2, 1)

    @pytest.mark.parametrize(
        ("sentences", "answer", "outcome", "detail"),
        [
            ((*look, "1 plus 7 is 8."), "8", "success", ""),
            (("row 1 col 1 is red 4.", look[1], "4 plus 7 is 11."), "11", "hallucination", "misreading"),
            (look[:1], "1", "reasoning_failure", "omission"),
            (("row 1 col 1 is blue 1.",), "1", "reasoning_failure", "omission"),  # the colour does not matter
            ((look[0], "1 plus 7 is 9.", "the sum is 1."), "1", "reasoning_failure", "omission"),
            ((*look, "1 plus 7 is 9."), "9", "reasoning_failure", "wrong step"),
            ((look[0], "1 plus 7 is 9."), "9", "reasoning_failure", "wrong step"),
            ((*look, "1 plus 7 is 8."), "9", "reasoning_failure", "wrong answer"),
            (look, None, "reasoning_failure", "no answer"),
            (("row 1 col 1 is red 4.", look[1], "4 plus 7 is 12."), "12", "unknown", "misreading and wrong step"),
            (("row 1 col 1 is red 4.", look[1]), "30", "unknown", "misreading and wrong answer"),
            (("row 1 col 1 is red 4.", look[1]), None, "unknown", "misreading and no answer"),
        ],
    )
    def test_the_cause_stands_beside_the_outcome(self, sentences, answer, outcome, detail):
        label = self.label(*sentences, answer=answer)
        assert (label.outcome, label.detail) == (outcome, detail)

    @pytest.mark.parametrize(
        ("sentences", "answer", "detail", "unread"),
        [
            ((look[0], "row 1 col 2 is empty.", look[1], "row 1 col 4 is empty.", "1 plus 7 is 8."), "8", "", 0),
            (look, "8", "", 2),  # a success may do without
            (look[:1], "1", "omission", 3),
            (
                (look[0], "row 2 col 3 is red 5.", "1 plus 7 is 9."),
                "9",
                "wrong step",
                3,
            ),  # beside the step that is wrong
            (("row 1 col 1 is red 4.", look[1], "4 plus 7 is 12."), "12", "misreading and wrong step", 2),
            ((), None, "no answer", 4),
        ],
    )
    def test_cells_that_were_never_read_are_told_whatever_the_cause(self, sentences, answer, detail, unread):
        label = self.label(*sentences, answer=answer)
        assert (label.detail, label.unread) == (detail, unread)

    def test_each_sentence_is_judged_by_itself_put_right_later_or_not(self):
        sentences = ("row 1 col 1 is red 4.", "hm.", "wait, row 1 col 1 is red 1.", "row 9 col 1 is red 1.")
        label = self.label(*sentences, self.look[1], "1 plus 7 is 9.", "the sum is 8.", answer="8")
        assert label.outcome == "success"
        assert label.steps == ("false", "", "", "false", "", "lost", "")

    def test_what_follows_from_a_false_reading_is_not_lost(self):
        label = self.label("row 1 col 1 is red 4.", self.look[1], "the sum is 11.", answer="11")
        assert label.steps == ("false", "", "")

    def test_a_corrected_reading_is_not_held_against_the_run(self):
        label = self.label("row 1 col 1 is red 4.", "wait, row 1 col 1 is red 1.", self.look[1], answer="9")
        assert (label.outcome, label.corrections, label.first_wrong) == ("reasoning_failure", 1, 3)

    def test_a_right_reading_that_is_changed_for_the_worse_went_wrong_there(self):
        label = self.label(*self.look, "wait, row 1 col 3 is blue 2.", answer="3")
        assert (label.outcome, label.first_wrong) == ("hallucination", 2)

    def test_a_run_without_an_answer_is_a_failure(self):
        assert self.label(*self.look, answer=None).outcome == "reasoning_failure"

    def test_a_wrong_comparison_is_found(self):
        label = label_run(parse_question("is there a red 7?"), SCENE, ["look for red 7, see red 1, yes."], "yes")
        assert (label.outcome, label.first_wrong) == ("reasoning_failure", 0)

    @pytest.mark.parametrize(
        ("question", "conclusion", "answer"),
        [
            ("how many red digits are there?", "that makes 3 red digits.", "3"),
            ("are there more red than blue digits?", "that makes 1 red and 0 blue.", "yes"),
            ("what is the sum of row 1?", "the sum is 9.", "9"),
            ("what is the largest blue digit?", "the largest is 9.", "9"),
            ("is there a blue 7?", "there is no blue 7.", "no"),
            ("is there a red 2?", "that is a red 2.", "yes"),
        ],
    )
    def test_a_conclusion_that_does_not_follow_from_what_was_read_is_found(self, question, conclusion, answer):
        label = label_run(parse_question(question), SCENE, (*self.look, conclusion), answer)
        assert (label.outcome, label.first_wrong) == ("reasoning_failure", 2)
