"""What a finished run of the demo looks like in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tests.demo.judged_runs import THRESHOLD, judged_run
from tests.demo.test_retelling import COUNT, counting
from trajkit.cli.retold import RetoldRun
from trajkit.detection.monitor import Monitor

MISLED = counting({(1, 2): ("blue", 0)})


WATCHER = Monitor(None, THRESHOLD, 0.1, 100, 0.0, 1.0)


def shown(run, width=80, terminal=True, monitor=WATCHER):
    on = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
        highlight=False,
        _environ={"TERM": "xterm-256color"},
    )
    RetoldRun(on, run, monitor).show("science")
    return on.file.getvalue()


def visible(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_of_many_sentences_is_a_page_and_no_line_is_too_wide(width):
    text = visible(shown(judged_run(COUNT, *MISLED, alarm=16), width))
    lines = text.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= width
    for part in (
        COUNT,
        "23 sentences · 36 regions · science",
        "… 9 sentences, on course",
        "12 ✗ row 2 col 3 is blue 0.  it is red 0",
        "▲ ALARM at step 17: risk 0.80 > 0.60; at most 10 % of good runs get there",
        "answer: 5",
    ):
        assert part in text


def test_the_risk_is_a_character_a_sentence_with_its_marks_below():
    lines = visible(shown(judged_run(COUNT, *MISLED, alarm=16))).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("risk  "))
    assert lines[at] == "risk  " + "▁" * 16 + "▇" * 7
    assert lines[at + 1].index("✗ failed here") == 6 + 11
    assert lines[at + 2].index("▲ alarm") == 6 + 16


def test_the_risk_of_more_sentences_than_fit_is_the_highest_of_several():
    said = MISLED[0] * 8
    lines = visible(shown(judged_run(COUNT, said, "5", alarm=len(said) - 1))).splitlines()
    line = next(line for line in lines if line.startswith("risk  "))
    assert len(line) == 6 + -(-len(said) // 3) <= 80
    assert line.endswith("▁▇")


def test_the_scene_shows_what_is_true_and_marks_what_was_misread():
    text = visible(shown(judged_run(COUNT, *MISLED)))
    assert re.search(r"1 ░4░ 2  1  9     3 ", text)  # the first cell of each row is hard in turn
    assert re.search(r"2  5 ░6░\[0\] 2  2  1 ", text)
    assert "what sentence 12 rests on" in text
    assert "[" not in visible(shown(judged_run(COUNT, *counting()))).replace("[ ] failed by", "")


def test_where_a_sentence_looks_is_green_only_when_it_names_that_cell():
    run = judged_run(COUNT, *MISLED)
    elsewhere = replace(run, effects=np.roll(run.effects, 1, axis=1))
    assert re.search(r"\x1b\[32mrow 2 col 3\x1b", shown(run))
    assert re.search(r"\x1b\[33mrow 2 col 4\x1b", shown(elsewhere))
    assert "no region" in visible(shown(replace(run, effects=run.effects * 0)))


def test_of_a_region_over_several_cells_the_one_is_said_that_the_sentence_names():
    run = judged_run(COUNT, *MISLED)
    above, named = 2, 8  # row 1 col 3, row 2 col 3
    merged = np.where(run.regions == named, above, run.regions)
    merged -= merged > named
    effects = np.delete(run.effects, named, axis=1)
    effects[:, above] += run.effects[:, named]
    text = visible(shown(replace(run, regions=merged, effects=effects)))
    assert re.search(r"12 ✗ row 2 col 3 is blue 0\..* row 2 col 3 \+5\.0", text)


@pytest.mark.parametrize(("width", "terminal"), [(40, False), (200, False), (70, True)])
def test_without_a_wide_terminal_a_sentence_is_a_plain_line_and_so_is_a_stretch(width, terminal):
    text = shown(judged_run(COUNT, *MISLED, alarm=16), width, terminal)
    assert "\x1b" not in text
    assert text.splitlines() == [
        f"question: {COUNT} (23 sentences · 36 regions · science)",
        "1: row 1 col 1 is red 4. | probability 0.95 | rests on row 1 col 1 +5.00 nats | risk 0.10",
        "… 9 sentences, on course",
        "11: that makes 3 red. | probability 0.95 | rests on no region | risk 0.10",
        "12: row 2 col 3 is blue 0. | misread, it is red 0 | probability 0.95 | rests on row 2 col 3 +5.00 nats"
        " | risk 0.10",
        "13: row 2 col 4 is blue 2. | probability 0.95 | rests on row 2 col 4 +5.00 nats | risk 0.10",
        "… 2 sentences, off course",
        "16: row 3 col 1 is empty. | probability 0.95 | rests on row 3 col 1 +5.00 nats | risk 0.10",
        "17: row 3 col 2 is blue 7. | probability 0.95 | rests on row 3 col 2 +5.00 nats | risk 0.80",
        "ALARM at step 17: risk 0.80 > 0.60; at most 10 % of good runs get there",
        "… 5 sentences, off course",
        "23: that makes 5 red. | probability 0.95 | rests on no region | risk 0.80",
        "answer: 5",
    ]


def test_a_run_that_nothing_watched_has_no_risk_and_one_that_never_answered_says_so():
    run = judged_run(COUNT, MISLED[0], None)
    run = replace(run, steps=tuple(replace(step, risk=None, alarm=None) for step in run.steps))
    for terminal in (True, False):
        text = visible(shown(run, terminal=terminal, monitor=None))
        assert "risk 0" not in text
        assert "▁" not in text
        assert "answer: none" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_model_text_can_neither_colour_nor_move_nor_mark_up(terminal):
    said = ["[red]x[/red] \x1b[2J\x1b]0;title\x07", *MISLED[0]]
    text = shown(judged_run(COUNT, said, "\x1b[2J5"), terminal=terminal)
    assert "[red]x[/red]" in visible(text)
    assert not re.search(r"\x1b\[2J|\x1b\]|\x07", text)
