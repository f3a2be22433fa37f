"""The form of a question: its template within its family. Outcomes go with it, so runs are compared within it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def forms(kinds: Sequence[object], task_ids: Sequence[str], groups: Sequence[str]) -> list[str]:
    """The form of each of n runs: its kind (`meta["kind"]` of a trace), where that is a text; else its task id, where
    runs of several groups share it, so that it names no single question; else empty, not known."""
    of_task: dict[str, set[str]] = {}
    for task, group in zip(task_ids, groups, strict=True):
        of_task.setdefault(task, set()).add(group)
    return [
        kind if isinstance(kind, str) and kind else task if len(of_task[task]) > 1 else ""
        for kind, task in zip(kinds, task_ids, strict=True)
    ]


def task_label(task_set: str, form: str = "") -> str:
    """Family and form as one: what `task` means wherever a model reads it or runs are compared within it."""
    return " · ".join(part for part in (task_set, form) if part)


def task_labels(frame: pd.DataFrame) -> NDArray[np.str_]:
    """(n,) `task_label` of each row, from the columns task_set and form; a column that is not there is empty."""
    columns = [frame[name].astype(str) if name in frame else [""] * len(frame) for name in ("task_set", "form")]
    return np.array([task_label(*row) for row in zip(*columns, strict=True)], dtype=str)


def form_of(meta):
    return str(meta.get("kind") or "")
