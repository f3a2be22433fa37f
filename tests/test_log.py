"""What is logged: nothing until somebody listens, then alarms, decisions and steps with their numbers."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

import trajkit as tk
from trajkit.demo import paths
from trajkit.log import FIELDS, log_decision, log_step, log_verdict


def test_a_program_that_sets_up_no_logging_sees_nothing():
    code = "import logging, trajkit; logging.getLogger('trajkit.attribution').warning('alarm')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_where_nobody_listens_nothing_is_made_of_a_verdict():
    class Mute:
        alarm = False

        def __getattr__(self, name):
            raise AssertionError(f"{name} was read")

    logger = logging.getLogger("trajkit.nobody")
    logger.setLevel(logging.WARNING)
    log_verdict(logger, Mute())  # type: ignore[arg-type]
    log_decision(logger, Mute())  # type: ignore[arg-type]
    log_step(logger, SimpleNamespace(verdict=Mute(), kind="thinking", row=0, decision=None))  # type: ignore[arg-type]


@pytest.fixture
def logged(demo_vlm, demo_estimator, scene_image, caplog):
    """The records of a run of a few tokens under the shipped monitor with another threshold."""

    def run(threshold: float | None, level: int, policy: tk.Policy | None = None) -> list[logging.LogRecord]:
        shipped = tk.detection.load_detectors(paths.DETECTORS).monitor
        monitor = None if threshold is None else replace(shipped, threshold=threshold)
        caplog.clear()
        with caplog.at_level(level, "trajkit"):
            steps = tk.stream(
                demo_vlm,
                scene_image,
                "sort row 2 down.",
                estimator=demo_estimator,
                monitor=monitor,
                policy=policy,
                temperature=0,
            )
            assert list(steps)
        return caplog.records

    return run


def test_a_stream_logs_alarms_at_warning_decisions_at_info_and_steps_at_debug(logged):
    alarm, decision, *steps = logged(0.0, logging.DEBUG, tk.Policy("answer now"))
    assert (alarm.levelname, alarm.event, alarm.step, alarm.alarm) == ("WARNING", "verdict", 1, True)
    assert alarm.getMessage() == f"alarm at step 1: risk {alarm.risk:.2f}, alarm above 0.00"
    assert (decision.levelname, decision.event, decision.action) == ("INFO", "decision", "answer now")
    assert decision.getMessage().startswith("answer now: the monitor alarmed after step 1")
    assert {step.levelname for step in steps} == {"DEBUG"}
    assert steps[-1].getMessage().startswith("answer: ")
    assert all(record.name.startswith("trajkit.attribution.") for record in (alarm, decision, *steps))
    assert {name for name in FIELDS if hasattr(alarm, name)} == set(FIELDS) - {"action", "reason"}


def test_a_calm_run_says_nothing_above_debug_and_one_without_a_monitor_counts_its_steps(logged):
    assert logged(2.0, logging.INFO) == []
    steps = logged(None, logging.DEBUG)
    assert steps[0].getMessage().startswith("step 1: ")
    assert [record.step for record in steps] == list(range(1, len(steps) + 1))
