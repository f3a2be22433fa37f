from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from trajkit.detection import EarlyFailurePredictor, Monitor, fit_detectors
from trajkit.errors import InputError
from trajkit.traces.trace import Trace

from .world import make_frame, make_runs, make_trace

RUNS = make_runs(40, 2, seed=4)


def _traces() -> list[Trace]:
    """One image and one question a group; the texts of two runs differ."""
    return [
        replace(
            make_trace(run),
            image_sha256=f"sha-{run.group_id}",
            steps=tuple(replace(step, text=f"{run.transcript_id} {step.text}") for step in make_trace(run).steps),
        )
        for run in RUNS
    ]


def _calibrate(traces: list[Trace] | pd.DataFrame) -> None:
    frame = make_frame(RUNS)
    Monitor.calibrate(EarlyFailurePredictor("length").fit(frame, frame["outcome"] != "success"), traces)


def _fit(traces: list[Trace] | pd.DataFrame) -> None:
    fit_detectors(traces, features="length", compared=(), n_boot=2)


@pytest.mark.parametrize("use", [_calibrate, _fit])
def test_a_group_that_is_another_group_under_a_new_id_is_refused_by_both_names(
    use: Callable[[list[Trace] | pd.DataFrame], None],
) -> None:
    traces = _traces()
    use(traces)
    again = [replace(t, transcript_id=f"{t.transcript_id}b", group_id="copy") for t in traces[:2]]
    other_words = [replace(t, steps=tuple(replace(s, text=f"so {s.text}") for s in t.steps)) for t in again]
    other_question = [replace(t, question="another?") for t in again]
    for copies, what in [(other_words, "image and question"), (other_question, "image and the same text")]:
        with pytest.raises(InputError, match=rf"'scene-000'.*'copy' have the same {what}.*Give them one group_id"):
            use([*traces, *copies])
    use([*traces, *(replace(t, group_id="scene-000") for t in again)])


@pytest.mark.parametrize("use", [_calibrate, _fit])
def test_copies_of_runs_in_a_frame_are_told_by_their_features(
    use: Callable[[list[Trace] | pd.DataFrame], None],
) -> None:
    frame = make_frame(RUNS)
    use(frame)
    copies = frame[frame["group_id"] == "scene-001"]
    copies = copies.assign(transcript_id=copies["transcript_id"] + "b", group_id="copy")
    with pytest.raises(InputError, match=r"'scene-001'.*'copy'|'copy'.*'scene-001'"):
        use(pd.concat([frame, copies], ignore_index=True))


def test_runs_whose_image_is_not_known_are_not_taken_for_copies() -> None:
    _calibrate([make_trace(run) for run in RUNS])
