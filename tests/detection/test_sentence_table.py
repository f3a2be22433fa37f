"""Sentence features of runs as a table: rows in order, runs of several widths, labels beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.traces.bare import without_effects
from trajkit.detection import SentenceFeatures, sentence_features
from trajkit.errors import InputError
from trajkit.traces.store import write_traces
from trajkit.traces.trace import Trace

from .sentences import make_runs, named_place


def wider(trace: Trace) -> Trace:
    """The run with two further regions, that nothing rests on."""
    effects = np.concatenate([trace.effects, np.zeros((trace.n_steps, 2), np.float32)], axis=1)
    return replace(trace, effects=effects, transcript_id=f"{trace.transcript_id} wider")


def test_a_row_is_a_thinking_step_whatever_stands_beside_the_run() -> None:
    mixed = []
    for run in make_runs(4):
        bare = replace(without_effects(run), transcript_id=f"{run.transcript_id} bare")
        mixed += [run, wider(run), bare]
    table = sentence_features(mixed, named_place)
    assert table["transcript_id"].drop_duplicates().tolist() == [run.transcript_id for run in mixed]
    for run in mixed:
        own = table[table["transcript_id"] == run.transcript_id]
        assert own["step"].tolist() == list(range(1, run.n_steps))
        assert own["label"].tolist() == run.meta["step_labels"]
        assert set(own["form"]) == {run.meta["kind"]}
        assert set(own["task_set"]) == {run.task_set}
        running = SentenceFeatures(named=True)
        named = named_place(run) if run.n_regions else np.zeros(run.effects.shape, bool)
        for row, step, effects, places in zip(own.to_dict("records"), run.steps, run.effects, named, strict=False):
            assert step.logprob is not None
            assert step.entropy is not None
            now = running.update(
                effects, logprob=step.logprob, entropy=step.entropy, tokens=step.n_tokens, named=places
            )
            for name, value in now.items():
                np.testing.assert_array_equal(row[name], value, err_msg=name)


def test_runs_in_a_folder_are_those_in_memory(tmp_path) -> None:
    runs = make_runs(5)
    write_traces(runs, tmp_path / "runs")
    memory = sentence_features(runs, named_place)
    for source in (tmp_path / "runs", str(tmp_path / "runs"), iter(runs)):
        found = sentence_features(source, named_place)
        assert found.equals(memory)


def test_labels_are_those_of_a_file_where_there_is_one(tmp_path) -> None:
    runs = make_runs(2)
    (tmp_path / "l.csv").write_text("transcript_id,step,label\nrun-0-0,2,lost\nrun-1-2,1,\n")
    table = sentence_features(runs, labels=tmp_path / "l.csv").set_index(["transcript_id", "step"])["label"]
    assert table[table.notna()].to_dict() == {("run-0-0", 2): "lost", ("run-1-2", 1): ""}
    (tmp_path / "l.csv").write_text("transcript_id,step,label\nrun-0-9,2,lost\n")
    with pytest.raises(InputError, match="run 'run-0-9', and no such run"):
        sentence_features(runs, labels=tmp_path / "l.csv")
    with pytest.raises(InputError, match="go to step 99"):
        sentence_features(runs, labels={"run-0-0": [""] * 99})


def test_what_is_named_must_be_truths_of_every_step_and_region() -> None:
    runs = make_runs(2)
    with pytest.raises(InputError, match=r"`named` must give truths.*run 'run-0-0'; got \(2,\) of bool"):
        sentence_features(runs, lambda trace: np.zeros(2, bool))
    with pytest.raises(InputError, match="of float64"):
        sentence_features(runs, lambda trace: np.zeros(trace.effects.shape))


def test_no_runs_are_no_rows() -> None:
    assert len(sentence_features([])) == 0
    assert {"transcript_id", "step", "label", "mass", "logprob"} <= set(sentence_features([]))
