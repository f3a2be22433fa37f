"""Which runs a demonstration shows, by their endings alone."""

from __future__ import annotations

from itertools import product

import pytest

from tests.demo.judged_runs import TOKENS, judged_run
from trajkit.demo.endings import ENDINGS, SOUGHT, endings, is_enough, is_shown, probability
from trajkit.detection.step_features import CONFIDENT
from trajkit.traces.trace import Step

WALK = "red right, green down, blue left, orange up. 3 steps from row 1 col 1. where is the end?"
RIGHT = [
    "row 1 col 1 is red 4.",
    "step 1, right to row 1 col 2.",
    "row 1 col 2 is red 2.",
    "step 2, right to row 1 col 3.",
    "row 1 col 3 is green 1.",
    "step 3, down to row 2 col 3.",
]
LOST = ["row 1 col 1 is red 4.", "step 1, down to row 2 col 1.", "row 2 col 1 is green 5."]
LOST += ["step 2, down to row 3 col 1.", "row 3 col 1 is empty.", "step 3, down to row 4 col 1."]
MISLED = ["row 1 col 1 is green 4.", *LOST[1:]]
CORRECTED = [MISLED[0], "wait, row 1 col 1 is red 4.", *RIGHT[1:]]


@pytest.mark.parametrize(
    ("said", "answer", "alarm", "expected"),
    [
        (RIGHT, "row 2 col 3", None, set()),
        (RIGHT, "row 2 col 3", 4, {"false alarm"}),
        (CORRECTED, "row 2 col 3", None, {"recovered"}),
        (CORRECTED, "row 2 col 3", 0, {"recovered", "false alarm"}),
        (LOST, "row 4 col 1", 3, {"lost and caught"}),
        (LOST, "row 4 col 1", None, {"missed"}),
        (LOST, None, 5, {"lost and caught"}),
        (MISLED, "row 4 col 1", 3, {"hallucinated with confidence"}),
        (MISLED, "row 4 col 1", None, {"hallucinated with confidence", "missed"}),
    ],
)
def test_an_ending_is_what_came_of_the_run_by_which_cause_and_whether_it_alarmed(said, answer, alarm, expected):
    assert endings(judged_run(WALK, said, answer, alarm)) == expected


@pytest.mark.parametrize(("sure", "confident"), [(CONFIDENT + 0.01, True), (CONFIDENT - 0.01, False)])
def test_a_hallucination_is_confident_when_the_tokens_of_its_cause_were_likely(sure, confident):
    run = judged_run(WALK, MISLED, "row 4 col 1", alarm=2, sure=sure)
    assert ("hallucinated with confidence" in endings(run)) is confident


def test_the_probability_of_a_sentence_is_the_geometric_mean_of_its_tokens():
    step = Step("row 1 col 1 is red 7.", "thinking", 0, TOKENS, -0.105360516, 0.1)
    assert probability(step) == pytest.approx(0.9)


def test_the_first_of_each_ending_is_shown_until_what_is_sought_has_come():
    lost, sure, back = ({ending} for ending in ENDINGS[:3])
    came = [set(), {"missed"}, lost, {"missed"}, lost, {*sure, "missed"}, {"false alarm"}, back, {"missed"}]
    shown, enough = [], 0
    for n in range(1, len(came) + 1):
        if is_shown(came[:n], least=0):
            shown.append(n)
        if is_enough(came[:n], least=0):
            enough = n
            break
    assert shown == [2, 3, 6, 7, 8]
    assert enough == 8


def test_the_first_ones_are_shown_whatever_they_are_and_all_of_them_come():
    came = [set(SOUGHT), set(), set(SOUGHT)]
    assert [is_shown(came[:n], least=3) for n in (1, 2, 3)] == [True, True, True]
    assert [is_enough(came[:n], least=3) for n in (1, 2, 3)] == [False, False, True]


def test_every_ending_is_shown_that_comes_and_none_for_its_own_sake_twice():
    kinds = [frozenset[str](), *(frozenset({ending}) for ending in ENDINGS)]
    for came in product(kinds, repeat=4):
        shown = [came[n - 1] for n in range(1, 5) if is_shown(came[:n], least=0)]
        assert len(shown) == len(set(shown))
        assert set(shown) == set(came) - {frozenset()}
