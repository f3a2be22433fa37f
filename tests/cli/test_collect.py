"""`trajkit collect` on a user's own folder."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from trajkit.traces.store import read_traces, write_traces
from trajkit.vlm.beginnings import Budget


@pytest.fixture
def collect(cli, model_and_estimator):
    return lambda *arguments: cli("collect", *arguments, *model_and_estimator, "--max-new-tokens", "60")


def test_every_question_gets_its_runs_and_successes_are_counted(collect, questions, tmp_path):
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "2")
    assert result.code == 0, result.err
    assert "4 runs of 2 questions" in result.out
    assert "of 4 with a target succeeded" in result.out
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q0-1", "q1-0", "q1-1"]


def test_hidden_states_are_kept_when_asked_for_and_a_folder_holds_one_kind(collect, questions, tmp_path):
    out = tmp_path / "traces"
    assert collect(questions(1), "--out", out, "--samples", "1", "--keep-hidden").code == 0
    trace = read_traces(out)[0]
    assert trace.hidden.shape[0] == trace.n_steps
    assert trace.hidden.shape[1] <= 128
    assert np.ptp(trace.hidden) > 0
    collect(questions(2), "--out", out, "--samples", "1").assert_one_line_error("keep_hidden")


def test_running_again_goes_on_and_doubles_nothing(collect, questions, tmp_path):
    collect(questions(1), "--out", tmp_path / "traces", "--samples", "1")
    first = read_traces(tmp_path / "traces")[0]
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    assert "2 runs of 2 questions" in result.out
    assert "(1 new)" in result.out
    again = {trace.transcript_id: trace for trace in read_traces(tmp_path / "traces")}
    assert again["q0-0"].steps == first.steps


def test_questions_without_a_target_are_fine(collect, questions, tmp_path):
    result = collect(questions(1, target=None), "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 0
    assert "no targets" in result.out
    assert read_traces(tmp_path / "traces")[0].outcome == "unknown"


def test_a_judge_is_named_and_a_folder_holds_one(collect, questions, tmp_path):
    path, out = questions(1), tmp_path / "traces"
    row = json.loads(path.read_text()) | {"targets": ["7 7 7 7"], "outcome": "reasoning_failure"}
    path.write_text(json.dumps(row))
    assert collect(path, "--out", out, "--samples", "1").code == 0
    [run] = read_traces(out)
    assert (run.success, run.outcome) in ((True, "success"), (False, "reasoning_failure"))
    assert run.meta["targets"] == [run.target, "7 7 7 7"]
    assert run.meta["judge"] == "exact"
    collect(path, "--out", out, "--samples", "2", "--judge", "number").assert_one_line_error(
        "runs made with judge 'exact'"
    )
    collect(path, "--out", out, "--judge", "exactly").assert_one_line_error("a judge must be exact, choice")
    row = {"image": row["image"], "question": row["question"], "answer": "2"}
    path.write_text(json.dumps(row))
    result = collect(path, "--out", out)
    assert (result.code, "'answer' is no key of a question; did you mean 'target'?" in result.err) == (1, True)


def test_a_function_of_the_current_folder_judges_collected_runs(collect, questions, tmp_path, monkeypatch):
    (tmp_path / "my_judge.py").write_text("def never(answer, targets): return 'hallucination'\n")
    monkeypatch.chdir(tmp_path)
    assert collect(questions(1), "--out", tmp_path / "t", "--samples", "1", "--judge", "my_judge:never").code == 0
    assert read_traces(tmp_path / "t")[0].outcome == "hallucination"


def test_a_bad_image_in_the_middle_is_reported_and_the_rest_collected(collect, questions, tmp_path):
    path = questions(3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["image"] = "broken.png"
    path.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 1
    assert "left out question q1" in result.err
    assert "1 of 3 questions could not be used" in result.err
    assert "Traceback" not in result.err
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q2-0"]


def test_a_missing_image_is_left_out_like_a_damaged_one_and_named_by_its_line(collect, questions, tmp_path):
    path = questions(2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join([json.dumps({"image": "gone.png", "question": "how many?"}), *map(json.dumps, rows)]))
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 1
    reported = next(line for line in result.err.splitlines() if "left out question" in line)
    assert "(line 1, gone.png)" in reported
    assert "gone.png does not exist" in reported
    assert "1 of 3 questions could not be used" in result.err
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q1-0"]


def test_a_damaged_image_is_named_by_its_line_too(collect, questions, tmp_path):
    path = questions(2)
    (tmp_path / "scene.png").write_bytes(b"not a picture")
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert "left out question q1 (line 2, scene.png): " in result.err


def test_too_few_groups_are_not_sent_to_fit(collect, questions, tmp_path):
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    assert "Next: trajkit report" in result.out or "Next: trajkit analyze" in result.out
    assert "trajkit fit needs" in result.out


def test_what_is_suggested_next_can_be_run(cli, traces, tmp_path, make_trace):
    from trajkit.cli.collect import _next

    rng = np.random.default_rng(0)

    def suggestion(*failed: bool | None) -> str:
        runs = [make_trace(group, 0, f, rng) for group, f in enumerate(failed)]
        return _next(read_traces(write_traces(runs, tmp_path / "t.parquet")), tmp_path / "t.parquet")

    assert suggestion(None, None).startswith("trajkit report")
    assert suggestion(True, True).startswith("trajkit report")
    assert suggestion(True, False, True).startswith("trajkit analyze")
    assert _next(read_traces(traces), traces) == f"trajkit fit {traces} --out detectors"


BAD_LINES = {
    "not JSON, got '{broken'": "{broken",
    "expected a JSON object": "[1]",
    "nested too deeply": "[" * 100_000,
    "4300 digits": '{"image": "scene.png", "question": "?", "target": ' + "9" * 5000 + "}",
    "NaN is no JSON number": '{"image": "scene.png", "question": "?", "target": NaN}',
    "1e999 is no JSON number": '{"image": "scene.png", "question": "?", "target": 1e999}',
    "'id' must be plain text": json.dumps({"id": "a\x1b[2J", "image": "scene.png", "question": "?"}),
    "'question' must be plain text": json.dumps({"image": "scene.png", "question": "half \ud800"}),
    "'target' must be plain text": json.dumps({"image": "scene.png", "question": "?", "target": "\0"}),
    "'image' must be plain text": json.dumps({"image": "scene\0.png", "question": "?"}),
    "stands for an image": json.dumps({"image": "scene.png", "question": "is <|image_pad|> red?"}),
    "pipe cannot be read (it is a folder, pipe or device)": json.dumps({"image": "pipe", "question": "?"}),
    "/dev/zero cannot be read (it is a folder, pipe or device)": json.dumps({"image": "/dev/zero", "question": "?"}),
    "folder cannot be read (it is a folder, pipe or device)": json.dumps({"image": "folder", "question": "?"}),
    "MB are the most": json.dumps({"image": "huge.png", "question": "?"}),
    "already that of line": json.dumps({"id": "q0", "image": "scene.png", "question": "another?"}),
}
"""What is told → the line."""


def spoiled(path, folder):
    """The questions with every bad line among them."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    with open(folder / "huge.png", "wb") as file:
        file.truncate(2**31)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, *BAD_LINES.values(), *rest]) + "\n")
    return path


def quick_options(command, out, model_and_estimator):
    """Options with which a command that reads questions is done in seconds."""
    model, estimator = model_and_estimator[:2], model_and_estimator[2:]
    more = {
        "collect": ["--samples", "1", *estimator],
        "train-estimator": ["--masks", "8", "--kind", "linear"],
        "evaluate": ["--masks", "8", *estimator],
    }[command]
    return ["--out", out, *model, *more, "--max-new-tokens", "40"]


@pytest.mark.parametrize("command", ["collect", "train-estimator", "evaluate"])
def test_no_bad_line_blocks_the_others(cli, questions, tmp_path, model_and_estimator, command):
    """One policy in every command that reads questions."""
    path = questions(4)
    groups = [json.loads(line) | {"group_id": f"g{i}"} for i, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(map(json.dumps, groups)))
    options = quick_options(command, tmp_path / "out", model_and_estimator)
    result = cli(command, spoiled(path, tmp_path), *options)
    assert result.code == 1
    assert "Traceback" not in result.err
    for told in BAD_LINES:
        assert told in result.err
    assert f"{len(BAD_LINES)} of {len(BAD_LINES) + 4} questions could not be used" in result.err
    assert (tmp_path / "out").exists()
    if command == "collect":
        assert "4 runs of 4 questions" in result.out


@pytest.mark.parametrize("command", ["collect", "train-estimator", "evaluate"])
def test_images_outside_the_root_are_left_out_by_name_and_the_others_used(
    cli, questions, tmp_path, model_and_estimator, command
):
    path = questions(4)
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        (folder / "scene.png").write_bytes((tmp_path / "scene.png").read_bytes())
    (root / "link.png").symlink_to(outside / "scene.png")
    (root / "folder").symlink_to(outside)
    (root / "inner.png").symlink_to(root / "scene.png")
    good = [json.loads(line) | {"group_id": f"g{i}"} for i, line in enumerate(path.read_text().splitlines())]
    good[0]["image"] = "inner.png"
    names = ["link.png", "folder/scene.png", "../outside/scene.png", f"{outside}/scene.png"]
    bad = [{"id": f"b{i}", "image": name, "question": "sort row 1 up."} for i, name in enumerate(names)]
    path.write_text("\n".join(map(json.dumps, [*bad, *good])))
    options = quick_options(command, tmp_path / "out", model_and_estimator)
    arguments = [command, path, "--images", root, *options]
    result = cli(*arguments, "--images-root", root)
    assert result.code == 1
    for number, question in enumerate(bad, start=1):
        assert f"left out question {question['id']} (line {number}, " in result.err
    assert result.err.count(f"lies outside {root}") == 4
    assert "4 of 8 questions could not be used" in result.err
    assert (tmp_path / "out").exists()
    if command == "collect":
        assert "4 runs of 4 questions" in result.out
        assert "4 new" in cli(*arguments).out  # not confined unless asked to
        cli(*arguments, "--images-root", tmp_path / "none").assert_one_line_error("--images-root", "none")


def test_a_file_with_no_line_that_can_be_used_is_an_error(collect, questions, tmp_path):
    path = questions(1)
    path.write_text("{broken\n[1]\n")
    result = collect(path, "--out", tmp_path / "traces")
    assert result.code == 1
    assert "line 1: not JSON" in result.err
    assert "holds no line that can be used (2 of 2 are bad)" in result.err.splitlines()[-1]
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(("key", "value"), [("question", "is there a blue 0?"), ("target", "yes")])
def test_an_edited_question_under_the_same_id_is_told_apart(collect, questions, tmp_path, key, value):
    path = questions(2)
    assert collect(path, "--out", tmp_path / "traces", "--samples", "1").code == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, [rows[0] | {key: value}, rows[1]])))
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 1
    assert f"holds runs of id 'q0' with another {key}" in result.err
    assert "give the edited question an id of its own" in result.err


def test_an_image_that_changed_under_the_same_id_is_told_apart_from_those_of_its_runs(collect, questions, tmp_path):
    path = questions(2)
    assert collect(path, "--out", tmp_path / "traces", "--samples", "1").code == 0
    before = read_traces(tmp_path / "traces").ids
    with Image.open(tmp_path / "scene.png") as image:
        ImageOps.invert(image.convert("RGB")).save(tmp_path / "scene.png")
    result = collect(path, "--out", tmp_path / "traces", "--samples", "2")
    assert result.code == 1
    assert "holds runs of id 'q0' about another image" in result.err
    assert read_traces(tmp_path / "traces").ids == before


def test_an_image_saved_another_way_is_the_same_image(collect, questions, tmp_path):
    path = questions(1)
    assert collect(path, "--out", tmp_path / "traces", "--samples", "1").code == 0
    with Image.open(tmp_path / "scene.png") as image:
        image.save(tmp_path / "scene.png", compress_level=0)
    assert collect(path, "--out", tmp_path / "traces", "--samples", "2").code == 0


def test_spellings_of_one_image_are_one_group(collect, questions, tmp_path):
    path = questions(1)
    row = {"question": "sort row 1 up.", "target": "no"}
    (tmp_path / "x").mkdir()
    names = ["scene.png", "./scene.png", f"{tmp_path}/scene.png", "x/../scene.png"]
    path.write_text("\n".join(json.dumps(row | {"image": name}) for name in names))
    assert collect(path, "--out", tmp_path / "traces", "--samples", "1").code == 0
    assert read_traces(tmp_path / "traces").column("group_id") == ["scene.png"] * 4


def test_a_full_disk_is_one_line_and_loses_nothing_written(collect, questions, tmp_path, monkeypatch):
    collect(questions(1), "--out", tmp_path / "traces", "--samples", "1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    monkeypatch.undo()
    errors = [line for line in result.err.splitlines() if line.startswith("trajkit: ")]
    assert result.code == 1
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "free some space" in errors[0]
    assert read_traces(tmp_path / "traces").ids == ["q0-0"]


def test_ctrl_c_keeps_what_was_collected_and_says_how_to_go_on(collect, questions, tmp_path, monkeypatch):
    from trajkit.cli import collect as command

    runs = command._runs

    def stop_at_the_third(vlm, estimator, question, *rest):
        if question.id == "q2":
            signal.raise_signal(signal.SIGINT)
        return runs(vlm, estimator, question, *rest)

    monkeypatch.setattr(command, "_runs", stop_at_the_third)
    result = collect(questions(4), "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 130
    assert result.err.splitlines()[-1].startswith("trajkit: stopped; 2 runs are safe in ")
    assert "Traceback" not in result.err
    monkeypatch.undo()
    assert "(2 new)" in collect(questions(4), "--out", tmp_path / "traces", "--samples", "1").out


@pytest.mark.parametrize("where", ["file", "under a file", "held"])
def test_where_runs_go_is_checked_before_a_model_is_loaded(collect, questions, tmp_path, monkeypatch, where):
    from trajkit.cli import loading
    from trajkit.files import hold

    def never(*arguments):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_model", never)
    (tmp_path / "file").write_text("")
    out = {"file": tmp_path / "file", "under a file": tmp_path / "file" / "runs", "held": tmp_path / "runs"}[where]
    lock = hold(out) if where == "held" else None
    collect(questions(1), "--out", out).assert_one_line_error(str(tmp_path))
    if lock:
        lock.close()


def test_a_folder_for_runs_is_not_made_by_a_command_that_fails(cli, questions, demo_vlm, tmp_path):
    options = ("--model", demo_vlm.name, "--estimator", tmp_path / "none")
    result = cli("collect", questions(1), "--out", tmp_path / "new", *options)
    result.assert_one_line_error("no estimator in")
    assert not (tmp_path / "new").exists()


SLOW = """
import sys, time
from trajkit.cli import collect
runs = collect._runs
def slow(vlm, estimator, question, *rest):
    if question.id == "q3":
        print("generating", flush=True)
        time.sleep(600)
    yield from runs(vlm, estimator, question, *rest)
collect._runs = slow
from trajkit.cli.main import main
main(sys.argv[1:])
"""
"""The command with a model that takes ten minutes for the fourth run."""


@pytest.fixture
def slow(questions, model_and_estimator, tmp_path):
    """`trajkit collect` in a process of its own, while a long generation is running."""
    command = ["collect", questions(5), "--out", tmp_path / "traces", "--samples", "1", "--max-new-tokens", "40"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, command), *model_and_estimator],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "generating\n"
    yield process
    process.kill()
    process.wait()


def test_no_finished_run_is_more_than_5_seconds_from_the_disk_while_a_model_generates(slow, tmp_path):
    time.sleep(5)
    slow.kill()
    slow.wait()
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q1-0", "q2-0"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_was_collected_and_says_so(slow, tmp_path, number, code):
    slow.send_signal(number)
    _, err = slow.communicate(timeout=20)
    assert slow.returncode == code
    assert err.splitlines()[-1].startswith("trajkit: stopped; 3 runs are safe in ")
    assert "Traceback" not in err
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q1-0", "q2-0"]


def test_a_signal_within_a_batch_keeps_the_runs_of_it_that_had_ended_and_says_so(
    cli, questions, model_and_estimator, demo_vlm, tmp_path, monkeypatch
):
    ended, own = [], Budget.__call__

    def stopped(self, input_ids, scores, **rest):
        if len(ended) == 1:  # it is known to have ended once the loop has gone on
            os.kill(os.getpid(), signal.SIGTERM)
        if ended or np.isin(input_ids[:, -1].tolist(), list(demo_vlm.end_tokens)).any():
            ended.append(True)
        return own(self, input_ids, scores, **rest)

    monkeypatch.setattr(Budget, "__call__", stopped)
    out = tmp_path / "traces"
    asked = ("collect", questions(1), "--out", out, "--samples", "12", "--temperature", "1.5", *model_and_estimator)
    result = cli(*asked)
    assert result.code == 143
    kept = set(read_traces(out).ids)
    assert 1 <= len(kept) < 12
    assert re.search(rf"stopped; {len(kept)} runs? (is|are) safe in ", result.err.splitlines()[-1])
    monkeypatch.undo()
    assert f"({12 - len(kept)} new)" in cli(*asked).out
