"""What effects add to uncertainty about a sentence, before and after reinforcement."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

import trajkit as tk
from analyses import reinforced_sentences
from analyses.reinforced_sentences import paired
from trajkit.demo import paths
from trajkit.errors import InputError


def test_runs_of_both_are_taken_in_one_order():
    runs = list(islice(tk.read_traces(paths.TRACES), 4))
    before, after = paired([runs[2], runs[0], runs[1]], [runs[3], runs[1], runs[2]])
    assert [run.transcript_id for run in before] == [run.transcript_id for run in after]
    assert before == [runs[2], runs[1]]
    with pytest.raises(InputError, match="none alike"):
        paired(runs[:2], runs[2:])


def test_a_model_that_is_compared_with_itself_has_gained_nothing(tmp_path):
    runs = [replace(run, image=None) for run in islice(tk.read_traces(paths.TRACES), 240)]
    held = reinforced_sentences.with_text(runs, deals=1)
    table = reinforced_sentences.gains({"before": held, "after": held}, n_boot=20).frame
    assert (table["gain, before"] == table["gain, after"]).all()
    assert all(one.value == 0 for one in table["gain, after less before"])
    assert set(table["known"]) == {"uncertainty", "uncertainty and text"}
    shares = reinforced_sentences.sentences({"before": held, "after": held}, n_boot=20).frame.set_index("sentences")
    assert 0 < shares.loc["wrong, of the confident", "before"].value < shares.loc["wrong", "before"].value < 0.5
