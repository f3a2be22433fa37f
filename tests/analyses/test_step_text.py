"""What the text of a run tells of its next sentence."""

from __future__ import annotations

from analyses.step_text import said_before
from tests.demo.judged_runs import judged_run


def test_a_sentence_and_its_place_are_counted_as_often_as_the_run_said_them_before():
    said = ["row 1 col 1 is red 4.", "row 1 col 2 is red 2.", "row 1 col 1 is blue 4.", "row 1 col 1 is red 4."]
    found = said_before([judged_run("sort row 1 up.", said, None), judged_run("sort row 1 up.", said[:1], None)])
    assert found["step"].tolist() == [1, 2, 3, 4, 1]
    assert found["said_before"].tolist() == [0, 0, 0, 1, 0]
    assert found["place_before"].tolist() == [0, 0, 1, 2, 0]
    assert found["place_since"].tolist() == [-1, -1, 2, 1, -1]
