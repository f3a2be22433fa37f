"""Figures of saved runs: of one, step by step or as a path; of many, by how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from trajkit.errors import InputError
from trajkit.plots.outcomes import outcome_distributions
from trajkit.plots.steps import metrics_by_step
from trajkit.plots.trajectory import trajectory_3d

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace

RunKind = Literal["steps", "trajectory"]


def plot_run(trace: Trace, kind: RunKind = "steps") -> go.Figure:
    """One run.

    kind: `steps`, what was known after each thinking step (`metrics_by_step`), with the risk where a monitor watched
    it, and of a run without effects the log-probability and entropy of each step; or `trajectory`, the path of its
    effects (`trajectory_3d`).

    Raises InputError for another kind, a run that has no thinking step or of which nothing but its text is known, and a
    trajectory of one without effects.

    See also: `plots.plot_runs`, `metrics_by_step`, `trajectory_3d`.

    >>> import trajkit as tk
    >>> run = tk.read_traces("data/demo/traces")[0]
    >>> [axis.title.text for axis in tk.plots.plot_run(run).select_yaxes()]
    ['path length', 'tortuosity', 'concentration']
    """
    if kind not in get_args(RunKind):
        raise InputError(f"The 'kind' parameter of plot must be 'steps' or 'trajectory'. Got {kind!r} instead.")
    if not trace.thinking.any():
        raise InputError(f"run {trace.transcript_id!r} has no thinking step to plot.")
    if kind == "steps":
        watched, frame = trace.watched, _by_step(trace)
        if len(frame.columns) == 1:
            raise InputError(
                f"run {trace.transcript_id!r} has no effects, log-probabilities or risk: nothing but its text is known."
            )
        return metrics_by_step(frame, None if watched is None else watched.threshold)
    if not _has_effects(trace):
        raise InputError(
            f"run {trace.transcript_id!r} has no effects, so there is no trajectory; `trajkit attribute` makes them. "
            "plot() shows what it has."
        )
    said = [step.text for step in trace.steps if step.kind == "thinking"]
    return trajectory_3d(trace.effects[trace.thinking], said)


def plot_runs(traces: Traces, metric: str = "") -> go.Figure:
    """A metric of many runs by how they ended (`outcome_distributions`).

    metric: any numeric column of `run_table(traces).table`; by default the path length, or where no run has effects
    the thinking steps.

    Raises InputError on a metric that is not there, naming those that are, and one that no run has.

    See also: `plots.plot_run`, `outcome_distributions`.

    >>> figure = tk.plots.plot_runs(traces[:200], "path_length")  # or traces[:200].plot()
    >>> [violin.name for violin in figure.data if violin.type == "violin"]
    ['success', 'hallucination', 'reasoning failure']
    """
    from trajkit.runs.table import run_table

    table = run_table(traces).table
    known = [str(name) for name in table.select_dtypes("number") if table[name].notna().any()]
    chosen = metric or next((name for name in ("path_length", "n_steps") if name in known), "")
    if chosen not in known:
        there = f"known are {', '.join(sorted(known))}" if known else "these have no metric"
        why = " Effects are made by `trajkit attribute`." if table["effects_kind"].isna().all() else ""
        raise InputError(f"no run has a value of {chosen or metric!r}; {there}.{why}")
    return outcome_distributions(table, chosen)


def _by_step(trace: Trace) -> pd.DataFrame:
    """A row a thinking step."""
    import pandas as pd

    steps = [step for step in trace.steps if step.kind == "thinking"]
    if _has_effects(trace):
        from trajkit.runs.features import features

        frame = features([trace])
    else:
        numbers = {name: np.array([getattr(step, name) for step in steps], float) for name in ("logprob", "entropy")}
        frame = pd.DataFrame({"step": np.arange(1, len(steps) + 1)} | numbers).dropna(axis=1, how="all")
    risks = np.array([step.risk for step in steps], float)
    return frame if np.isnan(risks).all() else frame.assign(risk=risks)


def _has_effects(trace: Trace) -> bool:
    return trace.effects_kind is not None and trace.effects.size > 0
