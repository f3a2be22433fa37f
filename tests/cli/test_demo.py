"""`trajkit demo`, on what is shipped."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from trajkit.cli.demo_runs import Rates, show_runs
from trajkit.demo import paths
from trajkit.demo.endings import ending
from trajkit.demo.runs import demo_items
from trajkit.detection.store import load_detectors
from trajkit.tables.estimate import Estimate


def test_demo_shows_runs_with_their_truth_then_the_monitor_and_writes_the_report(cli, tmp_path):
    result = cli("demo", "--runs", "2", "--most", "0", "--seed", "5", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for item in demo_items("test", 2, 5):  # the first two scenes of the seed, none left out
        assert f"question: {item.question}" in result.out
        assert f"truth: {item.target}  →  " in result.out
    said = " ".join(result.out.split())
    assert "difficulty drawn evenly from 0.45 to 1" in said
    assert "The first 2 are shown as they come, whatever they show." in said
    assert "After that" not in said
    assert "scenes of digits that nothing has seen" in said
    before, after = said.split("Held-out scenes", 1)  # the rates before the runs are those of the tables after them
    caught, good = re.findall(r"alarms (\S+ % \(\S+ %\))", before)
    assert caught in after.split("Failing runs that were alarmed")[1]
    assert good in after.split("False alarms on successful runs")[1].split("Failing runs")[0]
    assert "False alarms on successful runs" in result.out
    assert "risk 0." in result.out
    assert result.out.rstrip().endswith(str(tmp_path / "out" / "index.html"))
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    chosen = "Held-out scenes of seed 5: the first 2, and of the first 2 the first run of each ending."
    assert f"2 runs. {chosen} {before.strip()}" in page
    runs = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.S)[1])["runs"]
    assert [run["id"] for run in runs[:2]] == [item.id for item in demo_items("test", 2, 5)]
    assert all(step["risk"] is not None for run in runs[:2] for step in run["steps"] if step["kind"] == "thinking")


def shown_lines(least, seed, most=0, rates=None, width=200):
    """What `show_runs` prints, line by line, and the traces that it returns."""
    console = Console(file=io.StringIO(), width=width)
    traces = show_runs(console, least, seed, most, rates).traces
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line for line in lines if line and "tokens in" not in line], traces


def test_the_same_seed_gives_the_same_runs():
    first, again = shown_lines(1, 7, 3)[0], shown_lines(1, 7, 3)[0]
    assert first == again


def with_threshold(monkeypatch, threshold):
    shipped = load_detectors(paths.DETECTORS)
    always = SimpleNamespace(monitor=replace(shipped.monitor, threshold=threshold))
    monkeypatch.setattr("trajkit.cli.loading.load_detectors_for", lambda folder, vlm: always)


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_a_run_that_the_monitor_misjudged_says_so_and_the_end_counts_them(threshold, monkeypatch, model_and_estimator):
    """A monitor that alarms on every run, and one that alarms on none."""
    with_threshold(monkeypatch, threshold)
    monkeypatch.setattr(paths, "ESTIMATOR", Path(model_and_estimator[-1]))
    lines, _ = shown_lines(6, 5)
    truths = [line for line in lines if line.startswith("truth: ")]
    right = sum("→  right" in line for line in truths)
    assert 0 < right < 6
    for line in truths:
        assert ("false alarm" in line) == ("→  right" in line and threshold < 1)
        assert ("missed" in line) == ("→  right" not in line and threshold > 1)
        assert ("caught" in line) == ("→  right" not in line and threshold < 1)
    alarms = "6 alarms" if threshold < 1 else "0 alarms"
    false, missed = (right, 0) if threshold < 1 else (0, 6 - right)
    assert lines[-1] == f"6 runs: {right} right, {6 - right} wrong; {alarms}, {false} false; {missed} missed."


def test_scenes_are_gone_through_for_the_first_of_each_ending_and_the_rest_is_one_line_each(monkeypatch):
    rates = Rates(Estimate(0.28, 0.23, 0.33), Estimate(0.084, 0.061, 0.112), 1248, 208)
    with_threshold(monkeypatch, 0.5)
    lines, traces = shown_lines(1, 5, 12, rates)
    text = "\n".join(lines)
    assert text.index("of failing runs it alarms 28 % (23–33 %)") < text.index("question: ")
    gone = int(re.match(r"(\d+) runs", lines[-1])[1])
    shown = [int(n) for n in re.findall(r"^question: .*\(\d+ regions · scene (\d+) ", text, re.M)]
    passed = [
        n
        for first, last, said in re.findall(r"^scenes? (\d+)(?: to (\d+))?: (.*)", text, re.M)
        for n in range(int(first), int(last or first) + 1)
        if sum(map(int, re.findall(r"(\d+) (?:right|wrong)", said))) == int(last or first) - int(first) + 1
    ]
    assert sorted(shown + passed) == list(range(1, gone + 1))
    assert shown[0] == 1
    truths = [line for line in lines if line.startswith("truth: ")]
    assert len(truths) == len(shown) == len(traces)
    endings = [ending(trace.success, any(step.alarm for step in trace.steps)) for trace in traces]
    assert len(set(endings)) == len(endings)
    assert {"caught", "missed"} <= set(endings) or gone == 12
    for line, trace, what in zip(truths, traces, endings, strict=True):
        item = list(demo_items("test", shown[endings.index(what)], 5))[-1]
        assert (trace.transcript_id, trace.question, trace.target) == (item.id, item.question, item.target)
        assert trace.group_id == item.group_id
        assert trace.meta["cells"] == item.meta["cells"]
        assert ("caught, as 28 % (23–33 %) of failing runs are" in line) == (what == "caught")
        assert ("missed, as 72 % (67–77 %) of failing runs are" in line) == (what == "missed")
        assert ("false alarm, as on 8.4 % (6.1–11.2 %) of good runs" in line) == (what == "false alarm")


def test_where_what_is_sought_does_not_come_the_end_says_so(monkeypatch):
    with_threshold(monkeypatch, 2.0)
    lines, _ = shown_lines(1, 5, 2)
    assert lines[-1].startswith("2 runs: ")
    assert "; none was caught" in lines[-1]


def test_demo_without_its_data_says_what_to_restore(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    cli("demo").assert_one_line_error("the demo's model is not in", "data/demo")


def test_readme_picture_needs_no_external_font_and_draws_pictures_as_rectangles(tmp_path):
    from analyses.readme_picture import main

    main(["--out", str(tmp_path / "picture.svg"), "--width", "80"])
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    assert "▀" not in text
    assert "crispEdges" in text
    assert "thinking" not in text  # the spinner
