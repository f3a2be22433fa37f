"""What trajkit says to `logging`: steps at DEBUG, alarms at WARNING, what a policy does at INFO.

Loggers are children of `trajkit`, named by module, and silent until a program sets one up. Every record carries its
numbers as attributes too, for a formatter that reads them: `run`, `event` and the fields of docs/events.md named in
`FIELDS`. Nothing that a model says is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trajkit.text import clean

if TYPE_CHECKING:
    from trajkit.detection.monitor import Verdict

FIELDS = ("event", "run", "step", "risk", "max_risk", "threshold", "alarm", "alarmed")
"""Attributes of a log record about a step that a monitor watched."""


def log_verdict(logger: logging.Logger, verdict: Verdict, run: object = "") -> None:
    """An alarm at WARNING; any other verdict at DEBUG, which costs a look at a flag where nobody listens.

    run: how it is called, "" for the only one.
    """
    level = logging.WARNING if verdict.alarm else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    what = "alarm at step" if verdict.alarm else "step"
    logger.log(
        level,
        "%s%s %d: risk %.2f, alarm above %.2f",
        f"run {clean(str(run))}: " if run != "" else "",
        what,
        verdict.step,
        verdict.risk,
        verdict.threshold,
        extra=_extra("verdict", run, verdict.to_dict()),
    )


def _extra(event: str, run: object, told: dict[str, Any]) -> dict[str, Any]:
    return {"event": event, "run": run} | {name: told[name] for name in FIELDS if name in told}
