"""Scores of somebody else's, a judge's or a probe's, in a table of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SCORE = "score"
"""The column of the score, where a frame is laid out as detectors read it."""


def score_frame(
    frame: pd.DataFrame, score: str, group: str, success: str, run: str | None, step: str | None = None
) -> pd.DataFrame:
    """transcript_id group_id success step score, a row for each of `frame`, as `run_maxima` and replays read them.

    score … step: names of columns of `frame`; run: None where each row is a run; step: None where the rows of a run
    stand in order. Raises InputError on a column that is missing, a score that is no finite number, a success that is
    neither true, false nor missing, a row of no group, and a run of two groups or both kinds of success.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"the table of scores must be a pandas DataFrame; got {type(frame).__name__}.")
    named = {"score": score, "group": group, "success": success, "run": run, "step": step}
    for parameter, column in named.items():
        if column is not None and column not in frame:
            more = f" Name it: {parameter}=…" + (
                ", or run=None where each row is a run." if parameter == "run" else "."
            )
            raise InputError(
                f"the table of scores has no column {column!r} for {parameter!r}; it has "
                f"{', '.join(map(str, frame.columns)) or 'none'}.{more}"
            )
    runs = pd.Series(np.arange(len(frame)), index=frame.index) if run is None else frame[run]
    order = runs.groupby(runs.to_numpy()).cumcount() + 1 if step is None else frame[step]
    table = {
        "transcript_id": runs.to_numpy(object),
        "group_id": frame[group].to_numpy(object),
        "success": _truth(frame[success], success),
        "step": order.to_numpy(),
        SCORE: _numbers(frame[score], score),
    }
    _one_a_run(frame, group, success, None if run is None else runs)
    return pd.DataFrame(table)


def _one_a_run(frame: pd.DataFrame, group: str, success: str, runs: pd.Series | None) -> None:
    """Raises InputError where a row has no group, or the rows of a run differ in what is said of the whole run."""
    if frame[group].isna().any():
        n = int(frame[group].isna().sum())
        raise InputError(
            f"the column {group!r} must name the image or question in every row; {n} of {len(frame)} do not."
        )
    if runs is None:
        return
    for column in (group, success):
        kinds = frame[column].groupby(runs.to_numpy()).nunique()
        if (kinds > 1).any():
            raise InputError(
                f"the column {column!r} must say the same in all rows of a run; those of run {kinds.idxmax()!r} "
                "differ. It is about the whole run, however many steps it has."
            )


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    import pandas as pd

    found = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    wrong = ~np.isfinite(found)
    if wrong.any():
        raise InputError(
            f"the column {name!r} must hold finite numbers; {int(wrong.sum())} of {len(found)} are not, the first "
            f"{column.iloc[int(wrong.argmax())]}. Leave out the rows of steps that have no score."
        )
    return found


def _truth(column: pd.Series, name: str) -> np.ndarray:
    """(n,) True, False or None."""
    known = column.notna().to_numpy(bool)
    values = column.to_numpy(object)
    wrong = [value for value in values[known] if value not in (True, False)]
    if wrong:
        raise InputError(
            f"the column {name!r} must say of each run whether it succeeded: true, false, 1, 0, or nothing where that "
            f"is not known; found {wrong[0]!r}."
        )
    return np.array([bool(value) if known[at] else None for at, value in enumerate(values)], dtype=object)
