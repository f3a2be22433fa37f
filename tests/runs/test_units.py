"""Lengths in words and entropies that are lower bounds are told apart from those that trajkit collects."""

from __future__ import annotations

import pytest

from tests.traces.factory import make_trace
from trajkit.runs.table import run_table
from trajkit.runs.units import of_units, units_of, unlike

WORDS, BOUND = {"counted_in": "words"}, {"entropy": "lower bound from 5"}


def runs(*metas):
    return run_table([make_trace(number, meta=meta) for number, meta in enumerate(metas)])


def test_of_runs_as_trajkit_collects_them_nothing_is_said():
    found = runs({}, {})
    assert (of_units(found), units_of(found).card, unlike({}, ("length", "uncertainty"), found)) == ("", {}, "")


def test_lengths_in_words_are_told_and_not_compared_with_tokens():
    assert of_units(runs(WORDS, WORDS)) == "Lengths of all runs are in words, as no log told their tokens."
    said = of_units(runs(WORDS, {}, {}))
    assert "1 of 3 runs are in words" in said
    assert "cannot be compared" in said
    assert said in runs(WORDS, {}, {}).summary()


def test_entropies_that_are_lower_bounds_are_told_with_of_how_many_tokens():
    assert "lower bounds (of the likeliest 5 tokens)" in of_units(runs(BOUND, BOUND))
    assert "Entropies of 1 of 2 runs" in of_units(runs(BOUND, {}))
    assert "5 and 20" in of_units(runs(BOUND, {"entropy": "lower bound from 20"}))


@pytest.mark.parametrize(("meta", "sets"), [(WORDS, ("length",)), (BOUND, ("uncertainty",))])
def test_detectors_say_of_which_runs_their_promise_does_not_hold(meta, sets):
    assert "1 of 2 runs" in unlike({}, sets, runs(meta, {}))
    assert "promise does not hold" in unlike({}, sets, runs(meta, {}))
    assert unlike({}, ("trajectory",), runs(meta, {})) == ""
    own = units_of(runs(meta, meta)).card
    assert unlike(own, sets, runs(meta)) == ""
    assert "1 of 1 run" in unlike(own, sets, runs({}))
