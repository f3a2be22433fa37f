"""`trajkit stream` on a picture."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from tests.live.watching import events_of
from trajkit.cli.stream import tell_steps
from trajkit.demo import paths
from trajkit.detection.monitor import Verdict
from trajkit.detection.store import load_detectors


def test_plain_output_has_the_question_each_step_and_the_answer(cli, picture, model_and_estimator):
    result = cli(
        "stream",
        picture,
        "how many red in row 1 to row 3?",
        *model_and_estimator,
        "--detectors",
        "none",
        "--temperature",
        "0",
    )
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].startswith("question: how many red in row 1 to row 3?")
    assert lines[1].startswith("1: ")
    assert any(line.startswith("answer: ") for line in lines)
    assert "tokens in" in lines[-1]
    assert result.err == ""


def test_json_is_one_object_a_line_with_regions_effects_and_an_end(cli, picture, model_and_estimator):
    arguments = (
        "stream",
        picture,
        "sort row 2 down.",
        *model_and_estimator,
        "--detectors",
        "none",
        "--json",
        "--seed",
        "3",
    )
    first, again = cli(*arguments), cli(*arguments)
    records = [json.loads(line) for line in first.out.splitlines()]
    start, *steps, end = records
    assert (start["event"], start["question"]) == ("start", "sort row 2 down.")
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
    lines = [json.dumps({"image": str(picture), "question": one}) for one in (question, "sort row 2 down.")]
    path.write_text("\n".join(lines))
    options = ("--samples", "1", "--max-new-tokens", "8", *model_and_estimator)
    collected = cli("collect", path, "--out", tmp_path / "out", *options)
    assert collected.code == 1
    assert told in collected.err


def test_a_short_limit_is_told_as_no_answer(cli, picture, model_and_estimator):
    result = cli(
        "stream", picture, "sort row 2 down.", *model_and_estimator, "--detectors", "none", "--max-new-tokens", "4"
    )
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
        monitor, enough = Watcher(), None

    monkeypatch.setattr("trajkit.cli.loading.load_detectors_for", lambda folder, vlm: Detectors())
    result = cli("stream", picture, "sort row 2 down.", *model_and_estimator)
    cli("stream", picture, "sort row 2 down.", *model_and_estimator, "--task-set", "math", "--form", "row", "--json")
    assert told == [("", ""), ("math", "row")]
    assert "ALARM at step 1: risk 0.90 > 0.50; at most 10 % of good runs get there" in result.out
    assert result.out.count("ALARM") == 1


def test_ctrl_c_stops_the_generation_and_is_one_line(cli, picture, model_and_estimator, monkeypatch):
    monkeypatch.setattr("trajkit.cli.terminal.RunView.step", lambda *_: signal.raise_signal(signal.SIGINT))
    before = threading.active_count()
    result = cli("stream", picture, "sort row 2 down.", *model_and_estimator, "--detectors", "none")
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
    result = cli("stream", picture, "how many red in row 1 to row 3?", *model_and_estimator, "--detectors", "none")
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


@pytest.fixture
def chat(tmp_path, picture):
    """Write a chat of two questions about the picture; content of its last turn."""

    def write(last: object = "how many red in row 1 to row 3?") -> Path:
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "scene.png").write_bytes(picture.read_bytes())
        image = {"type": "image", "image": "pictures/scene.png"}
        turns = [
            {"role": "user", "content": [image, {"type": "text", "text": "sort row 2 down."}]},
            {"role": "assistant", "content": "3 4 5"},
            {"role": "user", "content": last},
        ]
        path = tmp_path / "chat.json"
        path.write_text(json.dumps(turns))
        return path

    return write


def test_a_chat_is_asked_in_place_of_a_question(cli, chat, model_and_estimator, picture):
    options = (*model_and_estimator, "--detectors", "none", "--temperature", "0", "--json")
    asked = events(cli("stream", "--messages", chat(), *options))
    alone = events(cli("stream", picture, "how many red in row 1 to row 3?", *options))
    assert asked[0]["question"] == alone[0]["question"] == "how many red in row 1 to row 3?"
    assert asked[-1]["event"] == "end"
    first, of_alone = (next(line for line in lines if line["event"] == "step") for lines in (asked, alone))
    assert first["effects"] != of_alone["effects"]  # it has seen the turns before


def test_a_chat_that_is_no_good_is_one_line(cli, chat, model_and_estimator, tmp_path):
    def ask(path):
        return cli("stream", "--messages", path, *model_and_estimator, "--detectors", "none")

    ask(tmp_path / "none.json").assert_one_line_error("none.json cannot be read")
    ask(tmp_path).assert_one_line_error("cannot be read", "folder")
    ask(chat([{"type": "video", "video": "a.mp4"}])).assert_one_line_error("turn 3", "type text or image")
    url = {"type": "image_url", "image_url": {"url": "a.png"}}
    (tmp_path / "chat.json").write_text(json.dumps([{"role": "user", "content": [url]}]))
    ask(tmp_path / "chat.json").assert_one_line_error('{"type": "image", "image": "PATH"}', "got an image_url")
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": [{"type": "image", "image": "no.png"}]}]')
    ask(tmp_path / "chat.json").assert_one_line_error("no.png does not exist")
    for text in ("{}", "[", '[{"role": "user", "role": "user"}]', "[" * 100_000):
        (tmp_path / "chat.json").write_text(text)
        ask(tmp_path / "chat.json").assert_one_line_error("chat.json", "a list of turns")


@pytest.mark.parametrize("what", [[], ["a.png"], ["a.png", "?", "--messages", "chat.json"]])
def test_a_question_is_asked_in_one_form(cli, what):
    if what:
        result = cli("stream", *what)
        assert (result.code, result.out) == (2, "")
        result.assert_one_line_error("IMAGE and QUESTION, or with --messages", "See trajkit stream --help")
    else:
        assert "Usage: trajkit stream" in cli("stream").out


def test_how_tokens_are_drawn_is_passed_on(cli, picture, model_and_estimator):
    def steps(*options: str) -> list[str]:
        common = (*model_and_estimator, "--detectors", "none", "--json", "--seed", "4", "--temperature", "3")
        result = cli("stream", picture, "sort row 2 down.", *common, *options)
        assert result.code == 0, result.err
        return [line["text"] for line in events(result) if line["event"] == "step"]

    greedy = cli(
        "stream", picture, "sort row 2 down.", *model_and_estimator, "--detectors", "none", "--temperature", "0"
    )
    alone = steps("--top-k", "1")
    assert all(text in greedy.out for text in alone)
    assert steps("--top-p", "0.0001") == alone
    assert steps() != alone
    stopped = steps("--top-k", "1", "--stop", "col 3 is", "--stop", "nothing of the kind")
    assert stopped == [*alone[:2], alone[2][: alone[2].index("is") + 2]]


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--top-p", "1.5", "top-p"),
        ("--top-p", "-1", "top-p"),
        ("--top-p", "nan", "top-p"),
        ("--top-k", "-1", "top-k"),
        ("--stop", "", "stop_strings"),
    ],
)
def test_a_draw_that_makes_no_sense_is_refused(cli, picture, model_and_estimator, option, value, word):
    result = cli("stream", picture, "sort row 2 down.", *model_and_estimator, "--detectors", "none", option, value)
    result.assert_one_line_error(word)


@pytest.fixture
def alarmed(cli, picture, model_and_estimator, monkeypatch):
    """`trajkit stream OPTIONS` under a monitor that alarms at the first step, and knows success by the second."""
    shipped = load_detectors(paths.DETECTORS)
    found = replace(
        shipped, monitor=replace(shipped.monitor, threshold=0.0), enough=replace(shipped.enough, threshold=0.0)
    )
    monkeypatch.setattr("trajkit.cli.loading.load_detectors_for", lambda folder, vlm: found)
    return lambda *options: cli("stream", picture, "sort row 2 up.", *model_and_estimator, *options)


def events(result) -> list[dict]:
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_policy_that_stops_the_run_is_told_and_is_exit_code_3(alarmed):
    plain = alarmed("--policy", "stop")
    assert plain.code == 3
    assert re.search(r"^POLICY: stopped: the monitor alarmed after step 1 \(0\.\d\d is above 0\.00\)$", plain.out, re.M)
    assert plain.out.splitlines()[-1].endswith("alarm raised · stopped by its policy")
    told = alarmed("--policy", "stop", "--json")
    assert told.code == 3
    kinds = [line["event"] for line in events(told)]
    assert kinds[:3] == ["start", "step", "decision"]
    assert kinds[-1] == "end"
    assert set(kinds[3:-1]) <= {"step"}  # those that were written before it could be stopped
    end = events(told)[-1]
    assert (end["answered"], end["stopped"]) == (False, True)
    assert end["n_steps"] == kinds.count("step")
    assert end["n_tokens"] >= max(line.get("token_end", 0) for line in events(told))


def test_a_policy_that_has_the_model_answer_ends_well(alarmed):
    for options, action in ((("--policy", "answer-now"), "answer now"), (("--policy", "stop"), "stop")):
        result = alarmed(*options, "--json")
        decided = [line["action"] for line in events(result) if line["event"] == "decision"]
        assert decided == [action]
        assert events(result)[-1]["answered"] == (action == "answer now")
        assert result.code == (0 if action == "answer now" else 3)


def test_asking_again_shows_each_try_from_its_beginning(alarmed):
    plain = alarmed("--policy", "ask-again", "--tries", "2")
    assert plain.code == 0
    lines = plain.out.splitlines()
    assert [line for line in lines if line.startswith("try ")] == ["try 2", "try 3"]
    decided = [line.split(":")[1].strip() for line in lines if line.startswith("POLICY")]
    assert decided == ["has another try", "has another try", "goes on"]
    assert sum(line.startswith("1: ") for line in lines) == 3
    attempts = [line["attempt"] for line in events(alarmed("--policy", "ask-again", "--json")) if "attempt" in line]
    assert sorted(set(attempts)) == [0, 1]
    assert attempts == sorted(attempts)


def test_to_flag_says_no_more_than_the_alarm(alarmed):
    plain = alarmed("--policy", "flag")
    assert (plain.code, plain.out.count("ALARM"), plain.out.count("POLICY")) == (0, 1, 0)


def test_enough_ends_the_thinking_where_no_alarm_was(alarmed, monkeypatch):
    from trajkit.cli import loading

    found = loading.load_detectors_for(None, None)
    monkeypatch.setattr(
        "trajkit.cli.loading.load_detectors_for",
        lambda folder, vlm: replace(found, monitor=replace(found.monitor, threshold=2.0)),
    )
    result = alarmed("--enough", "--json")
    (decision,) = (line for line in events(result) if line["event"] == "decision")
    assert decision["action"] == "enough"
    assert (result.code, events(result)[-1]["answered"]) == (0, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policy", "panic"], ["--policy must be one of flag, stop, answer-now, ask-again", "'panic'"]),
        (["--tries", "2"], ["--tries, --from and --hint", "ask-again"]),
        (["--policy", "stop", "--hint", "look again"], ["ask-again"]),
        (["--policy", "ask-again", "--from", "there"], ["--from must be one of anew, last-good-step"]),
        (["--policy", "stop", "--detectors", "none"], ["--policy stop needs a monitor", "--detectors"]),
        (["--enough", "--detectors", "none"], ["--enough needs detectors with a monitor of success"]),
    ],
)
def test_a_policy_that_makes_no_sense_is_one_line(cli, picture, model_and_estimator, options, words):
    cli("stream", picture, "?", *model_and_estimator, *options).assert_one_line_error(*words)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_loses_no_step_that_was_told_and_the_end_is_written(alarmed, monkeypatch, number, code):
    from trajkit.events import JsonLines

    write = JsonLines.write
    told = []

    def stop_at_the_second_step(self, record, *about):
        write(self, record, *about)
        told.append(record)
        if len(told) == 4:
            signal.raise_signal(number)

    monkeypatch.setattr(JsonLines, "write", stop_at_the_second_step)
    result = alarmed("--policy", "flag", "--json")
    assert (result.code, result.err) == (code, "trajkit: stopped.\n")
    kinds = [line["event"] for line in events(result)]
    assert kinds[:4] == ["start", "step", "decision", "step"]
    assert kinds.count("end") == 1
    end = events(result)[-1]
    assert (end["event"], end["stopped"]) == ("end", True)
    assert end["n_steps"] == kinds.count("step")


def test_a_run_that_fails_says_so_on_a_line_before_its_end(cli, flawed_model, picture, model_and_estimator, tmp_path):
    import trajkit as tk
    from trajkit.attribution.linear import LinearEstimator

    vlm = tk.load_vlm(flawed_model)
    own = LinearEstimator.load(model_and_estimator[-1])
    LinearEstimator(own.arrays, replace(own.binding, fingerprint=vlm.fingerprint, model=vlm.name)).save(tmp_path)
    options = ("--model", flawed_model, "--estimator", tmp_path, "--detectors", "none", "--json")
    result = cli("stream", picture, "what is 18 plus 1?", *options)
    kinds = [line["event"] for line in events(result)]
    assert (kinds[0], kinds[-2:]) == ("start", ["error", "end"])
    assert result.code == 1
    assert events(result)[-2]["message"] in result.err
    assert events(result)[-1]["stopped"] is True


def test_what_was_finished_when_a_signal_came_is_told_before_it_goes_on():
    class Running(Iterator):
        """A stream whose second step is interrupted while it is waited for, and whose third is finished by then."""

        prompt = SimpleNamespace(length=10)

        def __init__(self):
            self.left, self.closed = [1, KeyboardInterrupt(), 2, 3], False

        def __next__(self):
            if not self.left:
                raise StopIteration
            item = self.left.pop(0)
            if isinstance(item, KeyboardInterrupt):
                raise item
            return item

        def close(self):
            self.closed = True

    running, told, steps = Running(), [], []
    with pytest.raises(KeyboardInterrupt):
        tell_steps(running, told.append, steps)  # type: ignore[arg-type]
    assert told == steps == [1, 2, 3]
    assert running.closed


def test_a_page_beside_the_run_shows_it_and_stays_until_it_is_told_to_go(picture, model_and_estimator):
    command = [
        sys.executable,
        "-m",
        "trajkit",
        "stream",
        str(picture),
        "how many red in row 1 to row 3?",
        *model_and_estimator,
    ]
    process = subprocess.Popen(
        [*command, "--detectors", "none", "--temperature", "0", "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr.readline, "")  # a slow machine says more
        address = next(line.split()[-1] for line in lines if line.startswith("this run at http://127.0.0.1:"))
        deadline = time.monotonic() + 30
        while not (runs := httpx.get(f"{address}/api/runs").json()["runs"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        events = events_of(address, runs[0]["id"])
        assert any(line == "the run is over, and its page stays until Ctrl-C\n" for line in lines)
        assert httpx.get(address).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "trajkit: stopped."
    assert "Traceback" not in err
    told = [event for _, event in events]
    assert [told[0]["event"], told[-1]["event"]] == ["start", "end"]
    shown = [line.split(" | ")[0] for line in out.splitlines() if " | concentration" in line]
    steps = [event for event in told if event["event"] == "step"]
    assert [line.split(": ", 1)[1] for line in shown] == [" ".join(step["text"].split()) for step in steps]


def test_a_port_needs_a_page(cli):
    result = cli("stream", "data/demo/example.png", "sort row 2 down.", "--port", "9000")
    assert result.code == 2
    assert "ask for it with --serve" in result.err
