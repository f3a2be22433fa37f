"""`trajkit attribute` on saved runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trajkit.attribution import replicas
from trajkit.demo import paths
from trajkit.traces.labels import read_labels, set_label
from trajkit.traces.store import read_traces, write_traces


@pytest.fixture(scope="module")
def runs():
    return list(read_traces(paths.TRACES)[:6])


@pytest.fixture
def saved(runs, tmp_path):
    return write_traces(runs, tmp_path / "runs")


@pytest.fixture
def attribute(cli, tmp_path):
    return lambda source, *arguments: cli("attribute", source, "--out", tmp_path / "out", *arguments)


def test_runs_get_effects_and_their_own_are_left_as_they_are(attribute, saved, runs, tmp_path):
    result = attribute(saved)
    assert result.code == 0, result.err
    assert "6 of 6 runs with effects" in result.out
    assert "Token ids: 6 told by the log; 0 in doubt." in result.out
    assert f"Next: trajkit report {tmp_path / 'out'} --out report" in result.out
    for found, run in zip(read_traces(tmp_path / "out"), runs, strict=True):
        np.testing.assert_allclose(found.effects, run.effects, atol=1e-3)
        assert (found.transcript_id, found.outcome, found.answer) == (run.transcript_id, run.outcome, run.answer)


def test_labels_go_along_and_those_of_the_new_folder_come_first(attribute, saved, runs, tmp_path):
    for run in runs[:2]:
        set_label(saved, run.transcript_id, "hallucination")
    (tmp_path / "out").mkdir()
    set_label(tmp_path / "out", runs[0].transcript_id, "success")
    assert attribute(saved).code == 0
    assert read_labels(tmp_path / "out") == {runs[0].transcript_id: "success", runs[1].transcript_id: "hallucination"}


def test_running_again_goes_on_and_reads_no_run_twice(attribute, saved, runs, tmp_path):
    first = write_traces(runs[:2], tmp_path / "first.parquet")
    assert "2 of 2 runs with effects" in attribute(first).out
    result = attribute(saved)
    assert "6 of 6 runs with effects" in result.out
    assert "(4 new)" in result.out
    again = attribute(saved)
    assert (again.code, "(0 new)" in again.out) == (0, True)


def test_runs_that_cannot_be_read_are_told_and_the_exit_code_is_1(attribute, runs, tmp_path):
    without = replace(runs[0], image=None, image_sha256="")
    other = replace(runs[1], meta=dict(runs[1].meta) | {"fingerprint": "0123456789abcdef"})
    result = attribute(write_traces([without, other, runs[2]], tmp_path / "runs"))
    assert result.code == 1
    assert f"left out run {runs[0].transcript_id}: it has no image" in result.err
    assert f"left out run {runs[1].transcript_id}: " in result.err
    assert "2 of 3 runs could not be read again" in result.err
    assert read_traces(tmp_path / "out").ids == [runs[2].transcript_id]
    nothing = attribute(write_traces([without], tmp_path / "bad.parquet"))
    assert nothing.code == 1


def test_doubts_are_told_of_the_first_runs_and_counted(attribute, runs, tmp_path):
    off = [
        replace(run, steps=tuple(replace(step, logprob=step.logprob - 0.5) for step in run.steps)) for run in runs[:5]
    ]
    result = attribute(write_traces(off, tmp_path / "runs"))
    assert result.code == 0
    assert result.err.count("differ from those here by 0.5 nats a token") == 3
    assert "5 in doubt" in result.out


def test_effects_are_measured_where_asked_and_kinds_are_not_mixed(attribute, runs, tmp_path):
    source = write_traces(runs[:1], tmp_path / "runs")
    assert attribute(source, "--measured", "--ablation", "gray").code == 0
    (found,) = read_traces(tmp_path / "out")
    assert (found.effects_kind, found.meta["ablation"]) == ("measured", "gray")
    attribute(source).assert_one_line_error("made without estimator", "to be made with '")


def test_what_is_asked_wrongly_is_said_in_a_line(attribute, cli, saved, tmp_path):
    cli("attribute", saved, "--out", saved).assert_one_line_error("holds the runs that are read")
    attribute(saved, "--engine", "dask").assert_one_line_error("--engine must be one of local, ray")
    attribute(saved, "--measured", "--ablation", "paint").assert_one_line_error("--ablation must be one of")
    attribute(saved, "--ablation", "blur").assert_one_line_error("--ablation is about --measured")
    attribute(saved, "--workers", "2").assert_one_line_error("--workers is about --engine ray")
    (tmp_path / "log.eval").touch()
    attribute(tmp_path / "log.eval").assert_one_line_error("trajkit import", "log.eval --out TRACES")
    attribute(tmp_path / "nowhere").assert_one_line_error("does not exist")
    attribute(saved, "--model", tmp_path).assert_one_line_error("no model")


DEADLY, FAULTY = 3, 5
"""Runs at which replicas die, and in which there is a bug."""


class Mortal(replicas._Replica):
    """A replica that dies the first time that any of them reads, and of some runs."""

    def read(self, runs, *rest):
        ids, mark = [run.transcript_id for run in runs], Path(os.environ["TRAJKIT_TEST_MARK"])
        if not mark.exists() or os.environ["TRAJKIT_TEST_DEADLY"] in ids:
            mark.touch()
            os._exit(1)
        if os.environ["TRAJKIT_TEST_FAULTY"] in ids:
            raise ZeroDivisionError("a bug")
        return super().read(runs, *rest)


@pytest.mark.slow
def test_replicas_write_the_same_and_runs_at_which_they_die_are_left_out(
    attribute, cli, saved, runs, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="needs trajkit[ray]")
    deadly, faulty = runs[DEADLY].transcript_id, runs[FAULTY].transcript_id
    monkeypatch.setenv("TRAJKIT_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("TRAJKIT_TEST_DEADLY", deadly)
    monkeypatch.setenv("TRAJKIT_TEST_FAULTY", faulty)
    monkeypatch.setattr(replicas, "_Replica", Mortal)
    result = attribute(saved, "--engine", "ray", "--workers", "2", "--batch-size", "2")
    assert result.code == 1
    assert "2 of 6 runs could not be read again" in result.err
    assert f"left out run {deadly}: the worker that read it died" in result.err
    assert f"left out run {faulty}: it failed with ZeroDivisionError: a bug, and it was alone there" in result.err
    assert cli("attribute", saved, "--out", tmp_path / "here", "--batch-size", "2").code == 0
    here, found = read_traces(tmp_path / "here"), read_traces(tmp_path / "out")
    assert found.ids == [name for name in here.ids if name not in (deadly, faulty)]
    for run in found:
        own = here[run.transcript_id]
        alone = run.transcript_id in (runs[DEADLY - 1].transcript_id, runs[FAULTY - 1].transcript_id)
        np.testing.assert_allclose(run.effects, own.effects, atol=1e-3 if alone else 0)
        assert (run.model, dict(run.meta)) == (own.model, dict(own.meta))
