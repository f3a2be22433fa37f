"""What the figures share: colours, axes with their units, and a quiet layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajkit.tables.names import METRIC_WORDS, metric_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK, MUTED, GRID, ACCENT = "#1f2933", "#66717f", "#e6e9ed", "#23527c"
ALARM = "#c2410c"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

OUTCOME_COLOURS = {
    "success": "#1b8a6b",
    "hallucination": "#d1590b",
    "reasoning_failure": "#7a57b0",
    "failure": "#8f6a2a",
    "unknown": "#8a929c",
}
"""Told apart also by the common colour-vision deficiencies; red and blue are kept for effects."""

_UNITS = {
    "mean_step": "nats",
    "path_length": "nats",
    "net_displacement": "nats",
    "tortuosity": "path / net",
    "concentration": "HHI",
    "concentration_mean": "HHI",
    "concentration_slope": "HHI a step",
    "concentration_sd": "HHI",
    "logprob_mean": "nats",
    "entropy_mean": "nats",
    "logprob_low": "nats",
    "entropy_high": "nats",
    "logprob": "nats",
    "entropy": "nats",
}

METRIC_NAMES = {
    name: f"{metric_name(name)} ({_UNITS[name]})" if name in _UNITS else metric_name(name)
    for name in dict.fromkeys([*METRIC_WORDS, *_UNITS])
}
"""What people call a metric, with its unit, as axes have it."""


def axis(**changes: Any) -> dict[str, Any]:
    """A cartesian axis: thin grid, no zero line."""
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#c5ccd4",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#c5ccd4",
        "automargin": True,
        "title": {"font": {"size": 12, "color": MUTED}},
        **changes,
    }


def quiet(figure: go.Figure, **layout: Any) -> go.Figure:
    """The common layout on `figure`, which is returned; its template is dropped, so that it is small as JSON."""
    figure.update_layout(
        template=None,
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": "#c5ccd4", "font": {"family": FONT, "size": 12, "color": INK}},
    )
    return figure.update_layout(**layout)


def faded(colour: str, opacity: float) -> str:
    """`#rrggbb` as rgba with that opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def label(text: str) -> str:
    """`text` as a name in a figure: with no character that plotly reads as markup, such as a link's."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(text: str, width: int = 80, lines: int = 4) -> str:
    """`text` for a hover label: as `label`, wrapped, and cut after `lines`."""
    import textwrap

    wrapped = textwrap.wrap(" ".join(text.split()), width)
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 1] + "…"]
    return "<br>".join(map(label, wrapped))
