"""The form of a question: its template within its family. Outcomes go with it, so runs are compared within it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def form_of(meta: Mapping[str, Any]) -> str:
    """The form of the question that a run is of: its kind (`meta["kind"]` of the trace), where that is a text; else
    empty, not known. It hangs on that run alone, so that a run has one form in whatever file it is."""
    kind = meta.get("kind")
    return kind if isinstance(kind, str) else ""


def task_label(task_set: str, form: str = "") -> str:
    """Family and form as one: what `task` means wherever a model reads it or runs are compared within it."""
    return " · ".join(part for part in (task_set, form) if part)


def task_labels(frame: pd.DataFrame) -> NDArray[np.str_]:
    """(n,) `task_label` of each row, from the columns task_set and form; a column that is not there is empty."""
    import pandas as pd

    names = [name for name in ("task_set", "form") if name in frame]
    if not names:
        return np.full(len(frame), "")
    codes = frame.groupby(names, sort=False, dropna=False).ngroup().to_numpy()  # a label is made once, not for each row
    first = pd.Series(codes).drop_duplicates().index
    columns = [
        frame[name].iloc[first].astype(str) if name in names else [""] * len(first) for name in ("task_set", "form")
    ]
    return np.array([task_label(*row) for row in zip(*columns, strict=True)], dtype=str)[codes]
