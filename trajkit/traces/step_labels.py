"""What each sentence of a run was: labels in the runs themselves, or in a file beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from trajkit.errors import InputError
from trajkit.traces.label_file import LabelFile
from trajkit.traces.trace import Trace

StepLabel = Literal["", "false", "lost"]
"""Of a sentence by itself: nothing wrong, says something that is not so, or goes the wrong way."""
STEP_LABELS: tuple[StepLabel, ...] = get_args(StepLabel)
StepLabels = Mapping[str, Sequence[StepLabel | None]]
"""transcript_id → a label for each of its first thinking steps; None, or none at all, where it cannot be told."""
KEY = "step_labels"
"""In a trace's `meta`: a list with an entry a thinking step."""
_EXAMPLE = '{"transcript_id": "q1-0", "step": 3, "label": "false"}'
_MOST_STEPS = 1_000_000


def read_step_labels(path: str | Path) -> dict[str, list[StepLabel | None]]:
    """transcript_id → labels of its thinking steps, of a JSONL file, or of a .csv or .tsv file whose first line names
    the columns transcript_id, step and label. step: 1-based. label: false, lost, or empty where nothing is wrong; in
    JSONL null where it cannot be told. Steps that the file does not name are not labelled.

    Raises InputError, naming the line, on anything else, and on a step that stands twice.
    """
    file = LabelFile.at(path, "labels of sentences", ("transcript_id", "step", "label"), _EXAMPLE)
    found: dict[str, dict[int, StepLabel | None]] = {}
    for line, name, record in file.records():
        step = _step(record.get("step"), file.is_table)
        if step is None:
            raise file.refused(line, f"step must be a whole number from 1 on, got {record.get('step')!r}")
        if "label" not in record or not _is_label(record["label"]):
            raise file.refused(line, f"label must be {_CHOICES}, got {record.get('label', 'none')!r}")
        if step in found.setdefault(name, {}):
            raise file.refused(line, f"step {step} of run {name!r} has a label already")
        found[name][step] = record["label"]
    if not found:
        raise InputError(f"{file.path} holds no label; expected lines such as {_EXAMPLE}")
    return {name: [of.get(step) for step in range(1, max(of) + 1)] for name, of in found.items()}


def labels_of(trace: Trace, told: StepLabels | None = None) -> list[StepLabel | None]:
    """The labels of a run's thinking steps, one each: those that are told of it, else those of its `meta`; None of a
    step that has none. Raises InputError on a label beyond the last thinking step, and on one of another kind."""
    n_steps = int(trace.thinking.sum())
    whose, labels = ("labels", told.get(trace.transcript_id)) if told is not None else (KEY, trace.meta.get(KEY))
    if labels is None:
        return [None] * n_steps
    run = f"the {whose} of run {trace.transcript_id!r}"
    if not isinstance(labels, Sequence) or isinstance(labels, str):
        raise InputError(f"{run} must be a list, an entry a thinking step; got {type(labels).__name__}.")
    strange = [label for label in labels if not _is_label(label)]
    if strange:
        raise InputError(f"{run} must each be {_CHOICES}, or None where it cannot be told; got {strange[0]!r}.")
    if len(labels) > n_steps:
        raise InputError(f"{run} go to step {len(labels)}, and it has {n_steps} thinking steps; correct the labels.")
    return [*labels, *[None] * (n_steps - len(labels))]


def check_known(told: StepLabels, ids: set[str]) -> None:
    """Raises InputError where labels are of a run that is none of `ids`."""
    strange = sorted(set(told) - ids)
    if strange:
        more = f" and of {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise InputError(
            f"there are labels of sentences of run {strange[0]!r}{more}, and no such run; give the runs that they are "
            "of, or take these labels out."
        )


def _step(value: Any, is_text: bool) -> int | None:
    if is_text and isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value[:20])
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_STEPS
    return value if whole else None


def _is_label(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value in STEP_LABELS)


_CHOICES = "'false', 'lost' or '' (nothing wrong)"
