"""What was known of one run after each of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.detection.alarm import alarm_rows
from trajkit.errors import InputError
from trajkit.plots.style import ACCENT, ALARM, METRIC_NAMES, MUTED, axis, quiet

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = ("path_length", "tortuosity", "concentration", "logprob", "entropy", "risk")


def metrics_by_step(run: pd.DataFrame, threshold: float | None = None) -> go.Figure:
    """Path length, tortuosity, concentration and risk of one run against the step, one below the other, or the mean
    log-probability and entropy of each step's tokens.

    run: its rows of `trajkit.features`, with a column `risk` where a predictor was there; a metric whose column is
    missing is left out. threshold: the monitor's, drawn over the risk when it is finite; the step that raises the
    alarm is marked. Gaps are steps where a metric is not defined, such as tortuosity at step 1.

    See also: `features`, `judging.monitor_runs`.

    >>> run = frame[frame["transcript_id"] == frame["transcript_id"].iloc[0]]
    >>> run = run.assign(risk=detectors.predictor.risks(run))
    >>> figure = tk.plots.metrics_by_step(run, threshold=monitor.threshold)
    >>> figure.layout.yaxis.title.text, len(figure.data[0].y)
    ('path length', 93)
    """
    from plotly.subplots import make_subplots

    if not hasattr(run, "columns"):
        raise InputError("metrics_by_step takes a run's rows of tk.features(traces); a Trace has trace.plot().")
    shown = [name for name in METRICS if name in run]
    figure = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, vertical_spacing=0.045)
    steps = run["step"].to_numpy(int)
    for row, name in enumerate(shown, start=1):
        values = run[name].to_numpy(float)
        values = np.where(np.isfinite(values), values, np.nan).round(5)
        figure.add_scatter(
            x=steps,
            y=values,
            mode="lines+markers",
            name=METRIC_NAMES[name],
            showlegend=False,
            row=row,
            col=1,
            line={"color": ACCENT, "width": 2},
            marker={"size": 5},
            customdata=steps - 1,
            hovertemplate=f"step %{{x}}<br>{METRIC_NAMES[name]} %{{y:.3g}}<extra></extra>",
        )
        label = METRIC_NAMES[name].split(" (")[0].replace(" of failure", "")
        bounds = {"range": [-0.04, 1.04]} if name in ("concentration", "risk") else {"rangemode": "tozero"}
        figure.update_yaxes(axis(title={"text": label, "font": {"size": 12}}, nticks=4, **bounds), row=row, col=1)
    if "risk" in shown and threshold is not None and np.isfinite(threshold):
        _add_threshold(figure, steps, run["risk"].to_numpy(float), threshold, len(shown))
    figure.update_xaxes(axis(range=[0.5, max(len(steps), 2) + 0.5]))
    figure.update_xaxes(title={"text": "thinking step", "font": {"size": 12, "color": MUTED}}, row=len(shown), col=1)
    return quiet(figure, height=115 * len(shown) + 40, margin={"l": 64, "r": 12, "t": 10, "b": 44}, hovermode="closest")


def _add_threshold(figure: go.Figure, steps: np.ndarray, risk: np.ndarray, threshold: float, row: int) -> None:
    figure.add_scatter(
        x=[0.5, max(len(steps), 2) + 0.5],
        y=[threshold, threshold],
        mode="lines",
        name="alarm threshold",
        row=row,
        col=1,
        line={"color": ALARM, "width": 1.5, "dash": "dash"},
        showlegend=False,
        hovertemplate=f"alarm above {threshold:.3f}<extra></extra>",
    )
    at = alarm_rows(risk, threshold)
    if at[0] >= 0:
        figure.add_scatter(
            x=steps[at],
            y=risk[at].round(5),
            mode="markers",
            name="alarm",
            showlegend=False,
            row=row,
            col=1,
            marker={"size": 12, "symbol": "circle-open", "color": ALARM, "line": {"width": 2.5}},
            hovertemplate="alarm at step %{x}<extra></extra>",
            customdata=steps[at] - 1,
        )
