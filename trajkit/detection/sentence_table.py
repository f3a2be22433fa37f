"""Sentence features of saved runs as a table, with the label of each sentence where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.step_features import EFFECTS, UNCERTAINTY, features_of_steps
from trajkit.errors import InputError
from trajkit.traces.forms import form_of
from trajkit.traces.step_labels import StepLabel, StepLabels, check_known, labels_of, read_step_labels
from trajkit.traces.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

Named = Callable[[Trace], NDArray[np.bool_]]
"""(trace) → (T, K) the regions that each of its steps names, the answer's row included; all False in the row of a step
that names no place. Not asked of a run without regions."""
_RUNS = 4096
"""Runs whose effects are laid out at a time."""


def sentence_features(
    traces: str | Path | Iterable[Trace], named: Named | None = None, labels: str | Path | StepLabels | None = None
) -> pd.DataFrame:
    """A row per thinking step of all runs, in order: transcript_id, group_id, task_set, form, step (1-based), label,
    and the features (`step_features.py` says what each is).

    named: which regions each sentence names; without it there are no features of what is named. labels: "" (nothing
    wrong), `false` or `lost` of each sentence: a file (`read_step_labels`), or transcript_id → a list of them; by
    default the list `step_labels` in each run's meta. The column `label` has None where there is none.

    Raises InputError on labels of no run, of a step beyond the last and of another kind, and where `named` gives
    another shape.

    See also: `StepPredictor`, `SentenceFeatures`.

    >>> table = tk.detection.sentence_features(traces[:10])
    >>> table[["transcript_id", "step", "mass", "logprob", "tokens"]].round(2).head(2)
              transcript_id  step  mass  logprob  tokens
    0  validation-1-00000-0     1  9.07    -0.00     8.0
    1  validation-1-00000-0     2  7.03    -0.12     9.0
    """
    import pandas as pd

    from trajkit.traces.store import read_traces

    told = read_step_labels(labels) if isinstance(labels, str | Path) else labels
    runs = read_traces(traces) if isinstance(traces, str | Path) else traces
    parts, some, ids = [], [], set()
    for trace in runs:
        ids.add(trace.transcript_id)
        some.append(_Run.of(trace, named, told))
        if len(some) == _RUNS:
            parts.append(_table(some))
            some = []
    if told is not None:
        check_known(told, ids)
    if some or not parts:
        parts.append(_table(some))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class _Run:
    """said: what each row says of its run. T thinking steps: effects and named (T, K); the rest (T,)."""

    said: dict[str, str]
    labels: list[StepLabel | None]
    effects: NDArray[np.float32]
    named: NDArray[np.bool_] | None
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, trace: Trace, named: Named | None, told: StepLabels | None) -> _Run:
        said = {"transcript_id": trace.transcript_id, "group_id": trace.group_id, "task_set": trace.task_set}
        steps = [step for step in trace.steps if step.kind == "thinking"]
        numbers = [[_known(step.logprob), _known(step.entropy), step.n_tokens] for step in steps]
        return cls(
            said | {"form": form_of(trace.meta)},
            labels_of(trace, told),
            trace.effects[trace.thinking],
            None if named is None else _named_by(named, trace)[trace.thinking],
            np.array(numbers, float).reshape(-1, 3),
        )


def _named_by(named: Named, trace: Trace) -> NDArray[np.bool_]:
    if not trace.n_regions:
        return np.zeros(trace.effects.shape, bool)
    found = np.asarray(named(trace))
    if found.shape != trace.effects.shape or found.dtype != bool:
        raise InputError(
            f"`named` must give truths, (steps, regions), {trace.effects.shape} for run {trace.transcript_id!r}; got "
            f"{found.shape} of {found.dtype}."
        )
    return found


def _known(value: float | None) -> float:
    return np.nan if value is None else value


def _table(runs: list[_Run]) -> pd.DataFrame:
    """Rows in the order of the runs; those of one number of regions are worked out together."""
    import pandas as pd

    counts = np.array([len(run.labels) for run in runs], int)
    which = np.repeat(np.arange(len(runs)), counts)
    step = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    said: dict[str, Any] = {name: np.array([run.said[name] for run in runs], object)[which] for name in _SAID}
    frame = pd.DataFrame(said | {"step": step})
    frame["label"] = pd.Series([label for run in runs for label in run.labels], dtype=object)
    widths = np.array([run.effects.shape[1] for run in runs], int)
    features = {name: np.full(len(which), np.nan) for name in (*EFFECTS, *UNCERTAINTY)}
    for k in np.unique(widths):
        for name, column in _features([runs[i] for i in np.flatnonzero(widths == k)]).items():
            features.setdefault(name, np.full(len(which), np.nan))[widths[which] == k] = column
    return pd.concat([frame, pd.DataFrame(features)], axis=1)


_SAID = ("transcript_id", "group_id", "task_set", "form")


def _features(runs: list[_Run]) -> dict[str, NDArray[np.float64]]:
    logprob, entropy, tokens = np.concatenate([run.numbers for run in runs]).T
    named = [run.named for run in runs if run.named is not None]
    return features_of_steps(
        np.concatenate([run.effects for run in runs]),
        np.repeat(np.arange(len(runs)), [len(run.labels) for run in runs]),
        logprob=logprob,
        entropy=entropy,
        tokens=tokens,
        named=np.concatenate(named) if named else None,
    )
