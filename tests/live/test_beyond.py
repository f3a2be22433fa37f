"""A run that is unlike those of the monitor's calibration says so to whoever looks at it, live and saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trajkit.attribution.explainer import LiveStep
from trajkit.demo import paths
from trajkit.detection import Monitor
from trajkit.detection.calibration import Calibration
from trajkit.detection.monitor import Verdict
from trajkit.detection.store import load_detectors
from trajkit.live.telling import step_told
from trajkit.live.verdicts import Judge
from trajkit.traces.store import read_traces

LONG = "The monitor is used beyond its calibration: a run is at step {}, and the longest of the calibration had 2. Its"
WIDE = "The monitor is used beyond its calibration: a run has 5 image regions, and those of the calibration had 6 to 9."


@pytest.fixture
def monitor() -> Monitor:
    shipped = load_detectors(paths.DETECTORS).monitor
    return replace(shipped, calibration=Calibration(2, (6, 9), ()))


def told(monitor: Monitor | None, number: int, k: int, kind: str = "thinking") -> str:
    """The note of thinking step `number` of a run with k regions."""
    verdict = Verdict(number, 0.2, 0.2, 0.6, False)
    step = LiveStep(
        text=".",
        kind=kind,  # type: ignore[arg-type]
        token_start=0,
        token_end=1,
        logprob=0.0,
        entropy=0.0,
        index=number - 1,
        effects=np.zeros(k, np.float32),
        verdict=verdict,
    )
    return step_told(step, monitor).get("note", "")


def test_a_live_run_says_it_at_the_step_from_which_on_it_is_so(monitor: Monitor) -> None:
    assert [told(monitor, n, 6) != "" for n in (1, 2, 3, 4)] == [False, False, True, False]
    assert told(monitor, 3, 6).startswith(LONG.format(3))
    assert told(monitor, 1, 5).startswith(WIDE)
    assert told(monitor, 2, 5) == told(monitor, 3, 6, "answer") == told(None, 3, 5) == ""


def test_a_saved_run_that_detectors_are_asked_about_says_it_too(monitor: Monitor) -> None:
    detectors, trace = load_detectors(paths.DETECTORS), read_traces(paths.TRACES)[0]
    n = int(trace.thinking.sum())
    assert Judge(detectors).verdicts(trace).note == ""
    found = Judge(replace(detectors, monitor=monitor)).verdicts(trace)
    assert found.note.startswith(LONG.format(n))
    assert f"a run has {trace.n_regions} image regions" in found.note
