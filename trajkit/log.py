"""What trajkit says to `logging`: steps at DEBUG, alarms at WARNING, what a policy decides at INFO.

Loggers are children of `trajkit`, named by module, and silent until a program sets one up. Every record carries its
numbers as attributes too, for a formatter that reads them: `run`, `event` and the fields of docs/events.md named in
`FIELDS`. Nothing that a model says is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trajkit.tables.words import count, score
from trajkit.text import clean

if TYPE_CHECKING:
    from trajkit.attribution.explainer import LiveStep
    from trajkit.detection.monitor import Verdict
    from trajkit.detection.policies import Decision

FIELDS = ("event", "run", "row", "step", "risk", "max_risk", "threshold", "alarm", "alarmed", "action", "reason")
"""Attributes that log records of this module have: `action` and `reason` those of decisions, `risk` to `alarmed` those
of verdicts."""


def log_verdict(logger: logging.Logger, verdict: Verdict, run: object = "", row: int = 0) -> None:
    """An alarm at WARNING; any other verdict at DEBUG, which costs a look at a flag where nobody listens.

    run, row: as in docs/events.md; "" for the only run.
    """
    level = logging.WARNING if verdict.alarm else logging.DEBUG
    if logger.isEnabledFor(level):
        what = f"{'alarm at ' if verdict.alarm else ''}step {verdict.step}"
        risk, threshold = score(verdict.risk), score(verdict.threshold)
        _log(logger, level, "verdict", run, row, f"{what}: risk {risk}, alarm above {threshold}", verdict.to_dict())


def log_decision(logger: logging.Logger, decision: Decision, run: object = "", row: int = 0) -> None:
    """What a policy decides, at INFO. run, row: as for `log_verdict`."""
    if logger.isEnabledFor(logging.INFO):
        _log(logger, logging.INFO, "decision", run, row, f"{decision.action}: {decision.reason}", decision.to_dict())


def log_step(logger: logging.Logger, step: LiveStep) -> None:
    """A step of a running model: its verdict and what was decided; where no monitor watches, that it is there, at
    DEBUG."""
    if step.verdict is not None and step.kind == "thinking":
        log_verdict(logger, step.verdict, row=step.row)
    elif logger.isEnabledFor(logging.DEBUG):
        what = "answer" if step.kind == "answer" else f"step {step.index + 1}"
        said = f"{what}: {count(step.n_tokens, 'token')}"
        _log(logger, logging.DEBUG, "step", "", step.row, said, {"step": step.index + 1})
    if step.decision is not None:
        log_decision(logger, step.decision, row=step.row)


def _log(
    logger: logging.Logger, level: int, event: str, run: object, row: int, said: str, told: dict[str, Any]
) -> None:
    parts = ([f"run {clean(str(run))}"] if run != "" else []) + ([f"row {row}"] if row else [])
    whose = f"{', '.join(parts)}: " if parts else ""
    fields = {"event": event, "run": run, "row": row} | {name: told[name] for name in FIELDS if name in told}
    logger.log(level, "%s%s", whose, said, extra=fields)
