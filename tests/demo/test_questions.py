"""Questions: their answers by hand on one scene, and every text is parsed back."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.demo.grid import Scene, draw_scene
from trajkit.demo.questions import FAMILIES, FORMS, Question, draw_question, parse_question

LETTERS = {"r": "red", "g": "green", "b": "blue", "o": "orange"}


def scene(*rows):
    """Rows such as "r4 g2 .. b0 o1 r7"."""
    cells = tuple(
        tuple(None if cell == ".." else (LETTERS[cell[0]], int(cell[1])) for cell in row.split()) for row in rows
    )
    return Scene(cells)


GRID_BY_HAND = scene(
    "r4 r2 g1 g9 .. b3",
    "g5 r6 r0 b2 b2 o1",
    ".. b7 g0 o4 r0 r9",
    "o3 o5 b1 g6 g6 b8",
    "b1 .. g2 o7 r5 o0",
    "g3 r8 o9 b4 g4 r1",
)

BY_HAND = {
    "follow red from row 1 col 1. where is the 0?": "row 2 col 3",
    "follow red from row 1 col 1. what is before the 0?": "6",
    "sort row 1 up.": "1 2 3 4 9",
    "sort col 2 down.": "8 7 6 5 2",
    "how many times is row 4 more than row 5?": "3",
    "how many times is row 2 the same as row 6?": "3",
    "how many red in row 1 to row 3?": "6",
    "how many blue and green in col 1 to col 3?": "3 and 5",
    "red right, green down, blue left, orange up. 3 steps from row 1 col 1. where is the end?": "row 2 col 3",
    "red right, green down, blue left, orange up. 3 steps from row 1 col 1. what is on the way?": "4 2 1",
    "red left, green down, blue up, orange right. 2 steps from row 1 col 1. where is the end?": "row 6 col 6",
}


@pytest.mark.parametrize(("text", "answer"), BY_HAND.items())
def test_answers_by_hand(text, answer):
    question = parse_question(text)
    assert question.text == text
    assert question.answer(GRID_BY_HAND) == answer


def test_every_form_is_drawn_and_parsed_back_and_has_an_answer():
    kinds = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        drawn = draw_scene(rng, usual=0.5)
        for family in FAMILIES:
            if question := draw_question(rng, drawn, family):
                assert question.family == family
                assert parse_question(question.text) == question
                assert parse_question(question.text.upper().replace(".", " .")) == question
                assert question.answer(drawn)
                kinds.add(question.kind)
    assert kinds == {kind for both in FORMS.values() for kind in both}


def test_a_scene_without_a_trail_cannot_be_asked_to_follow_one():
    rng = np.random.default_rng(0)
    walks = [s for s in (draw_scene(rng) for _ in range(20)) if s.walk]
    assert all(draw_question(rng, s, "general") is None for s in walks)


def test_cells_that_lead_nowhere_imply_no_answer():
    assert Question("trail_end", ("green",), start=(0, 2)).answers(GRID_BY_HAND.at) == ()


@pytest.mark.parametrize(
    "text",
    [
        "a red 7?",
        "sort row 7 up.",
        "follow red from row 0 col 1. where is the 0?",
        "how many red in row 4 to row 2?",
        "how many red in row 2 to col 4?",
        "red up, green down, blue left, orange right. 1000000000 steps from row 1 col 1. where is the end?",
    ],
)
def test_other_questions_are_refused(text):
    with pytest.raises(ValueError, match="not a question of the demo world"):
        parse_question(text)
