"""What a long job says of itself: rates and times left that can be believed, and nothing where none is needed."""

from __future__ import annotations

import io
import time

import pytest

from trajkit import progress as module
from trajkit.console import console
from trajkit.progress import Pace, progress, progress_if_slow, silent, status


def paced(total: int, gaps: list[float]) -> list[tuple[float, float | None]]:
    """(now, seconds left as said) after each step."""
    pace, now, said = Pace(total), 0.0, []
    for gap in gaps:
        now += gap
        pace.mark(1, now)
        said.append((now, pace.left(now)))
    return said


def test_a_slow_first_step_does_not_count():
    gaps = [30.0] + [1.0] * 99
    told = [(now, left) for now, left in paced(100, gaps) if left is not None]
    assert told
    for now, left in told:
        assert left == pytest.approx(sum(gaps) - now)


def test_steps_that_were_found_done_do_not_count():
    gaps = [0.5] + [0.001] * 49 + [2.0] * 50
    told = [(now, left) for now, left in paced(100, gaps)[50:] if left is not None]
    assert len(told) > 40
    for now, left in told:
        assert left == pytest.approx(sum(gaps) - now, rel=0.05, abs=0.1)


def test_nothing_is_said_of_the_time_left_before_it_can_be_told():
    assert [left for _, left in paced(100, [1.0] * 3)] == [None] * 3
    assert Pace(10).said(0.0) == ""


def test_the_pace_is_that_of_the_last_minute():
    (*_, (_, left)) = paced(400, [1.0] * 100 + [3.0] * 100)
    assert left == pytest.approx(200 * 3.0, rel=0.01)


def test_the_time_left_runs_down_between_steps():
    pace = Pace(10)
    for now in (0.0, 5.0, 10.0, 15.0):
        pace.mark(1, now)
    assert (pace.left(15.0), pace.left(18.0), pace.left(100.0)) == (30.0, 27.0, 0.0)
    assert pace.said(15.0) == "5.0 s each · 30 s left"


@pytest.fixture
def screen(monkeypatch):
    """What is written to a terminal on stderr."""
    on = console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(module, "console", lambda **_: on)
    monkeypatch.setattr(module, "SLOW", 0.05)
    return on.file


def test_a_bar_for_what_is_mostly_quick_is_shown_when_it_is_slow_and_then_goes(screen):
    with progress_if_slow("reading runs", 10) as bar:
        bar.advance("", 10)
    assert screen.getvalue() == ""
    with progress_if_slow("reading runs", 10) as bar:
        bar.advance("", 5)
        time.sleep(0.3)
    assert "reading runs" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")  # the line is erased


def test_a_terminal_shows_what_is_done_and_what_is_left(screen):
    with progress("measuring", 8) as bar:
        for _ in range(6):
            bar.advance("q")
            time.sleep(0.02)
    assert "6/8" in screen.getvalue()
    assert " left" in screen.getvalue()


def test_no_bar_for_what_is_mostly_quick_in_a_log(capsys, monkeypatch):
    monkeypatch.setattr(module, "SLOW", 0.01)
    with progress_if_slow("reading runs", 10) as bar:
        time.sleep(0.05)
        bar.advance("", 10)
    assert capsys.readouterr().err == ""


def test_a_log_has_one_line_for_what_is_slow_and_none_for_what_is_quick(capsys, monkeypatch):
    with status("loading a model"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "SLOW", 0.02)
    with status("loading a model") as say:
        say("loading a model (2 MB)")
        time.sleep(0.2)
    assert capsys.readouterr().err == "loading a model (2 MB) …\n"


def test_a_log_says_how_far_it_is_and_how_long_it_takes(capsys, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY", 5.0)
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("measuring", 20) as bar:
        for i in range(6):
            bar.advance(f"q{i}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "measuring 1/20 · q0"
    assert lines[-1] == "measuring 6/20 · 5.0 s each · 70 s left · q5"


def test_a_log_says_what_is_going_on_where_the_first_step_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY", 0.05)
    with progress("measuring", 2):
        time.sleep(0.3)
    assert capsys.readouterr().err == "measuring 0/2\n"


def test_a_terminal_shows_a_spinner_and_is_left_clean(screen):
    with status("loading a model"):
        time.sleep(0.15)
    assert "loading a model" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")


def test_nothing_is_said_where_other_lines_are_awaited(capsys, monkeypatch):
    monkeypatch.setattr(module, "SLOW", 0.01)
    monkeypatch.setattr(module, "LOG_EVERY", 0.01)
    with silent(), status("loading a model") as say, progress("runs", 2) as bar, progress_if_slow("pages", 2) as quick:
        say("loading another")
        for _ in range(2):
            time.sleep(0.03)
            bar.advance()
            quick.advance()
    assert capsys.readouterr().err == ""
    with status("loading a model"):
        time.sleep(0.05)
    assert "loading a model" in capsys.readouterr().err
