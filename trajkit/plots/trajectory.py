"""The path that a run's effect vectors take, in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from trajkit.plots.style import ALARM, GRID, INK, MUTED, faded, plain, quiet

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from trajkit.trajectory import Space

ROOM = 1.15
"""Half the side of the cube that is shown over half the longest side of the path: labels and markers need the rest."""
_EARLY_TO_LATE = [[0.0, "#c3d3e2"], [0.5, "#5f8db5"], [1.0, "#173a5a"]]


def trajectory_3d(effects: ArrayLike, texts: Sequence[str] | None = None, space: Space | None = None) -> go.Figure:
    """`trajectory.project` of (T, K) effects, nats: a line from start to end, lighter early and darker late.

    texts: (T,) sentences for the hover labels. space: the three axes, where they are fitted already. Axes have one
    scale, so distances on screen are comparable. The last trace is the single marker `current`, for a page to move. The
    basis sees the whole run: a picture, not a feature.

    See also: `project`, `Space`.

    >>> figure = tk.plots.trajectory_3d(path, [step.text for step in trace.steps[:-1]])
    >>> figure.write_html(folder / "path.html", include_plotlyjs=False)  # or figure.show()
    >>> len(figure.data[0].x)  # a point a step
    34
    """
    import plotly.graph_objects as go

    from trajkit.trajectory import project

    points = project(effects) if space is None else space.transform(effects)
    steps = np.arange(1, len(points) + 1)
    said = ["" for _ in points] if texts is None else [plain(text, 60) for text in texts]
    x, y, z = points.T.round(5)
    figure = go.Figure(
        go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="lines+markers",
            name="steps",
            showlegend=False,
            customdata=steps - 1,
            line={"width": 5, "color": steps, "colorscale": _EARLY_TO_LATE},
            marker={"size": 4, "color": steps, "colorscale": _EARLY_TO_LATE},
            hovertext=[f"<b>{step}</b> {text}" for step, text in zip(steps, said, strict=True)],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    start = (0, "start", "circle-open", "#1b8a6b", "top left")
    ends = (start, (-1, "end", "diamond", INK, "bottom right")) if len(points) else ()
    for at, name, symbol, colour, place in ends:
        figure.add_scatter3d(
            x=x[[at]],
            y=y[[at]],
            z=z[[at]],
            mode="markers+text",
            name=name,
            text=[name],
            textposition=place,
            textfont={"size": 13, "color": colour},
            hoverinfo="skip",
            showlegend=False,
            marker={"size": 8 if name == "start" else 6, "symbol": symbol, "color": colour, "line": {"width": 2}},
        )
    figure.add_scatter3d(
        x=x[:1],
        y=y[:1],
        z=z[:1],
        mode="markers",
        name="current",
        hoverinfo="skip",
        showlegend=False,
        marker={"size": 11, "symbol": "circle", "color": faded(ALARM, 0.55), "line": {"width": 2, "color": ALARM}},
    )
    low, high = np.array([points.min(0), points.max(0)]) if len(points) else np.zeros((2, 3))
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-3) * ROOM
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "showbackground": False, "tickfont": {"size": 10, "color": MUTED}}
    scene = {
        f"{letter}axis": {
            **axis,
            "title": {"text": f"PC {i + 1}", "font": {"size": 11}},
            "range": [round(float(middle[i] - half), 5), round(float(middle[i] + half), 5)],
        }
        for i, letter in enumerate("xyz")
    }
    return quiet(
        figure,
        scene={**scene, "aspectmode": "cube", "camera": {"eye": {"x": 1.65, "y": 1.5, "z": 1.0}}},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        height=430,
        uirevision="keep",
    )
