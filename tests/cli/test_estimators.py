"""`trajkit train-estimator` and `trajkit evaluate` on a user's own folder."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import trajkit as tk

QUICK = ("--temperature", "0", "--max-new-tokens", "40", "--masks", "8")


@pytest.fixture
def grouped(questions):
    """Questions about n images."""

    def write(n: int):
        path = questions(n)
        rows = [json.loads(line) | {"group_id": f"g{i}"} for i, line in enumerate(path.read_text().splitlines())]
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write


def test_an_estimator_is_trained_in_one_command_and_collects_runs(cli, grouped, tmp_path):
    out = tmp_path / "estimator"
    result = cli("train-estimator", grouped(4), "--out", out, *QUICK)
    assert result.code == 0, result.err
    assert "Measured 4 runs with" in result.out
    assert "peak memory" in result.out
    assert "of them, held out: r²" in result.out
    assert "too few to tell much" in result.out
    assert tk.EffectEstimator.load(out).card["runs"] == 4
    assert "1 of 1 images held out are also among those trained on" in result.err  # all ask about one
    evaluated = cli("evaluate", grouped(1), "--estimator", out, *QUICK)
    assert "1 of 1 images are among those that the estimator was trained on: figures on them are" in evaluated.err
    collected = cli("collect", grouped(1), "--estimator", out, "--out", tmp_path / "t", "--samples", "1")
    assert collected.code == 0, collected.err
    again = cli(
        "train-estimator",
        grouped(4),
        "--out",
        tmp_path / "linear",
        "--kind",
        "linear",
        *QUICK,
        "--work",
        tmp_path / "estimator.measured",
    )
    assert again.code == 0, again.err
    assert isinstance(tk.EffectEstimator.load(tmp_path / "linear"), tk.LinearEstimator)


def test_one_run_that_is_not_finite_never_replaces_a_good_estimator(cli, grouped, tmp_path):
    out, again = tmp_path / "estimator", ("train-estimator", grouped(4), "--out", tmp_path / "estimator", *QUICK)
    assert cli(*again).code == 0
    good = tk.EffectEstimator.load(out).digest
    path = min((tmp_path / "estimator.measured").glob("*.npz"))
    with np.load(path) as file:
        arrays = {**file}
    arrays["single"][0, 0] = np.inf
    np.savez(path, **arrays)
    cli(*again).assert_one_line_error(
        "is damaged (its single hold NaN or infinite values)", "remove it, and its run is measured"
    )
    assert tk.EffectEstimator.load(out).digest == good


def test_an_estimator_is_evaluated_beside_raw_attention_leave_one_out_and_chance(
    cli, grouped, model_and_estimator, tmp_path
):
    table = tmp_path / "table.csv"
    result = cli("evaluate", grouped(2), *model_and_estimator, *QUICK, "--out", table)
    questions = grouped(2)
    before = questions.read_bytes()
    taken = cli("evaluate", questions, *model_and_estimator, *QUICK, "--out", questions)
    assert taken.code == 1
    assert "is no table of an evaluation" in taken.err
    assert questions.read_bytes() == before
    assert result.code == 0, result.err
    for word in ("raw attention", "leave-one-out", "floor", "LDS", "Only 2 images", "× estimated size"):
        assert word in result.out
    assert "Too few steps to tell" in result.out.splitlines()[-1]
    for told in (result.err, result.out):
        assert "his estimator does not say which images it was trained on" in told
        assert "1 of 1 images came under several groups" in told
    measured = pd.read_csv(table, keep_default_na=False).set_index(["task_set", "band", "method", "figure"])["value"]
    assert float(measured["", "all steps", "leave-one-out (measured)", "r²"]) == pytest.approx(1)
    assert ("", "", "estimator", "Spearman of path_length") in measured.index


def test_questions_of_several_task_sets_are_evaluated_for_each_of_them(cli, grouped, model_and_estimator, tmp_path):
    path, table = grouped(2), tmp_path / "table.csv"
    rows = [json.loads(line) | {"task_set": f"set {i}"} for i, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(map(json.dumps, rows)))
    result = cli("evaluate", path, *model_and_estimator, *QUICK, "--out", table)
    assert result.code == 0, result.err
    assert "by task set" in result.out
    assert set(pd.read_csv(table, keep_default_na=False)["task_set"]) == {"", "set 0", "set 1"}


def test_an_image_that_cannot_be_opened_is_left_out_and_named_and_the_command_ends_with_1(
    cli, grouped, model_and_estimator, tmp_path
):
    path = grouped(3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, [rows[0], rows[1] | {"image": "gone.png"}, rows[2]])))
    result = cli("evaluate", path, *model_and_estimator, *QUICK)
    assert result.code == 1
    assert "left out question" in result.err
    assert "1 of 3 questions could not be used" in result.err
    assert "gone.png does not exist" in result.err
    assert "Only 2 images" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("train-estimator", "{questions}", "--out", "{out}", "--ablation", "zap"),
            ("--ablation must be one of", "'zap'"),
        ),
        (("train-estimator", "{questions}", "--out", "{out}", "--kind", "tree"), ("--kind must be one of", "'tree'")),
        (("train-estimator", "{questions}", "--out", "{out}", *QUICK), ("at least 3 images", "more questions")),
        (("evaluate", "{questions}", "--methods", "some"), ("--methods must be one of",)),
        (("evaluate", "{out}/none.jsonl"), ("does not exist",)),
    ],
)
def test_bad_input_is_one_line(cli, grouped, tmp_path, arguments, words):
    given = [a.format(questions=grouped(1), out=tmp_path / "out") for a in arguments]
    cli(*given).assert_one_line_error(*words)
