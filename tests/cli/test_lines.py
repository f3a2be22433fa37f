"""`trajkit monitor -`: as a program meets it, over pipes, with signals and exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from trajkit.demo import paths
from trajkit.detection import Monitor

ROOT = Path(__file__).parents[2]
CALM = {"effects": [2.5, 0.1, -0.3] + [0.0] * 13, "logprob": -0.2, "entropy": 0.4, "n_tokens": 12}
LOST = {"effects": [0.2, 0.3, 0.1] + [0.0] * 13, "logprob": -3.5, "entropy": 2.9, "n_tokens": 6}


def text(*records: object) -> str:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records)


@pytest.fixture
def watch(cli, monkeypatch):
    """`trajkit monitor - OPTIONS` with records as its input; the result, and its lines."""

    def run(records: list[object], *options: str):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text(*records).encode())))
        result = cli("monitor", "-", "--detectors", paths.DETECTORS, *options)
        return result, [json.loads(line) for line in result.out.splitlines()]

    return run


def test_every_line_is_answered_and_open_runs_are_summed_up_at_the_end(watch):
    end = {"event": "end", "run": 1}
    result, lines = watch([{"run": 1} | CALM, {"run": 2} | LOST, {"run": 2} | CALM, end])
    assert (result.code, result.err) == (0, "")
    assert [(line["event"], line["run"]) for line in lines] == [
        ("verdict", 1),
        ("verdict", 2),
        ("verdict", 2),
        ("end", 1),
        ("end", 2),
    ]
    assert [line["alarm"] for line in lines[:3]] == [False, True, False]
    assert [(line["closed"], line["alarm_step"]) for line in lines[3:]] == [(True, None), (False, 1)]


@pytest.mark.parametrize(
    ("records", "options", "code"),
    [
        ([], [], 0),
        ([LOST], [], 0),
        ([CALM], ["--policy", "stop"], 0),
        ([LOST], ["--policy", "stop"], 3),
        ([LOST], ["--policy", "flag"], 0),
        ([LOST], ["--policy", "ask-again", "--tries", "2"], 0),
        ([CALM, "nonsense", CALM], [], 1),
        ([LOST, "nonsense"], ["--policy", "stop"], 3),
        ([LOST, "nonsense"], ["--policy", "stop", "--strict"], 2),
    ],
)
def test_the_exit_code_says_how_it_ended(watch, records, options, code):
    result, lines = watch(records, *options)
    assert result.code == code
    assert len(result.err.splitlines()) == records.count("nonsense")
    assert bool(lines) == bool(records)


def test_a_line_that_is_no_good_is_told_twice_and_the_next_one_read(watch):
    result, lines = watch([CALM, '{"effects": [NaN]}', CALM])
    assert [line["event"] for line in lines] == ["verdict", "error", "verdict", "end"]
    assert (lines[1]["line"], lines[3]["n_steps"]) == (2, 2)
    assert result.err == f"trajkit: line 2: {lines[1]['message']}\n"


def test_strict_stops_at_the_first_such_line_with_what_there_is(watch):
    result, lines = watch([CALM, "nonsense", CALM], "--strict")
    assert [line["event"] for line in lines] == ["verdict", "error", "end"]
    assert result.code == 2
    result.assert_one_line_error("line 2", "no JSON")


def test_a_line_without_an_end_does_not_fill_the_memory(monkeypatch):
    from trajkit.cli.lines import read_lines
    from trajkit.detection.lines import LONGEST_LINE

    class Endless(io.RawIOBase):
        left = 64 * LONGEST_LINE

        def readable(self):
            return True

        def readinto(self, buffer):
            n = min(len(buffer), self.left)
            buffer[:n] = b" " * n
            self.left -= n
            return n

    (line,) = read_lines(io.BufferedReader(Endless()))
    assert LONGEST_LINE < len(line) < 2 * LONGEST_LINE
    two = io.BytesIO(b"x" * 3 * LONGEST_LINE + b"\n{}\nlast")
    assert [len(line) for line in read_lines(two)] == [LONGEST_LINE + 2, 3, 4]


def test_options_of_the_other_kind_of_monitor_are_refused(cli, tmp_path):
    detectors = ("--detectors", paths.DETECTORS)
    cli("monitor", "-", *detectors, "--all").assert_one_line_error("--all", "saved runs")
    cli("monitor", tmp_path, *detectors, "--strict").assert_one_line_error("--strict", "trajkit monitor -")
    assert cli("monitor", "-", *detectors, "--policy", "panic").code == 2
    cli("monitor", "-", *detectors, "--policy", "panic").assert_one_line_error("--policy must be one of", "'panic'")
    cli("monitor", "-", *detectors, "--policy", "stop", "--tries", "2").assert_one_line_error("ask-again")


def test_who_is_waited_for_at_a_terminal_is_told(cli, monkeypatch):
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Terminal(b"")))
    result = cli("monitor", "-", "--detectors", paths.DETECTORS)
    assert (result.code, result.out) == (0, "")
    assert "reading lines of JSON from the terminal; Ctrl-D ends them." in result.err


def test_the_lines_of_a_stream_get_the_verdicts_of_the_stream(cli, watch, picture):
    streamed = cli("stream", picture, "sort row 2 up.", "--json", "--seed", "2").out.splitlines()
    result, lines = watch(streamed)
    assert (result.code, result.err) == (0, "")
    steps = [step for step in map(json.loads, streamed) if step["event"] == "step"]
    verdicts = [line for line in lines if line["event"] == "verdict"]
    assert len(verdicts) == len(steps) > 2
    for step, verdict in zip(steps, verdicts, strict=True):
        assert verdict == {"event": "verdict", "run": ""} | step["verdict"]
    start, end = lines[0], lines[-1]
    assert (start["event"], start["threshold"]) == ("start", steps[0]["verdict"]["threshold"])
    assert (end["closed"], end["n_steps"]) == (True, len(steps) - 1)
    assert end["max_risk"] == steps[-1]["verdict"]["max_risk"]


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_the_filter_of_the_example_for_jq_runs_as_it_stands(watch):
    result, _ = watch([CALM, LOST])
    (program,) = re.findall(r"jq -r '(.*)'$", example("sh"), re.M)
    done = subprocess.run(["jq", "-r", program], input=result.out, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"step 1: risk \d+ %\nstep 2: risk \d+ %, ALARM\n", done.stdout), done.stdout


class Watch:
    """`trajkit monitor -` in a process of its own."""

    def __init__(self, *options: str, **process: object) -> None:
        command = [sys.executable, "-m", "trajkit", "monitor", "-", "--detectors", str(paths.DETECTORS), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **process)

    def ask(self, record: object) -> dict[str, object]:
        """Its answer to one line, which it has before the next is sent."""
        self.process.stdin.write(text(record).encode())
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def test_each_line_is_answered_before_the_next_and_ctrl_c_ends_with_what_there_is():
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        watch = Watch()
        assert watch.ask({"run": "a"} | LOST)["alarm"] is True
        began = time.perf_counter()
        assert [watch.ask({"run": "b"} | CALM)["step"] for _ in range(20)] == list(range(1, 21))
        assert time.perf_counter() - began < 5
        watch.process.send_signal(number)
        out, err = watch.process.communicate(timeout=20)
        assert [json.loads(line)["n_steps"] for line in out.splitlines()] == [1, 20]
        assert (watch.process.returncode, err) == (code, b"trajkit: stopped.\n")


def test_scores_of_your_own_need_nothing_else(cli, monkeypatch, tmp_path):
    frame = pd.DataFrame({"score": [n / 40 for n in range(40)], "group_id": range(40), "success": True})
    Monitor.of_scores(frame, run=None).save(tmp_path)
    lines = [{"run": "a", "score": 0.3}, {"run": "a", "score": 1}, {"run": "a", "score": "high"}, {"run": "a"} | CALM]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text(*lines).encode())))
    result = cli("monitor", "-", "--detectors", tmp_path)
    calm, alarm, no_score, no_number, end = map(json.loads, result.out.splitlines())
    assert (calm["risk"], calm["alarm"], alarm["alarm"], end["alarm_step"]) == (0.3, False, True, 2)
    assert '"score" must be a number' in no_score["message"]
    assert "work on scores of your own" in no_number["message"]
    assert (end["n_steps"], result.code) == (2, 1)


def test_enough_is_told_where_success_is_as_good_as_certain(watch, monkeypatch):
    from trajkit.detection.store import load_detectors

    known = {"logprob": -1e-4, "entropy": 1e-4, "n_tokens": 14}
    sure = [{"effects": [0.0] * k + [15.0] + [0.0] * (15 - k)} | known for k in range(9)]
    result, lines = watch(sure, "--enough")
    decided = [line for line in lines if line["event"] == "decision"]
    assert [(line["action"], line["verdict"]["threshold"]) for line in decided] == [
        ("enough", load_detectors(paths.DETECTORS).enough.threshold)
    ]
    assert result.code == 0


def test_a_reader_that_leaves_ends_it_without_a_word():
    watch = Watch()
    watch.ask(CALM)
    watch.process.stdout.close()
    watch.process.stdin.write(text(*[CALM] * 3).encode())
    watch.process.stdin.close()
    assert watch.process.stderr.read() == b""
    assert watch.process.wait(20) == 1


def test_no_input_at_all_is_one_line():
    command = [sys.executable, "-m", "trajkit", "monitor", "-", "--detectors", str(paths.DETECTORS)]
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("trajkit: standard input is closed;")
    assert done.stderr.count("\n") == 1


def example(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "events.md").read_text(), re.M | re.S)
    return code


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_example_for_node_runs_as_it_stands(tmp_path):
    (tmp_path / "trajkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trajkit "$@"\n')
    (tmp_path / "trajkit").chmod(0o755)
    (tmp_path / "watch.mjs").write_text(example("js"))
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["node", tmp_path / "watch.mjs"], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"run 1, step 1: risk 0\.\d\d\nrun 2, step 1: risk 0\.\d\d\nrun 2: stop\n", done.stdout), (
        done.stdout
    )
