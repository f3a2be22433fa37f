"""A small seeded part of `tests.fuzz`: no damaged file is a bug, and none reads as something else than it was."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz import attack

TIMES = {"traces": 60, "questions": 150, "estimator": 60, "detectors": 60, "measured": 60, "images": 40}


@pytest.mark.parametrize("name", TIMES)
def test_a_damaged_file_is_read_as_it_was_or_refused_in_words(tmp_path, name):
    rng = np.random.default_rng(0)
    faults = [attack(name, rng, tmp_path) for _ in range(TIMES[name])]
    assert [fault for fault in faults if fault] == []
