"""Rows of saved runs, made of a few columns of their file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.live.query import Row, rounded
from trajkit.live.verdicts import Highest
from trajkit.runs.columns import outcomes
from trajkit.strict_json import parse_json
from trajkit.traces.labels import Label

COLUMNS = (
    "transcript_id", "group_id", "task_set", "question", "model", "answer", "target", "success", "outcome", "n_steps",
    "steps", "meta",
)  # fmt: skip
"""Of the trace schema, that rows are made of."""


def rows_of(batch: pa.RecordBatch, labels: Mapping[str, Label] | None = None) -> list[Row]:
    """A row of each run. batch: COLUMNS of the trace schema, checked by `traces.faults`; risk and alarm are those that
    were saved with the steps. labels: take the place of outcomes."""
    names = [name for name in COLUMNS if name not in ("steps", "meta", "success", "outcome")]
    said, ended = batch.select(names).to_pylist(), outcomes(batch).to_pylist()
    meta = [_acted(text) for text in batch["meta"].to_pylist()]
    tokens, highest = _of_steps(batch["steps"])
    made = zip(said, ended, meta, tokens, highest, strict=True)
    return [_row(one, outcome, about, n, most, labels or {}) for one, outcome, about, n, most in made]


def judge_row(row: Row, found: Highest) -> None:
    """Have what detectors say in a row in place of what was saved."""
    row["risk"], row["alarm"] = rounded(found.risk), found.alarm


def _row(
    said: dict[str, Any],
    outcome: str,
    meta: Mapping[str, Any],
    n_tokens: int,
    highest: Highest,
    labels: Mapping[str, Label],
) -> Row:
    name = said["transcript_id"]
    label, began, decisions = labels.get(name), meta.get("began"), meta.get("decisions")
    decided = decisions[-1] if isinstance(decisions, list) and decisions else None
    return Row(
        id=name,
        source="saved",
        state="saved",
        question=said["question"],
        task=said["task_set"],
        group=said["group_id"],
        model=said["model"],
        answer=said["answer"],
        target=said["target"],
        outcome=label or outcome,
        n_steps=said["n_steps"],
        n_tokens=n_tokens,
        alarm=highest.alarm,
        risk=rounded(highest.risk),
        began=began if isinstance(began, int | float) and not isinstance(began, bool) else None,
        label=label,
        decision=str(decided["action"]) if isinstance(decided, dict) and "action" in decided else None,
    )


def _acted(text: str) -> Mapping[str, Any]:
    """The `meta` of a run where it says when the run began, or what a policy decided: few do, and others need not be
    parsed."""
    return parse_json(text) if '"began"' in text or '"decisions"' in text else {}


def _of_steps(column: pa.ListArray) -> tuple[list[int], list[Highest]]:
    """Of each run: its tokens, and the risk and alarm that were saved with its steps."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    steps = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets -= offsets[0]
    last: NDArray[np.int64] = np.append(steps.field("token_end").to_numpy(zero_copy_only=False), 0)
    tokens = np.where(np.diff(offsets) > 0, last[offsets[1:] - 1], 0).tolist()
    risks = pc.cast(steps.field("risk"), pa.float64()).to_numpy(zero_copy_only=False)
    alarms = np.flatnonzero(pc.fill_null(steps.field("alarm"), False).to_numpy(zero_copy_only=False))
    if np.isnan(risks).all() and not len(alarms):
        return tokens, [Highest()] * len(tokens)
    at = np.append(alarms, len(steps))[np.searchsorted(alarms, offsets[:-1])]  # the first alarm from a run's start on
    highest = []
    for start, end, alarm in zip(offsets[:-1].tolist(), offsets[1:].tolist(), at.tolist(), strict=True):
        known = risks[start:end][~np.isnan(risks[start:end])]
        risk = float(known.max()) if len(known) else None
        highest.append(Highest(risk, alarm - start if alarm < end else None))
    return tokens, highest
