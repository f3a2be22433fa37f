"""What a server logs: one line an event, as text or as JSON. Nothing that a model says or a client asks is in it, nor
the words of an error, which may quote them.

An event has the fields of `FIELDS` that it knows. `start`: a run has its place. `verdict`: its monitor alarmed (at the
level debug, every verdict). `decision`: of its policy. `unexplained`: it goes on without steps. `end`: it is over.
`refused`: a request was not served. `request`: one was (debug). `webhook`: one could not be sent. `listening` and
`closing`: of the server. `disk`: what is kept cannot be written, or can again. Lines of uvicorn have the event
`server`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_tb
from typing import Any, Literal, TextIO

from trajkit.events import as_json
from trajkit.text import clean

Style = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
FIELDS = {
    "run": "Which run, as in the answer's X-Trajkit-Run.",
    "outcome": "How it ended: ended, stopped, left or failed.",
    "waited": "Seconds from the request to its place.",
    "first_step": "Seconds from the request to its first step; null before one.",
    "seconds": "Seconds from the request to the end.",
    "n_tokens": "Tokens written, in all attempts.",
    "n_steps": "Steps explained, in all attempts.",
    "kind": "What went wrong: the class of the error, or OpenAI's name for the kind of refusal.",
    "status": "The answer's, of HTTP.",
    "method": "The request's.",
    "path": "The request's, without what follows a question mark.",
    "address": "Where the server listens, or where a webhook goes: scheme, host and port alone.",
    "tries": "How often a webhook was tried.",
    "n_dropped": "Webhooks that will not be sent.",
    "step": "Thinking steps seen.",
    "risk": "Probability of failure after that step.",
    "max_risk": "Its largest so far.",
    "threshold": "The risk above which it is alarmed; null where the monitor cannot alarm.",
    "alarm": "Whether the alarm was raised on this very step.",
    "alarmed": "Whether it was raised on it or before.",
    "action": "What the policy does.",
    "reason": "Why, in words made of numbers.",
}
"""Fields of a line behind `time` (UTC), `level`, `event` and `message`. Durations are of a clock that never jumps."""
_LOGGERS = ("trajkit", "uvicorn", "py.warnings")


def tell(logger: logging.Logger, level: int, event: str, message: str, **fields: Any) -> None:
    """Log an event. fields: of FIELDS."""
    logger.log(level, "%s", message, extra={"event": event} | fields)


@contextmanager
def logging_to(stream: TextIO, style: Style = "text", level: Level = "info") -> Iterator[None]:
    """Inside, what trajkit and its server log goes to `stream`, from `level` on, and nowhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_AsJson() if style == "json" else _AsText())
    handler.addFilter(_told_once)
    least = logging.getLevelNamesMapping()[level.upper()]
    before = []
    logging.captureWarnings(style == "json")
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        before.append((logger, logger.handlers[:], logger.level, logger.propagate))
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(least if name == "trajkit" else max(least, logging.WARNING))
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers, earlier, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(earlier)


def _told_once(record: logging.LogRecord) -> bool:
    """Whether it is told: not what the explainer says of a run without a name, which the server says with its name."""
    return getattr(record, "run", None) != ""


class _AsText(logging.Formatter):
    """`2026-11-02T10:15:30.123Z WARNING run 3f…: alarm at step 4`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_when(record)} {record.levelname} {_said(record)}"


class _AsJson(logging.Formatter):
    """A line of standard JSON in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.partition(".")[0] == "trajkit"
        told: dict[str, Any] = {"time": _when(record), "level": record.levelname.lower()}
        told |= {"event": getattr(record, "event", "log" if own else "server"), "message": _said(record)}
        told |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            told |= {"kind": record.exc_info[0].__name__, "traceback": format_tb(record.exc_info[2])}
        return as_json(told)


def _said(record: logging.LogRecord) -> str:
    """The message on one line; of an error its class and where it was, and not its words."""
    said = clean(record.getMessage().strip())
    if record.exc_info and record.exc_info[0] is not None:
        where = "".join(format_tb(record.exc_info[2])[-1:]).strip().splitlines()
        return f"{said}: {record.exc_info[0].__name__}{f' ({clean(where[0])})' if where else ''}"
    return said


def _when(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"
