"""Which runs a demonstration shows, by their endings alone."""

from __future__ import annotations

from itertools import product

import pytest

from trajkit.demo.endings import ending, is_enough, is_shown


@pytest.mark.parametrize(
    ("right", "alarmed", "what"),
    [(True, False, "right"), (True, True, "false alarm"), (False, True, "caught"), (False, False, "missed")],
)
def test_an_ending_is_what_came_of_the_run_and_whether_it_alarmed(right, alarmed, what):
    assert ending(right, alarmed) == what


def test_the_first_of_each_ending_is_shown_until_a_caught_and_a_missed_one_have_come():
    came = ["right", "right", "missed", "right", "false alarm", "missed", "caught", "right"]
    shown, enough = [], 0
    for n in range(1, len(came) + 1):
        if is_shown(came[:n], least=1):
            shown.append(n)
        if is_enough(came[:n], least=1):
            enough = n
            break
    assert shown == [1, 3, 5, 7]
    assert enough == 7


def test_the_first_ones_are_shown_whatever_they_are_and_all_of_them_come():
    came = ["missed", "caught", "missed"]
    assert [is_shown(came[:n], least=3) for n in (1, 2, 3)] == [True, True, True]
    assert [is_enough(came[:n], least=3) for n in (1, 2, 3)] == [False, False, True]


def test_no_ending_is_shown_twice_and_none_is_left_out_but_by_the_end():
    kinds = ("right", "false alarm", "caught", "missed")
    for came in product(kinds, repeat=4):
        shown = [came[n - 1] for n in range(1, 5) if is_shown(came[:n], least=0)]
        assert sorted(shown) == sorted(set(came))
