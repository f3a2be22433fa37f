"""What a run looks like in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from rich.style import Style

from trajkit.attribution.regions import Regions
from trajkit.attribution.stream import LiveStep
from trajkit.cli.output import one_line
from trajkit.cli.terminal import HeatMap, RunView, bar, half_blocks
from trajkit.detection.monitor import Verdict
from trajkit.detection.policies import Decision
from trajkit.tables import Estimate, Table
from trajkit.tables.render import show as show_table
from trajkit.tables.words import share
from trajkit.text import clean

REGIONS = Regions(np.kron(np.arange(4).reshape(2, 2), np.ones((8, 8), int)), 4)
GREY = Image.new("RGB", (16, 16), (128, 128, 128))
STEP = LiveStep(
    "row 1 col 1 is red 7.",
    "thinking",
    0,
    8,
    -0.1,
    0.2,
    index=0,
    effects=np.array([2, -1, 0, 0], np.float32),
    verdict=Verdict(1, 0.2, 0.2, 0.6, False),
)


class Watcher:
    threshold, alpha, can_alarm, message = 0.6, 0.1, True, "alarms"


def console(width: int = 80, terminal: bool = True, **environment: str) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
        no_color="NO_COLOR" in environment,
        highlight=False,
        _environ={"TERM": "xterm-256color"} | environment,
    )


def show(*steps: LiveStep, on: Console) -> str:
    view = RunView(on, Watcher())  # type: ignore[arg-type]
    view.start(GREY, REGIONS, "how many red in row 1 to row 3?", intervals=steps[0].half_width is not None)
    for step in steps:
        view.step(step)
    view.end(9, 1.0, True)
    return on.file.getvalue()  # type: ignore[attr-defined]


def visible(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_half_block_holds_the_upper_pixel_in_front_and_the_lower_behind():
    text = half_blocks(np.array([[[1, 2, 3]], [[4, 5, 6]]], np.uint8))
    assert text.plain == "▀"
    style = text.spans[0].style
    assert tuple(style.color.triplet) == (1, 2, 3)
    assert tuple(style.bgcolor.triplet) == (4, 5, 6)


def test_supporting_regions_are_red_opposing_blue_and_the_rest_grey():
    over = HeatMap.of(GREY, REGIONS, 4, 2).over(np.array([2.0, -2.0, 0, 0]), 2.0)
    styles = [span.style for span in over.spans]  # 2 lines of 4 characters
    red, blue, grey = (styles[i].color.triplet for i in (0, 2, 4))
    assert red.red > 2 * red.blue
    assert blue.blue > 2 * blue.red
    assert grey.red == grey.green == grey.blue


def test_sixteen_colours_keep_red_for_support_and_blue_for_opposition():
    on = Console(
        file=io.StringIO(),
        width=80,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        _environ={"TERM": "xterm"},
    )
    for cached in (Style.parse, Style._add):  # rich keeps the codes of a style for the terminal it was first shown on
        cached.cache_clear()  # type: ignore[attr-defined]
    view = RunView(on)
    view.start(GREY, REGIONS, "how many red in row 1 to row 3?")
    legend = on.file.getvalue()  # type: ignore[attr-defined]
    view.step(replace(STEP, effects=np.array([2, -2, 0.8, -0.8], np.float32)))
    heat = on.file.getvalue()[len(legend) :]  # type: ignore[attr-defined]
    assert re.search(r"\x1b\[91m■\x1b\[0m supports", legend)
    assert re.search(r"\x1b\[94m■", legend)
    rows = [re.findall(r"\x1b\[(\d+);(\d+)m▀", line) for line in heat.splitlines()]
    rows = [row for row in rows if row]
    half = len(rows[0]) // 2
    upper, lower = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert {pixel for row in upper for pixel in row[:half]} == {("91", "101")}
    assert {pixel for row in upper for pixel in row[half:]} == {("94", "104")}
    assert {pixel for row in lower for pixel in row[:half]} == {("31", "41")}
    assert {pixel for row in lower for pixel in row[half:]} == {("34", "44")}


def test_sixteen_colours_leave_what_the_step_does_not_rest_on_grey():
    over = HeatMap.of(GREY, REGIONS, 4, 2).over(np.array([2.0, 0.1, 0, 0]), 2.0, sixteen=True)
    assert {tuple(span.style.color.triplet) for span in over.spans[2:]} == {(85, 85, 85)}


@pytest.mark.parametrize("size", [(16, 16), (100, 20), (20, 300)])
def test_a_heat_map_fits_its_box(size):
    labels = np.zeros((size[1], size[0]), int)
    labels[: size[1] // 2] = 1
    heat = HeatMap.of(Image.new("RGB", size), Regions(labels, 2), 12, 6)
    height, width = heat.overlay.grey.shape
    assert height <= 12
    assert height % 2 == 0
    assert width <= 12


def test_a_bar_fills_in_proportion_and_marks_the_threshold():
    assert bar(0.5, 10, "red", 0.8).plain == "━━━━━━━━┃━"
    assert sum(len(s) for s in bar(0.5, 10, "red").split() if s) == 10
    assert bar(float("nan"), 10, "red").plain == "━" * 10
    assert bar(7.0, 10, "red").plain == "━" * 10


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_all_is_there(width):
    long = replace(STEP, text="a very long sentence that goes on and on " * 6)
    text = visible(show(STEP, long, on=console(width)))
    assert max(len(line) for line in text.splitlines()) <= width
    for part in (
        "how many red in row 1 to row 3?",
        "row 1 col 1 is red 7.",
        "concentration",
        "risk",
        "0.20",
        "▀",
        "alarm above risk 0.60",
    ):
        assert part in text


def test_a_map_of_weak_effects_stays_pale():
    """A first step that hardly rests on anything is not painted as if it rested on something."""
    weak = replace(STEP, effects=STEP.effects / 20)
    assert strongest_red(show(weak, on=console())) < strongest_red(show(STEP, on=console())) - 80


def strongest_red(text: str) -> int:
    """How far red exceeds green in the reddest pixel of the heat map, after the legend."""
    pixels = re.findall(r"38;2;(\d+);(\d+);(\d+)", text.split("opposes it")[1])
    return max(int(red) - int(green) for red, green, _ in pixels)


def test_the_strongest_effect_is_the_largest_in_size_also_where_it_opposes_the_step():
    opposed = replace(STEP, effects=np.array([2, -3, 0, 0], np.float32))
    assert "strongest −3.00 nats" in visible(show(opposed, on=console(terminal=False)))


def test_the_strongest_effect_stands_with_its_interval_where_there_is_one():
    sure = replace(STEP, half_width=np.array([0.3, 9, 9, 9], np.float32))
    for on in (console(), console(terminal=False)):
        assert "strongest +2.00 ± 0.30 nats" in visible(show(sure, on=on))
    assert "± about nine in ten effects lie within" in visible(show(sure, on=console()))
    assert "±" not in visible(show(STEP, on=console()))


def test_the_alarm_is_shown_on_the_step_that_raises_it_and_only_there():
    alarm = replace(STEP, index=1, verdict=Verdict(2, 0.7, 0.7, 0.6, True))
    after = replace(STEP, index=2, verdict=Verdict(3, 0.8, 0.8, 0.6, False))
    text = visible(show(STEP, alarm, after, on=console()))
    assert text.count("ALARM at step 2: risk 0.70 > 0.60") == 1
    assert text.count("ALARM") == 1
    assert "alarm raised" in text
    assert "highest risk 0.80 at step 3" in text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("action", "kept", "said"),
    [
        ("stop", 0, "POLICY: stopped: the monitor alarmed after step 2"),
        ("answer now", 0, "POLICY: ends its thinking and answers: the monitor alarmed after step 2"),
        ("enough", 0, "POLICY: ends its thinking and answers: the monitor alarmed after step 2"),
        ("ask again", 0, "POLICY: has another try: the monitor alarmed after step 2"),
        ("ask again", 1, "POLICY: has another try, from step 1 on: the monitor alarmed after step 2"),
        ("flag", 0, None),
    ],
)
def test_what_a_policy_does_is_said_once_behind_the_alarm(action, kept, said, terminal):
    verdict = Verdict(2, 0.7, 0.7, 0.6, True)
    decision = Decision(2, action, "the monitor alarmed after step 2", verdict, keep_steps=kept)
    alarm = replace(STEP, index=1, verdict=verdict, decision=decision)
    text = visible(show(STEP, alarm, replace(STEP, index=2), on=console(terminal=terminal)))
    assert re.findall(r"POLICY.*", text) == ([said] if said else [])
    assert "POLICY" not in text.split("ALARM")[0]


def test_each_try_has_a_heading_and_its_own_highest_risk():
    risky = replace(STEP, verdict=Verdict(1, 0.9, 0.9, 0.95, False))
    text = visible(show(risky, replace(STEP, attempt=1), on=console()))
    assert re.findall(r"^try \d$", text, re.M) == ["try 2"]
    assert "highest risk 0.20 at step 1" in text


def test_the_last_line_says_of_which_try_its_figures_are():
    view = RunView(console(terminal=False), Watcher())
    view.start(GREY, REGIONS, "?")
    view.step(replace(STEP, verdict=Verdict(1, 0.7, 0.7, 0.6, True)))
    view.step(replace(STEP, attempt=1))
    view.end(9, 2.0, answered=True)
    last = "9 tokens in try 2 · 2.0 s in all · highest risk 0.20 at step 1 · alarm raised in try 1"
    assert view.console.file.getvalue().splitlines()[-1] == last


def test_a_run_that_its_policy_stopped_says_that_at_its_end():
    on = console(terminal=False)
    RunView(on).end(17, 2.0, answered=False, stopped=True)
    assert on.file.getvalue() == "17 tokens in 2.0 s · stopped by its policy\n"


@pytest.mark.parametrize("on", [console(terminal=False), console(NO_COLOR="1"), console(width=40)])
def test_without_a_colour_terminal_a_step_is_one_plain_line(on):
    lines = show(STEP, on=on).splitlines()
    assert lines[1] == "1: row 1 col 1 is red 7. | concentration 1.00 | strongest +2.00 nats at x 3, y 3 | risk 0.20"
    assert "strongest −3.00 nats at x 3, y 11 |" in show(replace(STEP, effects=np.float32([0, 1, -3, 0])), on=on)
    assert "\x1b" not in "".join(lines)
    assert "▀" not in "".join(lines)


def test_a_terminal_that_becomes_narrow_gets_plain_lines():
    on = console()
    view = RunView(on)
    view.start(GREY, REGIONS, "how many red in row 1 to row 3?")
    on.width = 40
    view.step(STEP)
    assert "| strongest +2.00 nats at x" in visible(on.file.getvalue())


@pytest.mark.parametrize("on", [console(), console(terminal=False)])
def test_model_text_can_neither_colour_nor_move_nor_mark_up(on):
    nasty = replace(STEP, text="[red]x[/red] \x1b[2J\x1b]0;title\x07\x9b31m\rover\x08 \u202egnp.\x00[/]")
    text = show(nasty, on=on)
    assert "[red]x[/red]  over gnp.[/]" in visible(text)
    assert not re.search(r"\x1b\[2J|\x1b\]|\x9b|\r|\x08|\u202e|\x00", text)


def test_a_step_that_no_region_supports_says_so():
    none = replace(STEP, effects=np.array([-1, 0, 0, 0], np.float32))
    assert "no region supports it" in visible(show(none, on=console()))
    assert "concentration none" in show(none, on=console(terminal=False))


def test_a_table_as_wide_as_the_terminal_loses_no_column():
    frame = pd.DataFrame(
        {
            "run": ["test-1-00000-2"],
            "question": ["is there a red 7 in the last column? " * 2],
            "outcome": ["reasoning_failure"],
            "at": ["10 of 12"],
            "risk": [0.79],
            "saved": [0.5],
        }
    )
    on = console(terminal=False)
    names = {"run": "run", "question": "question", "outcome": "outcome", "at": "alarm at step"}
    names |= {"risk": "highest risk", "saved": "tokens saved"}
    show_table(on, Table(frame, names, {"saved": share}), "Alarms")
    text = on.file.getvalue()  # type: ignore[attr-defined]
    for part in ("test-1-00000-2", "reasoning_failure", "10 of 12", "0.79", "50 %", "column?"):
        assert part in text


def test_intervals_stand_below_their_numbers_where_a_table_would_be_too_wide():
    frame = pd.DataFrame({"method": ["a method"]} | {f"x{i}": [Estimate(0.61, 0.55, 0.671)] for i in range(4)})
    wide, narrow = console(120, terminal=False), console(70, terminal=False)
    for on in (wide, narrow):
        show_table(on, Table(frame), "AUC")
    said = [[line.split() for line in on.file.getvalue().splitlines()] for on in (wide, narrow)]  # type: ignore[attr-defined]
    assert ["a", "method", *["0.61", "(0.55–0.67)"] * 4] in said[0]
    assert ["a", "method", *["0.61"] * 4] in said[1]
    assert ["(0.55–0.67)"] * 4 in said[1]


def test_the_verdict_of_a_comparison_stands_beside_its_number_on_a_narrow_terminal():
    frame = pd.DataFrame(
        {
            "metric": ["MSD exponent"],
            "runs": [470],
            "against": [2117],
            "delta": [Estimate(0.123, 0.041, 0.202)],
            "tested": [0.1],
            "p": [0.509],
            "verdict": ["not told apart"],
        }
    )
    on = console(80, terminal=False)
    show_table(on, Table(frame), "Differences")
    lines = on.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sum("metric" in line for line in lines) == 1
    assert any("0.12" in line and "not told apart" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_column_is_lost_where_a_table_is_wider_than_the_terminal(width):
    cells = {f"x{i} that has a long heading": [Estimate(i / 10, 0, 1), Estimate(-i / 10, -1, 1)] for i in range(8)}
    frame = pd.DataFrame({"method": ["one method", "another"]} | cells)
    on = console(width, terminal=False)
    show_table(on, Table(frame), "AUC")
    lines = on.file.getvalue().splitlines()  # type: ignore[attr-defined]
    words = " ".join(lines).split()
    assert max(map(len, lines)) <= width
    assert [words.count(f"x{i}") for i in range(8)] == [1] * 8
    assert [words.count(f"0.{i}0") for i in range(1, 8)] == [1] * 7
    assert words.count("another") == sum("x" in line for line in lines)


def test_clean_keeps_letters_of_all_scripts_and_joins_lines():
    assert clean("Größe\n漢字 é\t✓") == "Größe 漢字 é ✓"
    assert one_line("  a \n\n b ") == "a b"
