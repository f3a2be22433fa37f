"""Sentences: each act is said in one way and read back from it."""

from __future__ import annotations

import pytest

from trajkit.demo.acts import Back, Before, Found, Move, On, Pick, Read, Restart, Tally, Unclear, Verdict, parse, say

SAID = {
    "row 2 col 5 is red 7.": Read((1, 4), ("red", 7)),
    "right row 2 col 5 is empty.": Read((1, 4), None, "right"),
    "wait, row 2 col 5 is blue 0.": Read((1, 4), ("blue", 0), again=True),
    "down row 1 col 1 is unclear.": Unclear((0, 0), "down"),
    "dead end, back to row 3 col 4.": Back((2, 3)),
    "no 0, again from row 3 col 4.": Restart((2, 3)),
    "the 0 is at row 6 col 6.": Found((5, 5)),
    "before it is 4.": Before(4),
    "step 12, up to row 6 col 1.": Move(12, "up", (5, 0)),
    "4 more than 7, no.": Verdict("4", "7", True, False),
    "empty more than 7, no.": Verdict("empty", "7", True, False),
    "red and red, yes.": Verdict("red", "red", False, True),
    "that makes 3.": Tally((3,)),
    "that makes 3 red.": Tally((3,), ("red",)),
    "that makes 3 red and 0 blue.": Tally((3, 0), ("red", "blue")),
    "on to row 3 col 4.": On((2, 3)),
    "smallest at row 2 col 3 is 2.": Pick(2, (1, 2), False),
    "largest at row 2 col 3 is 9.": Pick(9, (1, 2), True),
}


@pytest.mark.parametrize(("sentence", "act"), SAID.items())
def test_an_act_is_said_and_read_back(sentence, act):
    assert say(act) == sentence
    assert parse(sentence) == act
    assert parse(sentence.upper().replace(".", " .").replace(",", " ,")) == act


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "row 2 col is red 7.",
        "wait, row 2 col 5 is unclear.",
        "that makes red.",
        "row 2 col 5 is red 12",
        "step 1, right to row 1 col 7.",
        "dead end, back to row 0 col 1.",
        f"that makes {'9' * 10_000}.",
    ],
)
def test_what_is_none_of_them_is_nothing(sentence):
    assert parse(sentence) is None
