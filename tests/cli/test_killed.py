"""A whole command that is stopped at a step of writing leaves the old content or the new, whole, and goes on when it is
run again. `python -m tests.killed` tries every step."""

from __future__ import annotations

import numpy as np
import pytest

from tests.killed import ACTS, COMMANDS, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory, make_trace, demo_vlm):
    return Bench(tmp_path_factory.mktemp("bench"), make_trace, demo_vlm)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_loses_nothing_and_goes_on(bench, name):
    steps = bench.known(name)[2]
    assert steps >= 5
    rng = np.random.default_rng(list(COMMANDS).index(name))
    bench.attempt(name, int(rng.integers(1, steps + 1)), ACTS["kill"])


def test_the_monitor_writes_nothing(bench, tmp_path):
    bench.run(tmp_path, COMMANDS["fit"].line)
    assert bench.run(tmp_path, ("monitor", "{traces}", "--detectors", "out")) == (0, 0)
