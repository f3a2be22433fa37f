"""How the pictures of studies are drawn: quiet axes, the colours of trajkit, for matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trajkit.plots.style import GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trajkit",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.edgecolor": "#c5ccd4",
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 110,
}


@contextmanager
def quiet_style() -> Iterator[None]:
    """Draw inside the block in this style; what others have set is left as it is."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def panels(n: int, width: float = 4.2, height: float = 3.6, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with `n` panels side by side, that belongs to no window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n, height), layout="constrained")
    axes = figure.subplots(1, n, squeeze=False, **options)
    return figure, list(axes[0])


def svg(figure: Figure) -> str:
    """The picture as an SVG element, the same text for the same picture."""
    out = io.StringIO()
    with quiet_style():
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
