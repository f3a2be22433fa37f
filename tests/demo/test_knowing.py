"""What is known of a run so far: by hand, and never from what is said later."""

from __future__ import annotations

import numpy as np

from tests.demo.test_questions import GRID_BY_HAND
from trajkit.demo.acts import say
from trajkit.demo.knowing import KNOWN, known_prefixes
from trajkit.demo.procedures import plan
from trajkit.demo.questions import parse_question

COUNT = "how many red in row 4 to row 5?"


def test_what_is_known_is_what_was_said_so_far():
    said = [say(act) for act in plan(parse_question(COUNT), GRID_BY_HAND)]
    slip = said[0].replace("orange", "red")
    known = known_prefixes(COUNT, GRID_BY_HAND.cells, [slip, f"wait, {said[0]}", said[2], *said[3:]])
    assert KNOWN == ("off_course", "misread", "lost", "corrections")
    assert known[:3].tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]]  # a slip, put right, a cell left out
    assert known[-1].tolist() == [0, 0, 1, 1]
    for t in range(1, len(said)):
        np.testing.assert_array_equal(known_prefixes(COUNT, GRID_BY_HAND.cells, said[:t]), 0)
