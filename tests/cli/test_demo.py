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

from tests.demo.judged_runs import judged_run
from tests.demo.test_retelling import COUNT, counting
from trajkit.cli.demo_runs import Rates, show_run, show_runs
from trajkit.demo import paths
from trajkit.demo.endings import SOUGHT, endings
from trajkit.demo.items import demo_items
from trajkit.detection.monitor import Monitor
from trajkit.detection.store import load_detectors
from trajkit.tables.estimate import Estimate


def test_demo_shows_runs_with_their_truth_then_the_monitor_and_writes_the_report(cli, tmp_path):
    result = cli("demo", "--runs", "2", "--most", "0", "--seed", "5", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for item in demo_items("test", 2, 5):  # the first two scenes of the seed, none left out
        assert f"question: {item.question}" in result.out
        assert f"truth: {item.target}  →  " in result.out
    said = " ".join(result.out.split())
    assert "The first 2 are shown, whatever comes of them." in said
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
    chosen = "Held-out scenes of seed 5: the first 2 runs, and of the first 2 the first run of each ending."
    assert f"2 runs. {chosen} {before.strip()}" in page
    runs = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.S)[1])["runs"]
    assert [run["id"] for run in runs[:2]] == [item.id for item in demo_items("test", 2, 5)]
    assert all(step["risk"] is not None for run in runs[:2] for step in run["steps"] if step["kind"] == "thinking")


def shown_lines(least, seed, most=0, rates=None, width=200):
    """What `show_runs` prints, line by line, and the traces that it returns."""
    console = Console(file=io.StringIO(), width=width)
    traces = show_runs(console, least, seed, most, rates).traces
    return list(filter(None, console.file.getvalue().splitlines())), traces  # type: ignore[attr-defined]


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
    lines, _ = shown_lines(3, 7)
    truths = [line for line in lines if line.startswith("truth: ")]
    right = sum("→  right" in line for line in truths)
    assert 0 < right < 3
    for line in truths:
        assert ("false alarm" in line) == ("→  right" in line and threshold < 1)
        assert ("missed" in line) == ("→  right" not in line and threshold > 1)
        assert ("caught" in line) == ("→  right" not in line and threshold < 1)
    alarms = "3 alarms" if threshold < 1 else "0 alarms"
    false, missed = (right, 0) if threshold < 1 else (0, 3 - right)
    assert lines[-1] == f"3 runs: {right} right, {3 - right} wrong; {alarms}, {false} false; {missed} missed."


def test_scenes_are_gone_through_for_the_first_of_each_ending_and_the_rest_is_one_line_each(monkeypatch):
    with_threshold(monkeypatch, 0.5)
    lines, traces = shown_lines(0, 5, 12, RATES)
    text = "\n".join(lines)
    assert text.index("of failing runs it alarms 28 % (23–33 %)") < text.index("question: ")
    gone = int(re.match(r"(\d+) runs", lines[-1])[1])
    titles = re.findall(r"^== scene (\d+)(?: · (.*))?$", text, re.M)
    shown = [int(number) for number, _ in titles]
    passed = [
        n
        for first, last, said in re.findall(r"^scenes? (\d+)(?: to (\d+))?: (.*)", text, re.M)
        for n in range(int(first), int(last or first) + 1)
        if sum(map(int, re.findall(r"(\d+) (?:right|wrong)", said))) == int(last or first) - int(first) + 1
    ]
    assert sorted(shown + passed) == list(range(1, gone + 1))
    found = [endings(trace) for trace in traces]
    assert [set(filter(None, said.split(" · "))) for _, said in titles] == [set(each) for each in found]
    for i, each in enumerate(found):
        assert each - frozenset().union(*found[:i])  # an ending that was not shown before
    come = frozenset().union(*found)
    assert come >= SOUGHT or gone == 12
    assert all((ending in lines[-1]) == (ending not in come) for ending in SOUGHT)
    truths = [line for line in lines if line.startswith("truth: ")]
    for number, line, trace in zip(shown, truths, traces, strict=True):
        item = list(demo_items("test", number, 5))[-1]
        assert (trace.transcript_id, trace.question, trace.target) == (item.id, item.question, item.target)
        assert trace.group_id == item.group_id
        assert trace.meta["cells"] == item.meta["cells"]
        alarmed = any(step.alarm for step in trace.steps)
        assert ("caught, as 28 % (23–33 %) of failing runs are" in line) == (alarmed and not trace.success)
        assert ("missed, as 72 % (67–77 %) of failing runs are" in line) == (not alarmed and not trace.success)
        assert ("false alarm, as on 8.4 % (6.1–11.2 %) of good runs" in line) == (alarmed and trace.success)


RATES = Rates(Estimate(0.28, 0.23, 0.33), Estimate(0.084, 0.061, 0.112), 1248, 208, 0.1)
MISLED = counting({(1, 2): ("blue", 0)})


@pytest.mark.parametrize(
    ("answer", "alarm", "title", "truth"),
    [
        (
            MISLED[1],
            None,
            "hallucinated with confidence · missed",
            "(went wrong at step 12) · missed, as 72 % (67–77 %)",
        ),
        (
            MISLED[1],
            14,
            "hallucinated with confidence",
            "(went wrong at step 12, alarmed 3 steps later) · caught, as 28 % (23–33 %)",
        ),
        (MISLED[1], 11, "hallucinated with confidence", "(went wrong at step 12, alarmed there) · caught"),
        (MISLED[1], 10, "hallucinated with confidence", "(went wrong at step 12, alarmed 1 step before) · caught"),
        ("6", 14, "false alarm", "right · false alarm, as on 8.4 % (6.1–11.2 %) of good runs"),
    ],
)
def test_a_run_is_headed_by_its_endings_and_followed_by_the_truth_and_how_usual_it_is(answer, alarm, title, truth):
    console = Console(file=io.StringIO(), width=200)
    show_run(console, judged_run(COUNT, MISLED[0], answer, alarm), 7, RATES, Monitor(None, 0.6, 0.1, 9, 0.0, 1.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[0] == f"== scene 7 · {title}"
    assert "truth: 6  →  " in text
    assert truth in text


def test_where_what_is_sought_does_not_come_the_end_says_so(monkeypatch):
    with_threshold(monkeypatch, 2.0)
    lines, _ = shown_lines(0, 5, 2)
    assert lines[-1].startswith("2 runs: ")
    assert "; not found: lost and caught" in lines[-1]


def test_demo_without_its_data_says_what_to_restore(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    cli("demo").assert_one_line_error("the demo's model is not in", "data/demo")


def test_readme_picture_needs_no_external_font_and_draws_pictures_as_rectangles(tmp_path):
    from analyses.readme_picture import main

    main(["--out", str(tmp_path / "picture.svg"), "--ending", "any", "--width", "80"])
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    assert "▀" not in text
    assert "crispEdges" in text
    assert "thinking" not in text  # the spinner
