"""What the server logs: lines with documented fields, and nothing that was asked or said."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings

import pytest

from trajkit.live.logs import FIELDS, logging_to, tell
from trajkit.log import FIELDS as OF_STEPS

SAID = "what the model said"
_log = logging.getLogger("trajkit.live.somewhere")


def lines(style, level, work):
    stream = io.StringIO()
    with logging_to(stream, style, level):
        work()
    return stream.getvalue().splitlines()


def test_an_event_is_a_line_of_standard_json_with_its_fields():
    def work():
        tell(_log, logging.INFO, "end", "run 3 ended\nin\x1b[31m two lines", run="3", seconds=1.5, n_tokens=7)
        tell(_log, logging.WARNING, "verdict", "alarm", run="3", threshold=float("inf"))
        tell(_log, logging.DEBUG, "request", "below the level")

    end, verdict = map(json.loads, lines("json", "info", work))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", end.pop("time"))
    assert end == {
        "level": "info",
        "event": "end",
        "message": "run 3 ended in two lines",
        "run": "3",
        "seconds": 1.5,
        "n_tokens": 7,
    }
    assert verdict["threshold"] is None


def test_text_is_one_line_an_event_too():
    (line,) = lines("text", "warning", lambda: tell(_log, logging.ERROR, "end", "run 3 failed\nbadly", run="3"))
    assert re.fullmatch(r"\S+Z ERROR run 3 failed badly", line)


def test_every_field_is_documented():
    assert set(OF_STEPS) - {"event", "row"} <= set(FIELDS)
    assert all(FIELDS.values())


def test_of_an_error_its_class_and_place_are_told_and_not_its_words():
    def work():
        try:
            raise ValueError(SAID)
        except ValueError:
            _log.exception("a run failed")
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")

    for style in ("text", "json"):
        found = lines(style, "info", work)
        assert len(found) == 2
        assert all("ValueError" in line and "test_logs.py" in line for line in found)
        assert not any(SAID in line for line in found)
    own, server = map(json.loads, lines("json", "info", work))
    assert (own["event"], server["event"], own["kind"]) == ("log", "server", "ValueError")


def test_what_a_run_without_a_name_logs_is_told_with_its_name_by_the_server_alone():
    def work():
        tell(logging.getLogger("trajkit.attribution.explainer"), logging.WARNING, "verdict", "alarm", run="")
        tell(_log, logging.WARNING, "verdict", "run 3: alarm", run="3")

    assert [json.loads(line)["run"] for line in lines("json", "info", work)] == ["3"]


def test_warnings_of_libraries_are_lines_too_and_logging_is_as_before_afterwards():
    own = logging.getLogger("trajkit")
    before = own.handlers[:], own.level, own.propagate, warnings.showwarning
    (line,) = lines("json", "info", lambda: warnings.warn("old", UserWarning, stacklevel=1))
    assert json.loads(line)["level"] == "warning"
    assert (own.handlers, own.level, own.propagate, warnings.showwarning) == before


@pytest.mark.parametrize(("level", "n"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level, n):
    def work():
        for at in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            tell(_log, at, "end", "x")

    assert len(lines("text", level, work)) == n
