"""Runs of one image and question under several group ids are of one group, wherever groups count."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import EarlyFailurePredictor, Monitor, copies
from trajkit.detection.copies import Keyed, groups_with, one_group
from trajkit.detection.sources import sourced
from trajkit.errors import InputError
from trajkit.judging import FitResult, fit_detectors
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import run_table
from trajkit.traces.trace import Trace

from ..traces.bare import without_effects, without_uncertainty
from .world import make_frame, make_runs, make_trace

RUNS = make_runs(40, 2, seed=4)


def keyed(traces: list[Trace]) -> Keyed:
    return copies.keyed(run_table(traces, Wanted(keys=True)))


def test_a_table_that_was_read_without_keys_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"Wanted\(keys=True\)"):
        fit_detectors(run_table(map(make_trace, RUNS)))


def keys_of(trace: Trace) -> frozenset[bytes]:
    return keyed([trace])[0][1]


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


def _copies(traces: list[Trace], group: str = "copy") -> list[Trace]:
    return [replace(t, transcript_id=f"{t.transcript_id}b", group_id=group) for t in traces]


def _noisy(trace: Trace) -> Trace:
    return replace(trace, effects=trace.effects + np.float32(0.01))


def _calibrate(traces: list[Trace] | pd.DataFrame) -> Monitor:
    frame = make_frame(RUNS)
    return Monitor.calibrate(EarlyFailurePredictor("length").fit(frame, frame["outcome"] != "success"), traces, 0.2)


def _fit(traces: list[Trace] | pd.DataFrame, **options: object) -> FitResult:
    return fit_detectors(traces, features="length", compared=(), n_boot=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        _noisy,  # another run on the same image and question
        lambda t: replace(t, question="another?"),  # the same run
        lambda t: replace(t, image_sha256=""),
    ],
)
@pytest.mark.parametrize("use", [_calibrate, _fit])
def test_a_group_that_is_another_group_under_a_new_id_is_taken_as_that_group_and_named(
    use: Callable[[list[Trace]], object], change: Callable[[Trace], Trace]
) -> None:
    traces = _traces()
    with pytest.warns(UserWarning, match=r"2 groups are taken as 1,.*'scene-000' = 'copy'\.$"):
        use([*traces, *(change(t) for t in _copies(traces[:2]))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(traces)
        use([*traces, *_copies(traces[:2], "scene-000")])


def test_a_copied_group_calibrates_as_one() -> None:
    good = [replace(t, success=True, outcome="success") for t in _traces()]
    copies = [
        replace(t, transcript_id=f"{t.transcript_id}{n}", group_id=f"copy {n}") for t in good[:2] for n in range(12)
    ]
    with pytest.warns(UserWarning, match="13 groups are taken as 1"):
        assert _calibrate([*good, *copies]).n == 40


def test_runs_whose_copies_are_merged_already_calibrate_as_they_are() -> None:
    traces = [*_traces(), *_copies(_traces()[:2])]
    read = sourced(traces, "test")
    with pytest.warns(UserWarning, match="2 groups are taken as 1"):
        asked = _calibrate(read)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged = _calibrate(replace(read, keys=[]))  # type: ignore[arg-type]
    assert (asked.model, asked.fingerprint) == (merged.model, merged.fingerprint) == (read.model, read.fingerprint)
    assert merged.n >= asked.n


def test_copies_are_of_one_part_of_the_split_and_the_card_names_them_all() -> None:
    traces = _traces()
    both = [*traces, *(t for n in range(20) for t in _copies(traces[2 * n : 2 * n + 2], f"again-{n:03d}"))]
    with pytest.warns(UserWarning, match="40 groups are taken as 20"):
        result = _fit(both)
    card = result.detectors.card
    parts = [set(card[f"{part}_groups"]) for part in ("fit", "calibration", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    for n in range(20):
        assert sum({f"scene-{n:03d}", f"again-{n:03d}"} <= part for part in parts) == 1
    assert set(result.evaluation.runs["group_id"]) == {name for name in parts[2] if name.startswith("scene")}
    assert result.evaluation.split is not None
    assert result.evaluation.split["groups"].sum() == 40


def test_a_copy_of_a_held_out_group_is_held_out_too() -> None:
    traces = _traces()
    tested = {f"scene-{n:03d}" for n in range(25, 40)}
    with pytest.warns(UserWarning, match="taken as"):
        card = _fit([*_copies(traces[-2:], "first"), *traces], test_groups=tested).detectors.card
    assert set(card["test_groups"]) == {"first", *tested}


def test_detectors_know_the_runs_they_were_made_from_under_any_group_id() -> None:
    traces = _traces()
    detectors = _fit(traces).detectors
    card = detectors.card
    seen = {*card["fit_groups"], *card["calibration_groups"]}
    own = detectors.known(keyed(traces))
    assert (own.named, own.copies) == (seen, set())
    renamed = [replace(_noisy(t), group_id=f"new-{t.group_id}") for t in traces]
    other = detectors.known(keyed(renamed))
    assert (other.named, other.copies) == (set(), {f"new-{group}" for group in seen})
    bare = [replace(t, group_id=f"new-{t.group_id}", image_sha256="", question="another?") for t in traces]
    assert detectors.known(keyed(bare)).copies
    elsewhere = [replace(_noisy(t), image_sha256=f"other-{t.image_sha256}") for t in renamed]
    assert not detectors.known(keyed(elsewhere)).all


@pytest.mark.parametrize("use", [_calibrate, _fit])
def test_copies_of_runs_in_a_frame_are_told_by_their_features(use: Callable[[pd.DataFrame], object]) -> None:
    frame = make_frame(RUNS)
    copies = frame[frame["group_id"] == "scene-001"]
    copies = copies.assign(transcript_id=copies["transcript_id"] + "b", group_id="copy")
    with pytest.warns(UserWarning, match="'scene-001' = 'copy'"):
        use(pd.concat([frame, copies], ignore_index=True))


def test_a_frame_whose_runs_only_have_lengths_holds_no_copies() -> None:
    frame = make_frame(RUNS)[["transcript_id", "group_id", "outcome", "step", "n_tokens"]].assign(n_tokens=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _calibrate(frame)


def test_groups_are_joined_through_others_and_take_the_name_that_comes_first() -> None:
    runs = [
        (name, frozenset(key.encode() for key in keys))
        for name, keys in [("d", "p"), ("c", "q"), ("b", ""), ("a", "pr"), ("e", "rq"), ("f", "s"), ("f", "t")]
    ]
    with pytest.warns(UserWarning, match="4 groups are taken as 1"):
        assert one_group(runs) == {"d": "d", "c": "d", "b": "b", "a": "d", "e": "d", "f": "f"}
    assert groups_with(runs, {b"r", b"s"}) == {"a", "e", "f"}


def test_a_warning_of_many_copies_names_a_few() -> None:
    runs = [(f"g{i}{j}", frozenset([bytes([i])])) for i in range(9) for j in range(2)]
    with pytest.warns(UserWarning, match=r"18 groups are taken as 9.*: 'g00' = 'g01'; .*'g21' and others\.$"):
        one_group(runs)


def test_runs_whose_effects_are_all_zero_or_few_and_whose_image_is_not_known_have_no_key() -> None:
    trace = make_trace(RUNS[0])
    t, k = trace.effects.shape
    assert not keys_of(replace(trace, effects=np.zeros((t, k), np.float32)))
    assert not keys_of(replace(trace, effects=np.eye(t, k, dtype=np.float32)))
    assert keys_of(replace(trace, image_sha256="a")) - keys_of(trace)
    only_one = max(make_runs(60), key=lambda run: len(run.effects))
    assert len(keys_of(make_trace(only_one))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_group(keyed([make_trace(run) for run in RUNS]))


def test_a_question_that_is_no_text_any_file_could_hold_has_a_key_all_the_same() -> None:
    assert keys_of(replace(make_trace(RUNS[0]), image_sha256="a", question="\ud800"))


def test_without_effects_the_same_text_tells_copies_whose_image_is_encoded_anew_or_missing():
    bare = [without_effects(trace) for trace in _traces()]
    anew = [replace(t, image=None, image_sha256=f"{t.image_sha256}-jpeg") for t in _copies(bare[:1])]
    none = [replace(t, image=None, image_sha256="") for t in _copies(bare[1:2], "no image")]
    with pytest.warns(UserWarning, match="taken as"):
        taken = one_group(keyed([*bare, *anew, *none]))
    assert (taken["copy"], taken["no image"]) == (bare[0].group_id, bare[1].group_id)
    assert len(set(taken.values())) == len({t.group_id for t in bare})


def test_short_texts_that_tell_no_log_probabilities_are_no_copies_by_themselves():
    bare = [replace(without_uncertainty(without_effects(t)), image_sha256="") for t in map(make_trace, RUNS[:4])]
    assert all(not keys for _, keys in keyed(bare))
