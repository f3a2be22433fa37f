"""`trajkit fit --step-labels` learns to tell wrong sentences, and says how well."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.detection.sentences import make_runs
from tests.traces.bare import without_effects
from trajkit.detection import StepPredictor, sentence_features
from trajkit.judging import fit as judged
from trajkit.judging import held_out_sentences
from trajkit.traces.store import write_traces


def labelled_runs():
    rng = np.random.default_rng(0)
    ends = ("success", "hallucination")
    return [replace(run, outcome=ends[int(rng.random() < 0.4)]) for run in make_runs(40)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer trees, folds, baselines and draws."""
    few = partial(held_out_sentences.held_out_steps, n_splits=3, model=StepPredictor(max_iter=5))
    monkeypatch.setattr(held_out_sentences, "held_out_steps", few)
    monkeypatch.setattr(judged, "fit_detectors", partial(judged.fit_detectors, n_boot=20, compared=("length",)))


def test_labels_in_the_runs_make_a_predictor_beside_the_detectors(cli, tmp_path):
    runs = labelled_runs()
    write_traces(runs, tmp_path / "runs")
    found = cli("fit", tmp_path / "runs", "--out", tmp_path / "out", "--step-labels", "meta")
    assert found.code == 0, found.err
    for said in ("wrong sentences, held out", "What effects add to uncertainty", "The first wrong sentence", "by both"):
        assert said in found.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detectors.json", "steps.json"}
    assert StepPredictor.load(tmp_path / "out").classes_.tolist() == ["", "false", "lost"]


def test_labels_of_a_file_do_for_runs_without_effects(cli, tmp_path):
    runs = [without_effects(run) for run in labelled_runs()]
    write_traces([replace(run, meta={}) for run in runs], tmp_path / "runs")
    lines = [f"{run.transcript_id},{i},{x}" for run in runs for i, x in enumerate(run.meta["step_labels"][:3], 1)]
    (tmp_path / "l.csv").write_text("\n".join(["transcript_id,step,label", *lines]))
    found = cli("fit", tmp_path / "runs", "--out", tmp_path / "out", "--step-labels", tmp_path / "l.csv")
    assert found.code == 0, found.err
    n = len(sentence_features(runs)) - len(lines)
    assert f"{n} sentences without a label, or without what is read, left out." in found.out
    assert "What effects add" not in found.out
    assert StepPredictor.load(tmp_path / "out").features == "uncertainty"


def test_what_cannot_be_learned_from_is_said_before_anything_is_fitted(cli, tmp_path):
    write_traces([replace(run, meta={}) for run in labelled_runs()], tmp_path / "runs")
    how = ("fit", tmp_path / "runs", "--out", tmp_path / "out", "--step-labels")
    cli(*how, "meta").assert_one_line_error("none of", "has a label", "--step-labels FILE")
    (tmp_path / "l.csv").write_text("transcript_id,step,label\nrun-x,1,false\n")
    cli(*how, tmp_path / "l.csv").assert_one_line_error("'run-x'", "no such run")
    assert not (tmp_path / "out").exists()
