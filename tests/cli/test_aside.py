"""One policy in every command that reads questions: a run that fails is left out and counted, the others go on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import trajkit as tk
from tests.cli.test_collect import quick_options
from trajkit.attribution.estimator import Binding
from trajkit.attribution.linear import LinearEstimator
from trajkit.traces.store import read_traces

COMMANDS = ("collect", "train-estimator", "evaluate")


@pytest.fixture(scope="module")
def flawed_and_estimator(flawed_model, tmp_path_factory):
    """Options for the model that cannot be asked about an 18, with an estimator that fits it."""
    vlm, folder = tk.load_vlm(flawed_model), tmp_path_factory.mktemp("estimator")
    binding = Binding(vlm.fingerprint, vlm.name, None, "vision", "sum", "mean")
    LinearEstimator({"weights": np.full(vlm.n_features, 1 / vlm.n_features, np.float32)}, binding).save(folder)
    return ["--model", flawed_model, "--estimator", folder]


def in_groups_of_their_own(path, **changed):
    """The questions, each of its own group. changed: id → another question."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row | {"group_id": row["id"], "question": changed.get(row["id"], row["question"])} for row in rows]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_generation_that_fails_is_left_out_and_the_others_are_not(
    cli, questions, flawed_and_estimator, tmp_path, monkeypatch, command
):
    from trajkit import progress

    counted, advance = [], progress._Log.advance
    monkeypatch.setattr(progress._Log, "advance", lambda bar, *a, **b: counted.append(bar) or advance(bar, *a, **b))
    path = in_groups_of_their_own(questions(5), q2="sort row 18 up.")
    with path.open("a") as file:
        file.write("\n" + json.dumps({"id": "gone", "image": "gone.png", "question": "sort row 2 down."}))
    result = cli(command, path, *quick_options(command, tmp_path / "out", flawed_and_estimator))
    assert result.code == 1, result.err
    assert "left out question q2 (line 3, scene.png): the model's logits hold NaN" in result.err
    assert "left out question gone (line 6, gone.png): " in result.err
    assert "trajkit: 2 of 6 questions could not be used; see above." in result.err
    assert (tmp_path / "out").exists()
    assert counted[-1]._done == counted[-1]._total == 6
    if command == "collect":
        assert sorted(read_traces(tmp_path / "out").ids) == ["q0-0", "q1-0", "q3-0", "q4-0"]
    if command == "train-estimator":
        assert tk.EffectEstimator.load(tmp_path / "out").card["runs"] == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_setting_with_which_nothing_can_be_generated_is_told_once(
    cli, questions, model_and_estimator, tmp_path, monkeypatch, command
):
    from trajkit.cli import loading

    load = loading.load_model

    def with_beams(*arguments):
        vlm = load(*arguments)
        assert vlm.fingerprint  # what the estimator is made for
        vlm.model.generation_config.num_beams = 4
        return vlm

    monkeypatch.setattr(loading, "load_model", with_beams)
    result = cli(command, questions(4), *quick_options(command, tmp_path / "out", model_and_estimator))
    result.assert_one_line_error("generation settings hold num_beams = 4")


def test_the_image_of_a_finished_question_is_not_opened(cli, questions, model_and_estimator, tmp_path):
    path, names = questions(3), ("removed.png", "damaged.png", "new.png")
    options = quick_options("collect", tmp_path / "out", model_and_estimator)
    for name in names:
        shutil.copy(tmp_path / "scene.png", tmp_path / name)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [json.dumps(row | {"image": name}) for row, name in zip(rows, names, strict=True)]
    path.write_text("\n".join(lines[:2]))
    assert cli("collect", path, *options).code == 0
    (tmp_path / "removed.png").unlink()
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    path.write_text("\n".join(lines))
    result = cli("collect", path, *options, "--images-root", tmp_path)
    assert result.code == 0, result.err
    assert "(1 new)" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_question_is_prepared_once(cli, questions, model_and_estimator, tmp_path, monkeypatch, command):
    from trajkit.vlm.model import VLM

    asked, prepare = [], VLM.prepare
    monkeypatch.setattr(VLM, "prepare", lambda vlm, image, text: asked.append(text) or prepare(vlm, image, text))
    path = in_groups_of_their_own(questions(3))
    result = cli(command, path, *quick_options(command, tmp_path / "out", model_and_estimator))
    assert result.code == 0, result.err
    assert asked[-3:] == [f"sort row {i + 1} up." for i in range(3)]
    assert asked[:-3] == ["?"]  # as the model is loaded


@pytest.mark.parametrize("command", COMMANDS)
def test_another_seed_gives_other_runs_and_the_same_seed_the_same(
    cli, questions, model_and_estimator, tmp_path, monkeypatch, command
):
    from trajkit.attribution import measure as module

    made, measure = [], module.measure
    monkeypatch.setattr(
        module, "measure", lambda vlm, run, *rest: made.append(run.tokens.tolist()) or measure(vlm, run, *rest)
    )
    path = in_groups_of_their_own(questions(2 if command == "collect" else 3))

    def runs(name, seed):
        made.clear()
        options = quick_options(command, tmp_path / name, model_and_estimator)
        result = cli(command, path, *options, "--temperature", "2", "--seed", seed)
        assert result.code == 0, result.err
        if command == "collect":
            return [[step.text for step in run.steps] for run in read_traces(tmp_path / name)]
        return list(made)

    first = runs("first", 1)
    assert len(first) >= 2
    assert runs("again", 1) == first
    assert runs("other", 2) != first
