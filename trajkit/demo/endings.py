"""How a run under watch can end, and which runs a demonstration shows: by their endings and nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, get_args

from trajkit.demo.retelling import alarm, cause, thinking
from trajkit.detection.step_features import CONFIDENT
from trajkit.traces.trace import Step, Trace

Ending = Literal["lost and caught", "hallucinated with confidence", "recovered", "missed", "false alarm"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
SOUGHT: frozenset[Ending] = frozenset({"lost and caught", "hallucinated with confidence", "recovered"})
"""A demonstration goes on until it has them."""


def endings(run: Trace) -> frozenset[Ending]:
    """What can be told of a run, by its outcome, its judge's facts and its alarm; none of it of most runs.

    Lost and caught: a reasoning failure that alarmed. Hallucinated with confidence: a hallucination whose cause, the
    sentence `first_wrong`, was `CONFIDENT`. Recovered: right, although a misreading had to be put right. Missed: wrong
    without an alarm. False alarm: right with one.
    """
    alarmed, right = alarm(run) is not None, run.success is True
    found: dict[Ending, bool] = {
        "lost and caught": run.outcome == "reasoning_failure" and alarmed,
        "hallucinated with confidence": run.outcome == "hallucination" and _was_confident(run),
        "recovered": right and run.meta["corrections"] > 0,
        "missed": not right and not alarmed,
        "false alarm": right and alarmed,
    }
    return frozenset(ending for ending, is_so in found.items() if is_so)


def probability(step: Step) -> float:
    """Of a sentence's tokens, the geometric mean, in [0, 1]; NaN where it has no log-probability."""
    return math.nan if step.logprob is None else math.exp(min(step.logprob, 0.0))


def _was_confident(run: Trace) -> bool:
    failed = cause(run)
    return failed is not None and probability(thinking(run)[failed]) >= CONFIDENT


def is_shown(so_far: Sequence[Collection[Ending]], least: int) -> bool:
    """Whether the last of the runs so far is: one of the first `least`, or the first that has one of its endings."""
    return len(so_far) <= least or not set(so_far[-1]) <= set().union(*so_far[:-1])


def is_enough(so_far: Sequence[Collection[Ending]], least: int) -> bool:
    """Whether there are `least` runs, and one of each ending that is `SOUGHT`."""
    return len(so_far) >= least and set().union(*so_far) >= SOUGHT
