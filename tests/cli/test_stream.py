"""`trajkit stream` on a picture."""

from __future__ import annotations

import json
import re
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from trajkit.detection.monitor import Verdict


def test_plain_output_has_the_question_each_step_and_the_answer(cli, picture, model_and_estimator):
    result = cli(
        "stream", picture, "is there a red 7?", *model_and_estimator, "--detectors", "none", "--temperature", "0"
    )
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].startswith("question: is there a red 7?")
    assert lines[1].startswith("1: ")
    assert any(line.startswith("answer: ") for line in lines)
    assert "tokens in" in lines[-1]
    assert result.err == ""


def test_json_is_one_object_a_line_with_regions_effects_and_an_end(cli, picture, model_and_estimator):
    arguments = ("stream", picture, "read row 2.", *model_and_estimator, "--detectors", "none", "--json", "--seed", "3")
    first, again = cli(*arguments), cli(*arguments)
    records = [json.loads(line) for line in first.out.splitlines()]
    start, *steps, end = records
    assert (start["event"], start["question"]) == ("start", "read row 2.")
    assert len(start["regions"]) == end["n_regions"]
    assert sum(region["area"] for region in start["regions"]) == pytest.approx(1, abs=0.01)
    assert all(0 <= left < right <= start["width"] for left, _, right, _ in (r["box"] for r in start["regions"]))
    assert {r["event"] for r in steps} == {"step"}
    assert end["event"] == "end"
    assert end["n_steps"] == len(steps)
    assert all(len(r["effects"]) == end["n_regions"] for r in steps)
    assert all(r["half_width"] is None for r in steps)  # a linear estimator has none
    assert np.isfinite([e for r in steps for e in r["effects"]]).all()
    assert [r["text"] for r in steps] == [json.loads(line)["text"] for line in again.out.splitlines()[1:-1]]


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("clear \x1b[2J it", r"must be plain text, got '\x1b'"),
        ("half \udcff", r"must be plain text, got '\udcff'"),
        ("is <|image_pad|> red?", "holds <|image_pad|>, which stands for an image"),
        ("is <|video_pad|> red?", "holds <|video_pad|>, which stands for a video"),
    ],
)
def test_a_question_that_collect_leaves_out_is_refused_in_the_same_words(
    cli, picture, model_and_estimator, tmp_path, question, told
):
    cli("stream", picture, question, *model_and_estimator, "--detectors", "none").assert_one_line_error(told)
    path = tmp_path / "questions.jsonl"
    lines = [json.dumps({"image": str(picture), "question": one}) for one in (question, "read row 2.")]
    path.write_text("\n".join(lines))
    options = ("--samples", "1", "--max-new-tokens", "8", *model_and_estimator)
    collected = cli("collect", path, "--out", tmp_path / "out", *options)
    assert collected.code == 1
    assert told in collected.err


def test_a_short_limit_is_told_as_no_answer(cli, picture, model_and_estimator):
    result = cli("stream", picture, "read row 2.", *model_and_estimator, "--detectors", "none", "--max-new-tokens", "4")
    assert result.code == 0
    assert "stopped before it answered" in result.out


def test_the_monitor_watches_every_step_and_its_alarm_is_shown(cli, picture, model_and_estimator, monkeypatch):
    told = []

    class Run:
        step = 0

        def update(self, step):
            self.step += 1
            return Verdict(self.step, 0.9, 0.9, 0.5, self.step == 1)

    class Watcher:
        threshold, alpha, can_alarm, message = 0.5, 0.1, True, "alarms"

        def check(self, model, fingerprint):
            assert fingerprint

        def start(self, task_set, form):
            told.append((task_set, form))
            return Run()

    class Detectors:
        monitor = Watcher()

    monkeypatch.setattr("trajkit.cli.loading.load_detectors_for", lambda folder, vlm: Detectors())
    result = cli("stream", picture, "read row 2.", *model_and_estimator)
    cli("stream", picture, "read row 2.", *model_and_estimator, "--task-set", "math", "--form", "row", "--json")
    assert told == [("", ""), ("math", "row")]
    assert "ALARM at step 1: risk 0.90 > 0.50; at most 10 % of good runs get there" in result.out
    assert result.out.count("ALARM") == 1


def test_ctrl_c_stops_the_generation_and_is_one_line(cli, picture, model_and_estimator, monkeypatch):
    monkeypatch.setattr("trajkit.cli.terminal.RunView.step", lambda *_: signal.raise_signal(signal.SIGINT))
    before = threading.active_count()
    result = cli("stream", picture, "read row 2.", *model_and_estimator, "--detectors", "none")
    assert result.code == 130
    assert result.err.splitlines() == ["trajkit: stopped."]
    assert threading.active_count() == before


def test_what_is_loaded_and_waited_for_is_said_in_order(cli, picture, model_and_estimator, demo_vlm, monkeypatch):
    said = []

    @contextmanager
    def status(doing):
        said.append(doing)
        yield said.append

    monkeypatch.setattr("trajkit.progress.status", status)
    monkeypatch.setattr("trajkit.cli.loading.status", status)
    result = cli("stream", picture, "is there a red 7?", *model_and_estimator, "--detectors", "none")
    assert result.code == 0, result.err
    size = sum(file.stat().st_size for file in Path(demo_vlm.name).glob("*.safetensors")) / 1e6
    assert said[:3] == [
        f"loading {demo_vlm.name} ({size:.1f} MB)",
        f"reading the estimator {model_and_estimator[-1]}",
        "reading the image",
    ]
    assert re.fullmatch(r"reading \d+ tokens of image and question, then the first step", said[3])


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no such name", "a/b/c", ""])
def test_a_model_that_is_not_on_this_machine_has_no_size(name, monkeypatch, tmp_path):
    from trajkit.cli.loading import _size

    monkeypatch.chdir(tmp_path)
    assert _size(name) == ""
