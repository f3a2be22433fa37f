"""A metric by how runs ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.errors import InputError
from trajkit.plots.style import METRIC_NAMES, MUTED, OUTCOME_COLOURS, axis, faded, quiet
from trajkit.tables.names import metric_name, outcome_name

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

POINTS = 150
"""Runs drawn as points, per outcome; the violin is of all of them."""

_LOG = ("tortuosity",)


def outcome_distributions(last: pd.DataFrame, metric: str, seed: int = 0) -> go.Figure:
    """Violins of `metric` by outcome, with the median, quartiles and up to POINTS runs as points.

    last: one row a run, columns `outcome` and `metric`; values that are not finite are left out. Tortuosity, which has
    no upper bound, is drawn on a logarithmic axis.

    See also: `compare_runs`.

    >>> figure = tk.plots.outcome_distributions(runs.last, "entropy_mean")
    >>> [violin.name for violin in figure.data if violin.type == "violin"]
    ['success', 'hallucination', 'reasoning failure', 'failure']
    """
    import plotly.graph_objects as go

    if not hasattr(last, "columns"):
        raise InputError("outcome_distributions takes a table with a row a run; traces have traces.plot(metric).")
    if metric not in last:
        raise InputError(f"could not find column {metric!r}; there are: {', '.join(map(str, last.columns))}.")
    figure = go.Figure()
    rng = np.random.default_rng(seed)
    values, outcomes = last[metric].to_numpy(float), last["outcome"].to_numpy(str)
    finite = np.isfinite(values)
    present = [name for name in OUTCOME_COLOURS if (finite & (outcomes == name)).any()]
    shown = {name: values[finite & (outcomes == name)] for name in present}
    for at, (name, y) in enumerate(shown.items()):
        colour = OUTCOME_COLOURS[name]
        y = (np.log10(y) if metric in _LOG else y).astype(np.float32)
        if len(y) >= 5 and np.ptp(y) > 0:
            figure.add_violin(
                x=np.full(len(y), at, np.uint8),
                y=y,
                name=outcome_name(name),
                points=False,
                width=0.85,
                line={"color": colour, "width": 1.5},
                fillcolor=faded(colour, 0.16),
                hoverinfo="skip",
                spanmode="hard",
                box={"visible": True, "width": 0.14},
                showlegend=False,
            )
        dots = np.sort(rng.choice(y, min(len(y), POINTS), replace=False))
        figure.add_scatter(
            x=(at + rng.uniform(-0.16, 0.16, len(dots))).round(3),
            y=dots,
            mode="markers",
            showlegend=False,
            marker={"size": 4, "color": faded(colour, 0.45)},
            name=outcome_name(name),
            customdata=(10**dots if metric in _LOG else dots).round(4),
            hovertemplate="%{customdata:.3g}<extra></extra>",
        )
    ticks = {
        "tickvals": list(range(len(shown))),
        "ticktext": [f"{outcome_name(name).replace(' ', '<br>')}<br>n = {len(y):,}" for name, y in shown.items()],
    }
    figure.update_xaxes(
        axis(
            **ticks,
            tickangle=0,
            tickfont={"size": 10.5},
            range=[-0.6, max(len(shown), 1) - 0.4],
            showgrid=False,
            ticks="",
        )
    )
    every = np.concatenate(list(shown.values())) if shown else np.zeros(0)
    figure.update_yaxes(axis(nticks=6, **(_log_ticks(every) if metric in _LOG and len(every) else {})))
    title = {"text": METRIC_NAMES.get(metric, metric_name(metric)), "font": {"size": 12, "color": MUTED}}
    figure.update_yaxes(title=title)
    return quiet(figure, height=320, margin={"l": 58, "r": 8, "t": 12, "b": 62}, violinmode="overlay")


def _log_ticks(values: np.ndarray) -> dict[str, list[float] | list[str]]:
    """Ticks at 1, 2, 5 · 10^k within the values, at most eight of them, on an axis of log10."""
    decades = range(int(np.floor(np.log10(values.min()))), int(np.ceil(np.log10(values.max()))) + 1)
    marks = [m * 10.0**k for k in decades for m in (1, 2, 5)]
    marks = [mark for mark in marks if values.min() * 0.99 <= mark <= values.max()] or [float(values.min())]
    marks = marks[:: int(np.ceil(len(marks) / 8))]
    return {"tickvals": [float(np.log10(mark)) for mark in marks], "ticktext": [f"{mark:g}" for mark in marks]}
