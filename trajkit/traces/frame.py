"""The frame of prefix features: what was known of each run after each step of its thinking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.traces.forms import form_of
from trajkit.traces.store import Traces
from trajkit.traces.trace import Trace
from trajkit.trajectory.features import FEATURE_NAMES, prefix_features

if TYPE_CHECKING:
    import pandas as pd

RUN_COLUMNS = ("transcript_id", "group_id", "task_set", "form", "success", "outcome")
"""The columns that say the same on every row of a run."""
_OF_TRACE = tuple(name for name in RUN_COLUMNS if name != "form")


def features(traces: Iterable[Trace]) -> pd.DataFrame:
    """Prefix features, a row per run and thinking step, in order: RUN_COLUMNS, then FEATURE_NAMES.

    Row t of a run holds what was known after its t-th thinking step (`step` = t, 1-based); the answer step is left out,
    as it would be looking at the end. `form` is the question's (`form_of`; what is not known is empty). `success` is
    pandas' nullable boolean. A run without thinking has no row. Where all runs kept a hidden state of each step, its
    numbers follow as hidden_0, hidden_1, …
    Raises InputError on a run without effects (effects_kind None): nothing can be said of its trajectory.
    """
    import pandas as pd

    runs: list[tuple[Any, ...]] = []
    forms: list[str] = []
    lengths: list[int] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in FEATURE_NAMES}
    hidden: list[NDArray[np.float32] | None] = []
    for trace in traces.without_images() if isinstance(traces, Traces) else traces:
        if trace.effects_kind is None:
            raise InputError(
                f"run {trace.transcript_id!r} has no effects (effects_kind is null), as its source had none; "
                "replay it with its model to get them, or leave it out."
            )
        thinking = trace.thinking
        if not thinking.any():
            continue
        steps = [step for step in trace.steps if step.kind == "thinking"]
        run = prefix_features(
            trace.effects[thinking],
            n_tokens=np.cumsum([step.n_tokens for step in steps]),
            logprob=np.array([step.logprob for step in steps]),
            entropy=np.array([step.entropy for step in steps]),
        )
        for name in FEATURE_NAMES:
            columns[name].append(run[name])
        runs.append(tuple(getattr(trace, name) for name in _OF_TRACE))
        forms.append(form_of(trace.meta))
        lengths.append(len(steps))
        hidden.append(None if trace.hidden is None else trace.hidden[thinking])
    which = np.repeat(np.arange(len(runs)), lengths)
    table = pd.DataFrame(runs, columns=list(_OF_TRACE))
    table["form"] = forms
    frame = table[list(RUN_COLUMNS)].iloc[which].reset_index(drop=True)
    frame["success"] = frame["success"].astype("boolean")
    for name, parts in columns.items():
        frame[name] = np.concatenate(parts) if parts else np.zeros(0)
    frame = frame.astype({"step": np.int64, "n_tokens": np.int64})
    kept = [states for states in hidden if states is not None]
    if kept and len(kept) == len(hidden) and len({states.shape[1] for states in kept}) == 1:
        states = np.concatenate(kept)
        names = [f"hidden_{i}" for i in range(states.shape[1])]
        frame = pd.concat([frame, pd.DataFrame(states, columns=names)], axis=1)
    return frame
