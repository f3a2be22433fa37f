"""What trajkit tells a program: the lines, their fields, and the writer."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import threading
import time
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajkit
from trajkit.attribution.stream import LiveStep
from trajkit.detection.monitor import Verdict
from trajkit.detection.policies import Decision
from trajkit.errors import InputError, WriteError
from trajkit.events import Failure, StreamEnd, StreamStart, WatchEnd, WatchStart, as_line, json_lines

GOLDEN = Path(__file__).parent / "golden" / "events.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "events.md"
VERDICT = Verdict(step=2, risk=0.75, max_risk=0.75, threshold=0.5, alarm=True)
STEP = LiveStep(
    text="Row 2 reads 3 \x1b[31mé .",
    kind="thinking",
    token_start=9,
    token_end=17,
    logprob=-0.25,
    entropy=0.5,
    seconds=0.125,
    risk=0.75,
    alarm=True,
    index=1,
    delay=0.0625,
    effects=np.array([0.5, -1.25], np.float32),
    half_width=np.array([0.25, 0.5], np.float32),
    verdict=VERDICT,
)
DECISION = Decision(2, "stop", "the monitor alarmed after step 2 (0.75 is above 0.50)", VERDICT)
REGIONS = [{"box": [0, 0, 4, 2], "area": 0.5}, {"box": [0, 2, 4, 4], "area": 0.5}]
TOLD = {
    "stream start": StreamStart(
        question="sort row 2 down.",
        model="data/demo/model",
        fingerprint="f00",
        height=4,
        width=4,
        region_method="vision",
        regions=REGIONS,
    ),
    "step": STEP,
    "decision": DECISION,
    "stream end": StreamEnd(answered=False, stopped=True, n_steps=2, n_tokens=17, n_regions=2, model="data/demo/model"),
    "watch start": WatchStart(threshold=0.5, alpha=0.1, watches="failure"),
    "verdict": VERDICT,
    "watch end": WatchEnd(
        closed=True, n_steps=2, n_tokens=17, max_risk=0.75, threshold=0.5, alarmed=True, alarm_step=2, drift_p=0.5
    ),
    "error": Failure(message="the line must be a JSON object; got 3.", line=4),
}
"""Every kind of line, in the order of the golden file: those of a stream, those of a watch."""


@pytest.mark.parametrize("name", TOLD)
def test_a_line_is_what_it_was(name):
    golden = dict(zip(TOLD, GOLDEN.read_text(encoding="utf-8").splitlines(), strict=True))
    assert as_line(TOLD[name], run="a") == golden[name]


def sections() -> dict[str, str]:
    """The page's parts about one line each, by the first word of their heading and who writes it."""
    parts = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {part.splitlines()[0]: part for part in parts}


HEADINGS = {
    "stream start": "`start` of a stream",
    "step": "`step`",
    "decision": "`decision`",
    "stream end": "`end` of a stream",
    "watch start": "`start` of a watch",
    "verdict": "`verdict`",
    "watch end": "`end` of a watch",
    "error": "`error`",
}


@pytest.mark.parametrize("name", TOLD)
def test_the_page_names_every_field_and_no_other(name):
    named = re.findall(r"^\| `(\w+)` \|", sections()[HEADINGS[name]], re.M)
    assert named == list(TOLD[name].to_dict())


@pytest.mark.parametrize("record", [StreamStart, StreamEnd, WatchStart, WatchEnd, Failure])
def test_the_page_says_of_each_field_what_the_record_says(record):
    tree = ast.parse(Path(trajkit.__file__).with_name("events.py").read_text(encoding="utf-8"))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == record.__name__)
    page = PAGE.read_text(encoding="utf-8")
    said = 0
    for field, sentence in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(sentence, ast.Expr):
            text = " ".join(ast.literal_eval(sentence.value).split())
            assert f"| `{field.target.id}` | {text} |" in page
            said += 1
    assert said == len(fields(record))


def test_a_line_is_ascii_on_one_line_and_standard_json_whatever_a_model_says():
    odd = replace(STEP, text="a\nb\u2028\ud800\x1b]0;", entropy=math.nan, logprob=-math.inf)
    line = as_line(odd, run="r\n\u202e")
    assert line.isascii()
    assert line.isprintable()
    back = json.loads(line, parse_constant=pytest.fail)
    assert (back["text"], back["run"]) == (odd.text, "r\n\u202e")
    assert back["entropy"] is back["logprob"] is None


def test_what_cannot_be_told_is_refused():
    class Point:
        def to_dict(self) -> dict[str, Any]:
            return {}

    with pytest.raises(InputError, match="writes steps, verdicts and decisions; got a Point"):
        as_line(Point())


def test_a_path_is_appended_to_and_an_open_file_stays_open(tmp_path):
    path = tmp_path / "steps.jsonl"
    for run in ("a", "b"):
        with json_lines(path, run=run) as tell:
            tell(STEP)
            assert path.read_bytes().endswith(b"}\n")  # before it is closed
    assert [json.loads(line)["run"] for line in path.read_text().splitlines()] == ["a", "b"]
    file = io.StringIO()
    with json_lines(file) as tell:
        tell(VERDICT)
    assert "run" not in json.loads(file.getvalue())


def test_a_decision_follows_its_step_and_names_its_row():
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Decided(LiveStep):
        decision: Decision
        row: int

    file = io.StringIO()
    parts = {name: getattr(STEP, name) for name in LiveStep.__dataclass_fields__ if name not in ("decision", "row")}
    json_lines(file)(Decided(**parts, decision=DECISION, row=3))
    step, decision = map(json.loads, file.getvalue().splitlines())
    assert (step["event"], decision["event"]) == ("step", "decision")
    assert (decision["row"], decision["action"]) == (3, "stop")


def test_lines_of_threads_and_processes_are_whole(tmp_path):
    path = tmp_path / "steps.jsonl"
    long = replace(STEP, text="x" * 5000)

    def tell() -> None:
        with json_lines(path) as lines:
            for _ in range(50):
                lines(long)

    child = os.fork()
    if child == 0:
        tell()
        os._exit(0)
    shared = json_lines(path)
    threads = [threading.Thread(target=lambda: [shared(long) for _ in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    lines = path.read_text().splitlines()
    assert len(lines) == 200
    assert {len(json.loads(line)["text"]) for line in lines} == {5000}


def test_threads_take_turns_at_a_file_that_writes_bit_by_bit():
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            for part in (text[:9], text[9:]):
                time.sleep(0.001)
                super().write(part)
            return len(text)

    file = Slow()
    tell = json_lines(file)
    threads = [threading.Thread(target=tell, args=(VERDICT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [json.loads(line)["step"] for line in file.getvalue().splitlines()] == [2] * 8


def test_a_file_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(WriteError, match="cannot be written: No such file"):
        json_lines(tmp_path / "nowhere" / "steps.jsonl")
    for name in (1.5, True, "x" * 201):
        with pytest.raises(InputError, match='"run" must be a text of at most 200 characters or a whole number'):
            json_lines(tmp_path / "steps.jsonl", run=name)
    assert not (tmp_path / "steps.jsonl").exists()
    if Path("/dev/full").exists():
        with pytest.raises(WriteError, match="/dev/full cannot be written: No space"):
            json_lines("/dev/full")(VERDICT)
