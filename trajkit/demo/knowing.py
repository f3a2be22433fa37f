"""What a judge who knows the scene can tell of a run from the sentences so far: the ceiling of any monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trajkit.demo.checker import Check
from trajkit.demo.items import scene_of
from trajkit.demo.questions import parse_question

if TYPE_CHECKING:
    from trajkit.traces.trace import Trace

KNOWN: tuple[str, ...] = ("off_course", "misread", "lost", "corrections")
"""Of a run so far: whether going on without a mistake would end wrong; cells that stand misread; sentences that follow
from nothing; misreadings that were put right."""


def known_prefixes(question: str, cells: Sequence[Sequence[object]], sentences: Sequence[str]) -> NDArray[np.float64]:
    """(T, 4) what is known after each of T sentences (KNOWN)."""
    check = Check(parse_question(question), scene_of(cells))  # type: ignore[arg-type]
    rows = []
    for sentence in sentences:
        check.update(sentence)
        rows.append((check.left is not None, len(check.misread), check.steps.count("lost"), check.corrections))
    return np.array(rows, dtype=float).reshape(-1, len(KNOWN))


def known_frame(traces: Sequence[Trace]) -> pd.DataFrame:
    """A row per run and sentence of thinking: what is known (KNOWN) and how the run ended.

    Columns: transcript_id, group_id, task_set, kind, difficulty, step (1-based), KNOWN, cause_past (whether the
    sentence that was the cause of failure has been said), failure, outcome. Runs that cannot be judged are left out.
    """
    frames = []
    for trace in traces:
        said = [step.text for step in trace.steps if step.kind == "thinking"]
        if trace.success is None or not said:
            continue
        known = known_prefixes(trace.question, trace.meta["cells"], said)
        first_wrong = trace.meta["first_wrong"]
        steps = np.arange(1, len(said) + 1)
        facts: Mapping[str, object] = {
            "transcript_id": trace.transcript_id,
            "group_id": trace.group_id,
            "task_set": trace.task_set,
            "kind": trace.meta["kind"],
            "difficulty": trace.meta["difficulty"],
            "step": steps,
            "cause_past": steps > (np.inf if first_wrong is None else first_wrong),
            "failure": not trace.success,
            "outcome": trace.outcome,
        }
        frames.append(pd.DataFrame({**facts, **dict(zip(KNOWN, known.T, strict=True))}))
    return pd.concat(frames, ignore_index=True)
