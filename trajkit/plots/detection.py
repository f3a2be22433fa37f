"""How well failure is told early, and what the monitor's alarms cost."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np

from trajkit.plots.style import ACCENT, ALARM, MUTED, axis, faded, label, quiet
from trajkit.tables.names import feature_sets
from trajkit.tables.words import promise

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_BASELINES = {
    "length": "#b07d2b",
    "task": "#5b8c5a",
    "uncertainty": "#8e5ea2",
    "length+task": "#c0708a",
    "more tokens": "#b07d2b",
    "entropy so far": "#8e5ea2",
    "tortuosity alone": "#3f8f9b",
    "random": "#9aa2ab",
}
_OTHERS = ("#4f7fc0", "#82b366", "#b85450", "#9673a6", "#d79b00", "#4d8f8f")


def auc_by_step(
    table: pd.DataFrame,
    main: str | None = None,
    at: Literal["step", "fraction"] = "step",
    shown: Collection[str] | None = None,
) -> go.Figure:
    """AUC of failure with its 95 % band, a line per method, over the number of runs it was computed on.

    table: of `judging.ranking.auc_by_step`, or of `auc_by_fraction` with at="fraction" (an oracle); an AUC without an
    interval is of too few groups to be read, and not drawn. main: the method drawn boldly. shown: methods drawn at
    first, by default `main` and the baselines; others are in the legend.

    See also: `judging.auc_by_step`, `judging.auc_by_fraction`.

    >>> risks = {"all": detectors.predictor.risks(frame), "length": frame["n_tokens"]}
    >>> table = tk.judging.auc_by_step(frame, risks, steps=(4, 8, 16), n_boot=200)
    >>> figure = tk.plots.auc_by_step(table, main="all")
    >>> sorted({line.name for line in figure.data if line.name})
    ['all', 'failing', 'length', 'runs']
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.8, 0.2], vertical_spacing=0.05)
    counts = table.drop_duplicates(at).sort_values(at)
    table = table[np.isfinite(table[["auc", "low", "high"]].to_numpy(float)).all(axis=1)]
    methods = [str(name) for name in table["method"].unique()]
    order = {name: i for i, name in enumerate((main, *_BASELINES))}
    methods.sort(key=lambda name: order.get(name, len(order)))
    visible = {main, *_BASELINES} if shown is None else set(shown)
    spare = 0
    for method in methods:
        colour = ACCENT if method == main else _BASELINES.get(method, _OTHERS[spare % len(_OTHERS)])
        spare += method != main and method not in _BASELINES
        _add_method(figure, table[table["method"] == method], method, colour, at, method == main, method in visible)
    span = [float(counts[at].min()), float(counts[at].max())] if len(counts) else [0.0, 1.0]
    figure.add_scatter(
        x=span,
        y=[0.5, 0.5],
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=1,
    )
    if not methods:
        figure.add_annotation(
            text="too few groups of runs for an interval",
            x=0.5,
            y=0.75,
            xref="paper",
            yref="paper",
            showarrow=False,
            font={"color": MUTED},
        )
    for name, column, colour in (("runs", "n_runs", "#c9d3dd"), ("failing", "n_failures", faded(ALARM, 0.55))):
        figure.add_bar(
            x=counts[at],
            y=counts[column],
            name=name,
            marker={"color": colour},
            showlegend=False,
            row=2,
            col=1,
            hovertemplate=f"%{{y}} {name}<extra></extra>",
        )
    title_y = {"text": "AUC", "font": {"size": 12, "color": MUTED}}
    figure.update_yaxes(axis(title=title_y, range=auc_range(table)), row=1, col=1)
    figure.update_yaxes(axis(title={"text": "runs", "font": {"size": 12, "color": MUTED}}, nticks=3), row=2, col=1)
    title = "thinking step" if at == "step" else "fraction of the run's final length (oracle)"
    figure.update_xaxes(axis())
    figure.update_xaxes(title={"text": title, "font": {"size": 12, "color": MUTED}}, row=2, col=1)
    legend = {"orientation": "h", "y": -0.17, "yanchor": "top", "x": 0, "font": {"size": 11}}
    return quiet(
        figure,
        height=520,
        barmode="overlay",
        legend=legend,
        hovermode="closest",
        margin={"l": 56, "r": 12, "t": 12, "b": 60},
    )


def auc_range(*tables: pd.DataFrame) -> tuple[float, float]:
    """Ends of an axis that holds every AUC of the tables, with its interval where it has one, and 0.4 to 1."""
    values = np.concatenate([[0.4], *(table[name].to_numpy(float) for table in tables for name in ("auc", "low"))])
    return max(-0.02, float(np.nanmin(values)) - 0.03), 1.02


def _add_method(
    figure: go.Figure, rows: pd.DataFrame, method: str, colour: str, at: str, bold: bool, visible: bool
) -> None:
    rows = rows.sort_values(at)
    x, low, high = (rows[name].to_numpy(float).round(4) for name in (at, "low", "high"))
    show = True if visible else "legendonly"
    name = label(feature_sets(method))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=faded(colour, 0.2 if bold else 0.07),
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=method,
        showlegend=False,
        visible=show,
        row=1,
        col=1,
        mode="lines",
        name=name,
    )
    figure.add_scatter(
        x=x,
        y=rows["auc"].to_numpy(float).round(4),
        mode="lines+markers",
        name=name,
        legendgroup=method,
        visible=show,
        row=1,
        col=1,
        marker={"size": 6 if bold else 4},
        line={"color": colour, "width": 3 if bold else 1.5, "dash": "dot" if method == "random" else "solid"},
        customdata=np.stack([low, high, rows["n_runs"]], axis=1),
        hovertext=[name] * len(x),
        hovertemplate=f"%{{hovertext}} · {at} %{{x}}<br>AUC %{{y:.3f}} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]"
        "<br>%{customdata[2]} runs<extra></extra>",
    )


def false_alarms(table: pd.DataFrame, by_length: pd.DataFrame | None = None) -> go.Figure:
    """Realised false-alarm rate of the monitor on successful runs, 95 % intervals, beside the promised alpha.

    table: of `judging.alarms.false_alarms`. by_length: of `false_alarms_by_length`, further rows below.

    See also: `judging.false_alarms`, `judging.false_alarms_by_length`.

    >>> figure = tk.plots.false_alarms(tk.judging.false_alarms(watched, alpha=0.1, n_boot=200))
    >>> figure.layout.xaxis.title.text
    'share of successful runs alarmed'
    """
    import plotly.graph_objects as go

    rows: list[tuple[str, float, float, float, str]] = []
    for row in table.to_dict("records"):
        rows.append((f"{label(str(row['unit']))} (n = {row['n']:,})", row["rate"], row["low"], row["high"], ACCENT))
    if by_length is not None:
        for row in by_length.to_dict("records"):
            first, last = row["from_step"], row["to_step"]
            span = f"{first}–{last}" if first != last else f"{first}"
            rows.append((f"{span} steps (n = {row['n']:,})", row["rate"], row["low"], row["high"], "#6f8aa5"))
    figure = go.Figure()
    if rows:
        names, rates, lows, highs, colours = (list(column) for column in zip(*rows, strict=True))
        figure.add_scatter(
            x=np.round(rates, 4),
            y=names,
            mode="markers",
            marker={"size": 10, "color": colours},
            showlegend=False,
            error_x={
                "type": "data",
                "array": np.nan_to_num(np.subtract(highs, rates)).round(4),
                "symmetric": False,
                "arrayminus": np.nan_to_num(np.subtract(rates, lows)).round(4),
                "color": MUTED,
                "thickness": 1.5,
                "width": 5,
            },
            customdata=np.stack([lows, highs], axis=1),
            hovertemplate="%{y}<br>%{x:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra></extra>",
        )
    alpha = float(table["alpha"].iloc[0]) if len(table) else 0.0
    figure.add_vline(x=alpha, line={"color": ALARM, "width": 1.5, "dash": "dash"})
    figure.add_annotation(
        x=alpha,
        y=1,
        yref="paper",
        yanchor="bottom",
        text=f"promised: {promise(alpha)} at most",
        showarrow=False,
        font={"color": ALARM, "size": 12},
    )
    top = max([alpha * 2, *(value for _, rate, _, high, _ in rows for value in (rate, high) if np.isfinite(value))])
    figure.update_xaxes(
        axis(
            title={"text": "share of successful runs alarmed", "font": {"size": 12, "color": MUTED}},
            range=[-0.005, min(1.0, top * 1.1)],
            tickformat=".0%",
        )
    )
    figure.update_yaxes(axis(autorange="reversed", showgrid=False, ticks=""))
    return quiet(figure, height=110 + 38 * max(len(rows), 1), margin={"l": 120, "r": 16, "t": 34, "b": 50})
